"""How late a purge is, and when somebody is told."""

from datetime import datetime, timedelta
from enum import StrEnum

from services.purger.domain.dates import ESCALATION_BEFORE_ERASE_BY
from services.purger.domain.steps import OPEN_STEPS_NAMED_BEFORE_ERASE_BY


class Level(StrEnum):
    """How near the last day of a purge is that ought to be finished."""

    SEVEN_DAYS = "seven-days"
    FIVE_DAYS = "five-days"
    TWO_DAYS = "two-days"
    OVERDUE = "overdue"


_LEVELS = {
    Level.OVERDUE: timedelta(),
    Level.TWO_DAYS: timedelta(days=2),
    Level.FIVE_DAYS: OPEN_STEPS_NAMED_BEFORE_ERASE_BY,
    Level.SEVEN_DAYS: ESCALATION_BEFORE_ERASE_BY,
}


def levels_reached(now: datetime) -> dict[Level, datetime]:
    """Say for each level, the gravest first, up to which ``erase_by`` a purge has reached it."""
    return {level: now + before for level, before in _LEVELS.items()}
