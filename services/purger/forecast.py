"""What the coming six months bring, reckoned from the purges that are planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

WEEKS_AHEAD: Final = 27
"""Six months have 26 weeks and a bit."""

_WEEK: Final = timedelta(weeks=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Day:
    """How many planned purges start on a day in UTC, and how many open ones must be done by it."""

    day: date
    starting: int
    ending: int


@dataclass(frozen=True, slots=True)
class Week:
    """The same of the seven days that begin with a Monday; of the present one, what is left."""

    begins: date
    starting: int
    ending: int


def last_day(now: datetime) -> date:
    """Say where the forecast ends."""
    return _monday(now.date()) + WEEKS_AHEAD * _WEEK - _DAY


def weeks_of(days: Sequence[Day], now: datetime) -> list[Week]:
    """Add days up to weeks, none left out; what was due before today counts as due today."""
    today = now.date()
    first = _monday(today)
    starting, ending = [0] * WEEKS_AHEAD, [0] * WEEKS_AHEAD
    for day in days:
        week = (max(day.day, today) - first) // _WEEK
        if week < WEEKS_AHEAD:
            starting[week] += day.starting
            ending[week] += day.ending
    return [Week(first + week * _WEEK, starting[week], ending[week]) for week in range(WEEKS_AHEAD)]


def _monday(day: date) -> date:
    return day - day.weekday() * _DAY
