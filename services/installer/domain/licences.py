"""The rules of licences: whose one is, what they say of a subscription, when one stands alone."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.deadlines import add_months, deadline
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from services.installer.domain import tenants

CLOUD_WAITS: Final = timedelta(days=14)
"""How long a cloud licence may wait for its installation to be heard of."""

PURGED_KEPT: Final = timedelta(days=400)
"""How long it is known which licences were purged."""

ACTIVE: Final = "active"
SELF_HOSTED: Final = frozenset({"data center", "server"})
UNKNOWN: Final = "unknown"

# Where a day begins first of all: at noon in UTC it has begun at UTC-12, so the date that the
# six months are counted from is the very day that the report names.
_DAY_BEGINS: Final = time(12, tzinfo=UTC)
_SEN: Final = re.compile(r"(?:SEN-?)?L?(\d+)", re.IGNORECASE)
_ON_THE_BUS: Final = re.compile(r"[A-Za-z0-9#-]{1,64}")
_HOST: Final = re.compile(r"https?://([^/]+)")


@dataclass(frozen=True, slots=True)
class LicenceName:
    """By what a licence is known: its number in the report, among those of one app."""

    addon_key: str
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence of the Marketplace's report, without its people."""

    name: LicenceName
    sen: str | None = field(repr=False)
    entitlement_id: str | None = field(repr=False)
    entitlement_number: str | None = field(repr=False)
    hosting: str
    status: str
    licence_type: str
    ends_on: date | None
    cloud_id: str | None = field(repr=False)
    site_host: str | None = field(repr=False)
    last_updated: date

    @property
    def is_active(self) -> bool:
        """Whether the customer may use the app."""
        return self.status == ACTIVE

    @property
    def last_day(self) -> date:
        """When it ends or ended; where nothing says so, when it was changed last."""
        return self.ends_on or self.last_updated

    @property
    def sens(self) -> frozenset[str]:
        """The digits of its support entitlement numbers, of which a licence may have two."""
        return frozenset(filter(None, (sen_digits(self.sen), sen_digits(self.name.number))))


def sen_digits(number: str | None) -> str | None:
    """Read the digits of a support entitlement number; None for what is none.

    ``SEN-123``, ``SEN-L123`` and ``123`` are one number in different places.
    """
    found = _SEN.fullmatch(number) if number else None
    return found[1] if found else None


def day_begins(day: date) -> datetime:
    """Give the instant from which a day that the report names is counted."""
    return datetime.combine(day, _DAY_BEGINS)


# -- the join -----------------------------------------------------------------------------------


class Step(StrEnum):
    """By what a licence is known to be a tenant's; of an installation, the best first."""

    ENTITLEMENT = "entitlement"
    SEN = "sen"
    CLOUD_ID = "cloud-id"
    HOST = "host"
    """Sites are renamed and names are given away, so this proves little."""
    ITSELF = "itself"
    """The tenant has no installation: none was ever heard of, or it is being erased."""


_RANKS: Final = {step: rank for rank, step in enumerate(Step)}


@dataclass(frozen=True, slots=True)
class Match:
    """Whose a licence is, and by which step."""

    tenant_id: UUID
    step: Step

    @property
    def weak(self) -> bool:
        """Whether the step alone proves too little to say anything to others by it."""
        return self.step is Step.HOST


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tenant that a licence may be of: one with an installation that can be found by name."""

    tenant_id: UUID
    addon_key: str
    installed: bool
    created_at: datetime
    entitlement_id: str | None = field(default=None, repr=False)
    entitlement_number: str | None = field(default=None, repr=False)
    service_entitlement_number: str | None = field(default=None, repr=False)
    cloud_ids: frozenset[str] = field(default=frozenset(), repr=False)
    base_url: str | None = field(default=None, repr=False)


def match(licence: Licence, candidates: Iterable[Candidate]) -> Match | None:
    """Find the tenant of a licence: by the best step, then who is installed, then the newest."""
    found = [
        (candidate, step)
        for candidate in candidates
        if (step := _step_to(licence, candidate)) is not None
    ]
    if not found:
        return None
    best, step = max(
        found,
        key=lambda pair: (
            -_RANKS[pair[1]],
            pair[0].installed,
            pair[0].created_at,
            pair[0].tenant_id,
        ),
    )
    return Match(best.tenant_id, step)


def rejoin(
    licence: Licence, known: Match | None, candidates: Collection[Candidate]
) -> Match | None:
    """Say whose a licence is now, where it was known to be somebody's before.

    What was proved stays until something else is proved: a tenant whose
    service data is being erased is found by no name any more, and its people
    stay for as long as the licence runs.
    """
    found = match(licence, candidates)
    if known is None or known.weak:
        return found
    return known if found is None or found.weak else found


def _step_to(licence: Licence, candidate: Candidate) -> Step | None:
    if licence.name.addon_key != candidate.addon_key:
        return None
    if _same(licence.entitlement_id, candidate.entitlement_id) or _same(
        licence.entitlement_number, candidate.entitlement_number
    ):
        return Step.ENTITLEMENT
    if sen_digits(candidate.service_entitlement_number) in licence.sens:
        return Step.SEN
    if licence.cloud_id in candidate.cloud_ids:
        return Step.CLOUD_ID
    return Step.HOST if _same(licence.site_host, _host_of(candidate.base_url)) else None


def _same(one: str | None, other: str | None) -> bool:
    return one is not None and one == other


def _host_of(base_url: str | None) -> str | None:
    found = _HOST.match(base_url) if base_url else None
    return found[1] if found else None


# -- the subscription ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SiteAnswer:
    """What a tenant's own site says of the licence."""

    active: bool
    inactive_since: datetime | None


def subscription_of(
    licences: Sequence[Licence],
    site: SiteAnswer | None,
    known: Subscription,
    *,
    departed: bool,
    created_at: datetime,
    now: datetime,
) -> Subscription:
    """Say whether a tenant pays; weak licences are not among its ``licences``.

    Report and site differ by days, so either of them keeps it active. A site
    that a tenant has left says no more that it is. What has ended stays ended
    until something is active: to know less is no reason to keep people longer.
    The end lies never before the tenant's creation and never in the future.
    """
    site_is_active = site is not None and site.active and not departed
    if site_is_active or any(licence.is_active for licence in licences):
        return Subscription(status=SubscriptionStatus.ACTIVE)
    ended = site is not None and not site.active
    if licences or ended:
        end = _end(licences, site, now)
        if end > now:
            end = known.ended_at or now
        return Subscription(status=SubscriptionStatus.ENDED, ended_at=max(end, created_at))
    if known.status is SubscriptionStatus.ENDED:
        return known
    return Subscription(status=SubscriptionStatus.NONE)


def _end(licences: Sequence[Licence], site: SiteAnswer | None, now: datetime) -> datetime:
    named = [licence.ends_on for licence in licences if licence.ends_on is not None]
    if named:
        return day_begins(max(named))
    if site is not None and site.inactive_since is not None:
        return site.inactive_since
    if licences:
        return day_begins(max(licence.last_updated for licence in licences))
    return now


def licence_numbers_of(own: Iterable[str | None], licences: Iterable[Licence]) -> tuple[str, ...]:
    """List the numbers by which a tenant's people are found, those of its installation first.

    Only numbers of a shape that may travel on the bus are among them.
    """
    reported = sorted(
        number
        for licence in licences
        for number in (licence.sen, licence.entitlement_number, licence.name.number)
        if number
    )
    numbers = dict.fromkeys([*filter(None, own), *reported])
    return tuple(number for number in numbers if _ON_THE_BUS.fullmatch(number))


def renewed(
    tenant: TenantState, subscription: Subscription, numbers: tuple[str, ...], *, epoch: int
) -> TenantState | None:
    """Give the state with this subscription and these numbers; None where that is no news.

    Numbers are said only while the tenant may be found by them.
    """
    told = numbers if tenants.may_be_found(tenant.classes) else ()
    return tenants.newer(tenant, epoch, subscription=subscription, licence_numbers=told)


def name_of_change(before: Subscription, after: Subscription) -> str:
    """Name the message that says to people what has changed."""
    if before == after:
        return "tenant-updated"
    if after.status is SubscriptionStatus.ENDED:
        return "subscription-ended"
    again = (SubscriptionStatus.ENDED, SubscriptionStatus.ACTIVE)
    return "subscription-renewed" if (before.status, after.status) == again else "tenant-updated"


# -- licences without an installation -------------------------------------------------------------


def last_day_past(now: datetime) -> date:
    """Give the last day whose six months are over: who ended then, or earlier, is gone."""
    day = add_months(now.astimezone(UTC).date(), -6)
    while deadline(day) > now:
        day -= timedelta(days=1)
    while deadline(day + timedelta(days=1)) <= now:
        day += timedelta(days=1)
    return day


def is_past(licence: Licence, now: datetime) -> bool:
    """Whether nothing may be known of a licence any more that is nobody's."""
    return not licence.is_active and deadline(licence.last_day) <= now


def may_return(licence: Licence, purged_at: datetime) -> bool:
    """Whether a licence whose tenant was purged is something new: it runs again, or ended later."""
    return licence.is_active or day_begins(licence.last_day) > purged_at


def lone_tenant(tenant_id: UUID, licence: Licence, *, epoch: int, now: datetime) -> TenantState:
    """Give the first state of a tenant that is a licence and nothing else.

    It is as old as the licence's end at most, as no clock starts before a
    tenant's creation, and the six months of its people have begun.
    """
    created_at = min(now, day_begins(licence.last_day))
    none = Subscription(status=SubscriptionStatus.NONE)
    return TenantState(
        tenant_id=tenant_id,
        version=Version(epoch=epoch, n=1),
        status=TenantStatus.UNINSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.DATACENTER if licence.hosting in SELF_HOSTED else Platform.CONNECT,
        addon_key=licence.name.addon_key,
        product_type=UNKNOWN,
        created_at=created_at,
        subscription=subscription_of(
            [licence], None, none, departed=False, created_at=created_at, now=now
        ),
        licence_numbers=licence_numbers_of((), [licence]),
    )


def close_into(
    tenant: TenantState, other_id: UUID, *, epoch: int, now: datetime
) -> TenantState | None:
    """Give the state of a tenant without installation whose licence went to another one.

    Nothing is left to wait for, so its purge is due at once, and its people
    move. None where they are on their way out already, or it is closed. No clock
    of theirs is lost: an end of the subscription stays, and so does a departure,
    but for one in whose spite they were kept by the licence that now goes.
    """
    if tenant.merged_into is not None or tenant.classes[DataClass.CONTACTS] is not ClassState.LIVE:
        return None
    departed_at = max(now, tenant.created_at)
    if tenant.departure is not None and tenant.subscription.status is not SubscriptionStatus.ACTIVE:
        departed_at = tenant.departure.at
    return tenants.newer(
        tenant,
        epoch,
        departure=Departure(at=departed_at, how=DepartureKind.SUPERSEDED),
        subscription=tenants.without_licence(tenant.subscription),
        licence_numbers=(),
        merged_into=other_id,
    )
