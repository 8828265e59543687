"""What the coming six months bring, reckoned from the purges that are planned."""

from calendar import Calendar
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


@dataclass(frozen=True, slots=True)
class Month:
    """A month as a calendar shows it: weeks from Monday, None where a day is another month's."""

    begins: date
    weeks: tuple[tuple[Day | None, ...], ...]


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


def months_of(days: Sequence[Day], now: datetime) -> list[Month]:
    """Lay days out as months, from the present one to that in which the forecast ends."""
    by_day = {day.day: day for day in days}
    last, month = last_day(now), now.date().replace(day=1)
    months = []
    while month <= last:
        weeks = tuple(
            tuple(
                by_day.get(day, Day(day, 0, 0)) if day.month == month.month else None
                for day in week
            )
            for week in Calendar().monthdatescalendar(month.year, month.month)
        )
        months.append(Month(month, weeks))
        month = (month + 31 * _DAY).replace(day=1)
    return months


def _monday(day: date) -> date:
    return day - day.weekday() * _DAY
