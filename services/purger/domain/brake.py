"""When purges that have not begun are held back, and who releases them."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

CLOCK_MAY_JUMP = timedelta(hours=1)
SHARE_OF_TENANTS_A_DAY = 0.02
TENANTS_A_DAY = 10
"""So many tenants may leave in a day however few there are."""

TIMES_THE_FORECAST = 3
"""So many times more than was forecast for a day may leave in it."""

FORECAST_DAYS_AHEAD = 7
"""So long before a day its forecast is made, and then not changed: what floods in later is news."""

PULLED = "pulled"
"""The reason of a brake that a person pulled."""

RELEASED_BY = 2

LONGEST_NAME = 200
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Sweep:
    """The two clocks at the moment of a sweep."""

    business_at: datetime
    wall_at: datetime


def clock_jump(last: Sweep, this: Sweep) -> timedelta:
    """How much further business time moved than wall time did."""
    return (this.business_at - last.business_at) - (this.wall_at - last.wall_at)


def enough_tenants(tenants_due: int) -> int:
    """Say from how many tenants on so many due ones are few, so that counting can stop there."""
    return math.ceil(tenants_due / SHARE_OF_TENANTS_A_DAY)


def why_to_brake(
    last: Sweep | None,
    this: Sweep,
    *,
    tenants_due: int,
    tenants: int,
    forecast: int | None = None,
) -> str | None:
    """Say why no purge may start until two people have looked; None when all is ordinary.

    ``tenants_due`` counts those that are due now or were asked for within a day,
    without those that people have already let through; ``tenants`` all that there
    are, as far as `enough_tenants`. ``forecast`` is how many of the due ones were
    expected; None where nobody had made one.
    """
    if last is not None and clock_jump(last, this) > CLOCK_MAY_JUMP:
        return "clock-jumped"
    if tenants_due < TENANTS_A_DAY:
        return None
    if tenants_due > SHARE_OF_TENANTS_A_DAY * tenants:
        return "too-many-due"
    if forecast is not None and tenants_due > TIMES_THE_FORECAST * forecast:
        return "more-than-forecast"
    return None


def same_person(name: str) -> str:
    """Spell a name so that one person is one, whatever the case and the spaces."""
    return " ".join(name.split()).casefold()
