"""How fast a campaign goes, and when it will be through."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(minutes=10)
"""The pace is that of the last ten minutes, or since the first message where that is less."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Messages a minute, and when the last one is expected to be taken."""

    per_minute: float
    ends_at: datetime


def pace_of(
    lately: int, first_lately_at: datetime | None, left: int, *, now: datetime
) -> Pace | None:
    """Tell the pace by how many were taken lately, since when; None where nobody can know yet."""
    if first_lately_at is None or lately == 0:
        return None
    # The clock may stand still, or be moved, on a laptop.
    since = min(max(now - first_lately_at, timedelta(seconds=1)), WINDOW)
    per_second = lately / since.total_seconds()
    return Pace(per_second * 60, now + timedelta(seconds=left / per_second))
