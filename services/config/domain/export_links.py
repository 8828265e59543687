"""Whether the link of a reminder still opens an export: it lives as long as its purge waits to begin."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final
from uuid import UUID

from contracts.classes import DataClass
from contracts.purges import Phase, PurgeState
from contracts.tenants import ClassState
from services.config.domain.access import Tenant

MOST_USES: Final = 20
"""So often a purge's link gives the archive: enough for every hand, too little to burden us by."""


class LinkState(StrEnum):
    """Why a link opens what it does, or does not."""

    OPEN = "open"
    NOT_YET = "not-yet"
    """The purge, or its tenant, was not heard of here yet."""
    CANCELLED = "cancelled"
    ERASED = "erased"
    USED_UP = "used-up"


_WAITS: Final = frozenset({Phase.PLANNED, Phase.REQUESTED})


def state_of_link(
    purge_id: UUID,
    *,
    tenant: Tenant | None,
    said: PurgeState | None,
    erased: Collection[DataClass],
    uses: int,
) -> LinkState:
    """Say what a purge's link is worth now, by what purger and the guard say of the tenant.

    Whether the app is installed is nothing to it: whoever comes back has the purge
    cancelled, and who stays away has no other door.
    """
    if DataClass.CONTENT in erased or (tenant and tenant.content is not ClassState.LIVE):
        return LinkState.ERASED
    if tenant is None or said is None:
        return LinkState.NOT_YET
    plan = next((plan for plan in said.plans if plan.purge_id == purge_id), None)
    if plan is None or plan.phase is Phase.WITHDRAWN or DataClass.CONTENT not in plan.takes:
        return LinkState.CANCELLED
    if plan.phase not in _WAITS:
        return LinkState.ERASED
    return LinkState.OPEN if uses < MOST_USES else LinkState.USED_UP
