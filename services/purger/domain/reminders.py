"""When people hear that their data will go."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts.classes import DataClass
from contracts.purges import (
    ClockKind,
)

REMINDERS = (30, 7)
"""So many days before a purge starts its people are reminded of it."""

CLOCKS_WITHOUT_REMINDERS = (ClockKind.MERGED, ClockKind.ERASURE_ASKED)
"""Who moves loses nothing, and who asked for it is told the dates when they ask."""


@dataclass(frozen=True, slots=True)
class Reminder:
    """A purge of which people are to be reminded now, for the last time or for the one before."""

    purge_id: UUID
    tenant_id: UUID
    classes: tuple[DataClass, ...]
    clock: str
    start_at: datetime
    erase_by: datetime
    days_before: int

    @property
    def step(self) -> str:
        """By which it is known beside the purge's own steps."""
        return f"remind-{self.days_before}"
