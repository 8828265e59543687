"""The rules of access: when a site is asked again, and when its refusals mean that it left."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from contracts.tenants import SubscriptionStatus

LOSSES_OF_A_DEPARTURE: Final = 3
SPAN_OF_A_DEPARTURE: Final = timedelta(days=3)

MASS_LOSS_WINDOW: Final = timedelta(days=7)
_MASS_LOSS_LEAST: Final = 10
_MASS_LOSS_ONE_IN: Final = 20

_A_DAY: Final = timedelta(days=1)
_SOON: Final = timedelta(hours=1)


class Answer(StrEnum):
    """What a site's answer says of our access."""

    SEEN = "seen"
    LOST = "lost"
    UNCLEAR = "unclear"


def ask_again_at(
    answer: Answer, *, now: datetime, jitter: float, wait: timedelta = timedelta()
) -> datetime:
    """Say when a site is asked next; ``jitter`` from 0 to 1 spreads sites over the time.

    After an answer in a day, give or take a tenth. After a refusal never
    earlier than in a day, so that losses are as many days as they are. Where
    nothing was learnt within the hour, but not before the ``wait`` it asked for.
    """
    match answer:
        case Answer.SEEN:
            return now + _A_DAY * (0.9 + 0.2 * jitter)
        case Answer.LOST:
            return now + _A_DAY * (1 + 0.1 * jitter)
        case Answer.UNCLEAR:
            return now + max(_SOON, wait) + _SOON * (0.25 * jitter)


@dataclass(frozen=True, slots=True)
class Standing:
    """All that is known of an installed tenant whose site refuses us.

    ``on_forge`` is whether the app is installed there. ``licence_known`` is
    whether the Marketplace's report has a licence that is surely this tenant's,
    ``licence_active`` whether any that may be its own is active.
    ``report_began_at`` is when the latest report that was read to its end was
    begun.
    """

    losses: int
    first_lost_at: datetime
    last_lost_at: datetime
    last_seen_at: datetime
    confirmed: bool
    on_forge: bool
    subscription: SubscriptionStatus
    licence_known: bool
    licence_active: bool
    report_began_at: datetime | None
    held: bool

    @property
    def is_in_the_report(self) -> bool:
        """Whether the Marketplace's report was read since the first refusal."""
        return self.report_began_at is not None and self.report_began_at >= self.first_lost_at

    @property
    def is_paid_for(self) -> bool:
        """Whether the customer may still pay.

        The site's own last word counts only where the report does not know the
        licence: what the report says is newer than a site that is gone.
        """
        if self.licence_active:
            return True
        return self.subscription is SubscriptionStatus.ACTIVE and not self.licence_known


class Reason(StrEnum):
    """Why a tenant whose site refuses us has not left."""

    ON_FORGE = "installed-by-forge"
    TOO_SOON = "too-soon"
    HELD = "held"
    NO_REPORT = "no-report-since"
    PAID_FOR = "paid-for"


@dataclass(frozen=True, slots=True)
class Wait:
    """The tenant is taken to be there still."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Leave:
    """The tenant left ``at`` the moment when it was last heard of."""

    at: datetime


DepartureDecision: TypeAlias = Leave | Wait


def decide_departure(standing: Standing) -> DepartureDecision:
    """Say whether a tenant has left, as far as refusals can tell.

    A person's word stands in for the Marketplace's report. It does not shorten
    the days, nor does it lift a hold, which is another decision. Who is on
    Forge is heard of there when he leaves.
    """
    if standing.on_forge:
        return Wait(Reason.ON_FORGE)
    span = standing.last_lost_at - standing.first_lost_at
    if standing.losses < LOSSES_OF_A_DEPARTURE or span < SPAN_OF_A_DEPARTURE:
        return Wait(Reason.TOO_SOON)
    if standing.held:
        return Wait(Reason.HELD)
    if not standing.confirmed:
        if not standing.is_in_the_report:
            return Wait(Reason.NO_REPORT)
        if standing.is_paid_for:
            return Wait(Reason.PAID_FOR)
    return Leave(standing.last_seen_at)


def is_mass_loss(lost: int, asked: int) -> bool:
    """Say whether so many of an app's tenants were lost that it is our fault, or Atlassian's.

    ``lost`` counts those that began to refuse within ``MASS_LOSS_WINDOW``, so a
    bad day shows as well as a slow week.
    """
    return lost >= _MASS_LOSS_LEAST and lost * _MASS_LOSS_ONE_IN >= asked
