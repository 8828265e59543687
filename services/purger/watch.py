"""The watch over purges: warns before one is late, counts them, and notices when nobody sweeps."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from chassis.jobs import Job
from chassis.unit_of_work import Units
from contracts.purges import Phase
from services.purger.context import Context
from services.purger.domain.brake import FORECAST_DAYS_AHEAD
from services.purger.domain.watch import Level, levels_reached
from services.purger.figures import PurgeFigures
from services.purger.store import brake as store_of_brake
from services.purger.store import forecast, watch

log = structlog.get_logger(__name__)

SWEPT_WITHIN: Final = timedelta(hours=1)


class Watch:
    """The jobs that look at purges and move none."""

    def __init__(self, units: Units[Context], figures: PurgeFigures) -> None:
        self._units = units
        self._figures = figures
        self._since = units.clock.wall()
        self._swept_at: datetime | None = None

    def jobs(self) -> Sequence[Job]:
        """List the jobs with their intervals."""
        return (
            Job("escalate", timedelta(minutes=1), self.escalate),
            Job("count purges", timedelta(minutes=1), self.count_purges),
            Job("note forecast", timedelta(hours=1), self.note_forecast),
        )

    async def escalate(self) -> int:
        """Say of each purge that nears its last day so, once for each level; return how many."""
        async with self._units.begin() as uow:
            noted = await watch.note_escalations(
                uow.connection, levels_reached(uow.now), now=uow.now
            )
        for escalation in noted:
            log.error(
                "purge is overdue" if escalation.level is Level.OVERDUE else "purge may be late",
                purge_id=str(escalation.purge_id),
                level=escalation.level,
                phase=escalation.phase,
                erase_by=escalation.erase_by.isoformat(),
                open_steps=escalation.open_steps,
            )
        return len(noted)

    async def count_purges(self) -> None:
        """Refresh the figures, and what is known of the last sweep."""
        async with self._units.begin() as uow:
            phases = await watch.count_by_phase(uow.connection)
            levels = await watch.count_by_level(
                uow.connection, levels_reached(uow.now), now=uow.now
            )
            brake = await store_of_brake.read_brake(uow.connection)
        for phase in Phase:
            self._figures.purges.labels(phase).set(phases.get(phase, 0))
        for level in Level:
            self._figures.escalated.labels(level).set(levels.get(level, 0))
        self._figures.overdue.set(levels.get(Level.OVERDUE, 0))
        self._figures.brake_engaged.set(brake.engaged_at is not None)
        if brake.last is not None:
            self._swept_at = brake.last.wall_at
            self._figures.swept_at.set(brake.last.wall_at.timestamp())

    async def note_forecast(self) -> None:
        """Keep what is planned for the coming days, which the brake compares those days with."""
        async with self._units.begin() as uow:
            await forecast.note_forecast(
                uow.connection, now=uow.now, days_ahead=FORECAST_DAYS_AHEAD
            )

    def nobody_sweeps(self) -> str | None:
        """Say so when no replica has swept for an hour, as far as we know.

        What was seen last only grows older when this watch fails as well.
        """
        age = self._units.clock.wall() - (self._swept_at or self._since)
        if age <= SWEPT_WITHIN:
            return None
        return f"nobody has looked for due purges for {age // timedelta(minutes=1)} minutes"
