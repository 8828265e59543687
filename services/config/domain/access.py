"""Who is served: whose content may be read and written here, and to whom it may move."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus


@dataclass(frozen=True, slots=True)
class Tenant:
    """What config remembers of a tenant."""

    tenant_id: UUID
    status: TenantStatus
    platform: Platform
    content: ClassState

    @property
    def has_moved(self) -> bool:
        """Whether the app goes on in the customer's product, and what is here is a remainder."""
        return self.status is TenantStatus.INSTALLED and self.platform is Platform.FORGE


class Access(StrEnum):
    """Whether a tenant's content may be read and written here."""

    OPEN = "open"
    UNKNOWN = "unknown"
    """The installer vouches for the tenant, but its state has not come yet."""
    LEFT = "left"
    GOING = "going"
    """Its content is being erased or is erased, and never comes back."""
    READABLE = "readable"
    """The app has moved to Forge: what is still here may be read and exported until it is erased."""
    KEPT_ELSEWHERE = "kept-elsewhere"
    """Content of Data Center apps stays in the customer's product."""


def access_to_content(tenant: Tenant | None, erased: frozenset[DataClass]) -> Access:
    """Say whether a tenant's content may be touched; ``erased`` is what the guard says of it.

    The guard comes first: it may know of an erasure before the tenant's state does, and still
    knows when that is forgotten.
    """
    if DataClass.CONTENT in erased:
        return Access.GOING
    if tenant is None:
        return Access.UNKNOWN
    if tenant.content is not ClassState.LIVE:
        return Access.GOING
    if tenant.status is not TenantStatus.INSTALLED:
        return Access.LEFT
    return _BY_PLATFORM[tenant.platform]


_BY_PLATFORM: Final = {
    Platform.CONNECT: Access.OPEN,
    Platform.FORGE: Access.READABLE,
    Platform.DATACENTER: Access.KEPT_ELSEWHERE,
}


PATIENCE: Final = timedelta(hours=72)
"""How long, in business time, a move may delay the erasure of what is to move."""


class Move(StrEnum):
    """What becomes of content whose tenant goes on as another."""

    NOW = "now"
    LATER = "later"
    """The other tenant was not heard of yet."""
    NEVER = "never"


def decide_move(target: Tenant | None, erased: frozenset[DataClass], waited: timedelta) -> Move:
    """Say whether content may move to a tenant, of whom the guard says what is ``erased``.

    One that has left since keeps what it has until its own end, so it may get
    more of it; content of who moved to Forge is no longer ours to keep.
    """
    if DataClass.CONTENT in erased:
        return Move.NEVER
    if target is None:
        return Move.LATER if waited < PATIENCE else Move.NEVER
    is_kept_here = target.platform is Platform.CONNECT and target.content is ClassState.LIVE
    return Move.NOW if is_kept_here else Move.NEVER
