"""The state of a tenant, as the installer tells it to everyone."""

from enum import StrEnum
from functools import total_ordering
from typing import Annotated, Self

from pydantic import Field, model_validator

from contracts.classes import TENANT_CLASSES, FieldClass
from contracts.messages import Count, Instant, Message, Pseudonym, TenantClass


@total_ordering
class Version(Message):
    """Which state of a key is newer: by epoch, then by number within it.

    ``epoch`` is the wall time at which the owner's epoch was opened, in
    milliseconds since 1970, so what is said after a restore always wins.
    """

    epoch: Count
    n: Count

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.epoch, self.n) < (other.epoch, other.n)


class TenantStatus(StrEnum):
    """Where a tenant stands; it follows the state of its class installation."""

    INSTALLED = "installed"
    UNINSTALLED = "uninstalled"
    PURGING = "purging"
    PURGED = "purged"


class ClassState(StrEnum):
    """Where one class of a tenant's data stands; after purging comes erased, nothing else."""

    LIVE = "live"
    PURGING = "purging"
    ERASED = "erased"


class Platform(StrEnum):
    """On what the app runs, which decides where its data is."""

    CONNECT = "connect"
    FORGE = "forge"
    DATACENTER = "datacenter"


class SubscriptionStatus(StrEnum):
    """What the licence says; none for a free app or a licence that was never matched."""

    ACTIVE = "active"
    ENDED = "ended"
    NONE = "none"


class Subscription(Message):
    """Whether the customer still pays, and since when no longer."""

    status: Annotated[SubscriptionStatus, FieldClass.PROCESS]
    ended_at: Instant | None = None

    @model_validator(mode="after")
    def _an_end_has_a_time(self) -> Self:
        if (self.status is SubscriptionStatus.ENDED) != (self.ended_at is not None):
            raise ValueError("ended_at is given exactly when the status is ended")
        return self


class DepartureKind(StrEnum):
    """How a tenant left."""

    UNINSTALLED = "uninstalled"
    ACCESS_LOST = "access-lost"
    SUPERSEDED = "superseded"


class Departure(Message):
    """When and how a tenant left; it has left only when no alias of it is live."""

    at: Instant
    how: Annotated[DepartureKind, FieldClass.PROCESS]


AddonKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$"), FieldClass.APP]
"""The vendor's own app key, such as ``com.example.app``."""

ProductType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$"), FieldClass.APP]
"""The product that the app extends, ``jira`` or ``confluence``."""

LicenceNumber = Annotated[str, Field(pattern=r"^[A-Za-z0-9#-]{1,64}$"), FieldClass.LICENCE]
"""An entitlement number, ``SEN-12345678`` or ``E-AAA-BBB-CCC-DDD``; no dot, so never a host."""


class TenantState(Message):
    """Everything that others may know of a tenant; the type says to people what changed.

    ``purge_id`` names the purge that passed the point of no return. A tenant
    that is purging carries no licence numbers any more. ``platform_since`` is
    when it moved there, absent where it began there. ``merged_into`` names the
    tenant that goes on for this one, which then has nothing left to wait for.
    """

    tenant_id: Pseudonym
    version: Version
    status: Annotated[TenantStatus, FieldClass.PROCESS]
    classes: Annotated[
        dict[TenantClass, ClassState],
        Field(min_length=len(TENANT_CLASSES)),
        FieldClass.PROCESS,
    ]
    platform: Annotated[Platform, FieldClass.PROCESS]
    addon_key: AddonKey
    product_type: ProductType
    created_at: Instant
    departure: Departure | None = None
    subscription: Subscription
    licence_numbers: tuple[LicenceNumber, ...]
    purge_id: Pseudonym | None = None
    platform_since: Instant | None = None
    merged_into: Pseudonym | None = None
