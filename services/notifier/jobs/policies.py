"""Plans who has to be told of a revision of the policy, and forgets old evidence of it."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from chassis.database import Pool
from chassis.jobs import Job
from chassis.unit_of_work import Units
from services.notifier.context import Context
from services.notifier.store import evidence
from services.notifier.store import policies as store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Policies:
    """The jobs of revisions; evidence is kept for ``evidence_kept`` after one was replaced."""

    units: Units[Context]
    worker: Pool
    evidence_kept: timedelta

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("plan policy changes", timedelta(seconds=5), self.plan),
            Job("plan joiners", timedelta(minutes=10), self.plan_joiners),
            Job("tidy policy evidence", timedelta(hours=1), self.tidy),
        )

    async def plan(self) -> int:
        """Plan to tell everybody of what was published; return how many are told."""
        return await self._plan(await store.unplanned_revisions(self.worker))

    async def plan_joiners(self) -> int:
        """Plan to tell those who became contacts since, as long as they may; return how many."""
        return await self._plan(await store.revisions_to_plan_again(self.worker))

    async def tidy(self) -> None:
        """Forget who was told of what was replaced long ago."""
        dropped = await evidence.drop_evidence(
            self.worker, replaced_before=self.units.clock.now() - self.evidence_kept
        )
        if dropped:
            log.info("policy evidence dropped", persons=dropped)

    async def _plan(self, numbers: list[int]) -> int:
        planned = 0
        for number in numbers:
            clock = self.units.clock
            new = await store.plan_recipients(
                self.worker, number, now=clock.now(), wall=clock.wall()
            )
            if new:
                log.info("policy change planned", number=number, recipients=new)
            planned += new
        return planned
