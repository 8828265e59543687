"""What a service's rows should be, what they are, and what is done about a difference."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from contracts.tenants import ClassState, Version

ROUNDS_APART = timedelta(hours=1)
"""A difference that two rounds so far apart have found is none that was only on its way."""


class DifferenceKind(StrEnum):
    """How what an owner holds differs from what it should hold."""

    ERASED_BUT_HELD = "erased-but-held"
    NOT_HELD = "not-held"
    """The owner does not know a tenant."""
    OTHER_VERSION = "other-version"
    """The owner knows another state of the tenant than we do; one of the two lags."""
    UNKNOWN = "unknown"
    """We know neither the tenant nor that it was erased."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What we know of one class of a tenant: its state, and what the ledger says of its erasure.

    ``under_way`` is whether the erasure was ordered and is not answered yet.
    """

    version: Version | None = None
    state: ClassState | None = None
    erased: bool = False
    under_way: bool = False


def difference(owner: str, held: Version | None, expected: Expected) -> DifferenceKind | None:
    """Say how what an owner holds of a tenant differs; None where that is as it should be.

    ``held`` is the version at which it knows the tenant, None where it holds nothing. The ledger
    counts before the state. What is on its way out may be there or not.
    """
    if held is None:
        # The installer holds nothing of a tenant that is a licence alone.
        missing = expected.state is ClassState.LIVE and owner != "installer"
        return DifferenceKind.NOT_HELD if missing and not expected.erased else None
    if expected.erased:
        return None if expected.under_way else DifferenceKind.ERASED_BUT_HELD
    if expected.state is ClassState.PURGING:
        return None
    if expected.state is not ClassState.LIVE:
        return DifferenceKind.UNKNOWN
    return None if held == expected.version else DifferenceKind.OTHER_VERSION


@dataclass(frozen=True, slots=True)
class Seen:
    """A difference that a round has found: since when it stands, and whether it was to be mended."""

    kind: DifferenceKind
    tenant_id: UUID
    first_seen_at: datetime
    mended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Mend:
    """The difference is no passing one: what mends it is asked for."""


@dataclass(frozen=True, slots=True)
class Unexplained:
    """What should have mended it has not: a person must look."""


def judge_difference(seen: Seen, wall: datetime) -> Mend | Unexplained | None:
    """Say what to do about a difference that was just seen; None while it may pass by itself."""
    if seen.mended_at is not None:
        return Unexplained() if wall - seen.mended_at >= ROUNDS_APART else None
    return Mend() if wall - seen.first_seen_at >= ROUNDS_APART else None
