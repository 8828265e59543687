"""What starts the time that is left for an erasure, and which of a tenant's clocks counts."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contracts.classes import DataClass
from contracts.purges import (
    ClockKind,
    Scope,
)
from contracts.tenants import Platform, SubscriptionStatus, TenantState
from services.purger.domain.dates import Dates, Retention, dates_of

WISH_FULFILLED_WITHIN = timedelta(days=21)
"""From the asking; a month is what the law leaves (GDPR Art. 12(3))."""

COOLING_OFF = timedelta(days=7)
"""So long nothing happens after an erasure was asked for, so that it can be withdrawn."""

FORGE_CONTENT_KEPT = timedelta(days=60)
"""So long after a tenant's move to Forge its old content can still be exported."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What began the time that is left for an erasure, and when."""

    kind: str
    started_at: datetime


def open_clocks(tenant: TenantState) -> list[Clock]:
    """List the clocks that run for a tenant, the earliest first.

    None runs before the tenant was created: what was then, was another tenant's.
    One for which another tenant goes on has nothing left to wait for, and of its
    clocks the earliest is left.
    """
    found = []
    if tenant.departure is not None:
        found.append((ClockKind.UNINSTALLED, tenant.departure.at))
    if tenant.subscription.ended_at is not None:
        found.append((ClockKind.SUBSCRIPTION_ENDED, tenant.subscription.ended_at))
    clocks = [Clock(kind, max(at, tenant.created_at)) for kind, at in found]
    clocks.sort(key=lambda clock: clock.started_at)
    if tenant.merged_into is not None and tenant.departure is not None:
        return [Clock(ClockKind.MERGED, clocks[0].started_at)]
    return clocks


def service_data_clock(tenant: TenantState) -> Clock | None:
    """What the vendor's service holds goes with the first clock that opened."""
    return next(iter(open_clocks(tenant)), None)


def people_clock(tenant: TenantState) -> Clock | None:
    """People stay while a licence of theirs runs, and go with whichever came later.

    That is the first clock that opened or the end of the last licence (privacy
    policy: contacts are removed six months after the subscription's end). Of a
    tenant that goes on as another they move there at once.
    """
    clocks = open_clocks(tenant)
    if not clocks or clocks[0].kind == ClockKind.MERGED:
        return next(iter(clocks), None)
    if tenant.subscription.status is SubscriptionStatus.ACTIVE:
        return None
    ended = [clock for clock in clocks if clock.kind == ClockKind.SUBSCRIPTION_ENDED]
    return ended[0] if ended else clocks[0]


def forge_content_clock(tenant: TenantState) -> Clock | None:
    """What a tenant kept with us before it moved to Forge goes, though it stays (promise P11)."""
    if tenant.platform is not Platform.FORGE or tenant.platform_since is None:
        return None
    return Clock(ClockKind.FORGE_CONTENT, max(tenant.platform_since, tenant.created_at))


def wish_clock(tenant: TenantState, wished_at: datetime | None) -> Clock | None:
    """Who asked for its erasure is erased, also while it is installed and pays."""
    if wished_at is None:
        return None
    return Clock(ClockKind.ERASURE_ASKED, max(wished_at, tenant.created_at))


def clock_of(
    data_class: DataClass,
    tenant: TenantState,
    retention: Retention,
    *,
    wished_at: datetime | None = None,
) -> Clock | None:
    """Find the clock by which a class of a tenant's data goes: the one that wants it gone first.

    Which began first does not matter, as some leave less time than others.
    ``wished_at`` is when the first wish for its erasure that stands was made.
    """
    found = (
        people_clock(tenant) if data_class in Scope.PEOPLE.classes else service_data_clock(tenant)
    )
    if found is not None and found.kind == ClockKind.MERGED:
        return found
    forge = forge_content_clock(tenant) if data_class is DataClass.CONTENT else None
    return min(
        filter(None, (found, forge, wish_clock(tenant, wished_at))),
        key=lambda clock: dates_by(clock, retention).erase_by,
        default=None,
    )


def dates_by(clock: Clock, retention: Retention) -> Dates:
    """Say what a clock means; none leaves more than the six months."""
    dates = dates_of(clock.started_at, retention)
    match clock.kind:
        case ClockKind.MERGED:
            return replace(dates, start_at=min(clock.started_at, dates.start_at))
        case ClockKind.FORGE_CONTENT:
            start_at = clock.started_at + FORGE_CONTENT_KEPT
            return _sooner(dates, start_at, start_at + retention.run_margin, retention)
        case ClockKind.ERASURE_ASKED:
            start_at = clock.started_at + COOLING_OFF
            erase_by = clock.started_at + WISH_FULFILLED_WITHIN
            return _sooner(dates, start_at, erase_by, retention)
        case _:
            return dates


def _sooner(dates: Dates, start_at: datetime, erase_by: datetime, retention: Retention) -> Dates:
    erase_by = min(erase_by, dates.erase_by)
    return Dates(
        min(start_at, erase_by), erase_by, min(erase_by + retention.residue, dates.deadline)
    )
