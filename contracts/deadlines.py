"""The six-month rule: by when the data of a customer who left must be gone."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta

RULE_VERSION = 1
"""Stored with every date that follows from this rule; a changed rule takes the next number."""

_MONTHS = 6
_WESTMOST = timedelta(hours=12)


def local_date(instant: datetime | date) -> date:
    """Find the earliest calendar date that an instant has anywhere on earth.

    That is its date at UTC-12, so no customer can count from an earlier day. A
    bare date counts as itself. Raises ``ValueError`` for a time without a zone.
    """
    if not isinstance(instant, datetime):
        return instant
    if instant.tzinfo is None:
        raise ValueError("an instant needs a zone")
    return (instant.astimezone(UTC) - _WESTMOST).date()


def add_months(day: date, months: int) -> date:
    """Add calendar months, clamped to the month's end: 31 August and six is 28 February."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def deadline(clock_started: datetime | date) -> datetime:
    """Say by when the data must be gone: 00:00 UTC at the start of the day six months on.

    Never later than six calendar months after the clock's start, in any zone
    (privacy policy: "at the latest 6 months"). Not reversible: several starts
    share a deadline, so the start is stored and never computed back.
    """
    return datetime.combine(add_months(local_date(clock_started), _MONTHS), time(), tzinfo=UTC)
