"""Plans news whose time has come, and says when it is through."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from chassis.database import Pool
from chassis.jobs import Job
from chassis.unit_of_work import Units
from contracts.news import ProductUpdateAnnounced
from services.notifier.context import Context
from services.notifier.domain.news import KEPT
from services.notifier.store import news as store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewsJobs:
    """The jobs of news of products."""

    units: Units[Context]
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("plan news", timedelta(seconds=5), self.plan),
            Job("finish news", timedelta(seconds=5), self.finish),
            Job("tidy news", timedelta(hours=1), self.tidy),
        )

    async def plan(self) -> int:
        """Plan to tell everybody of what is due, and say so; return how many are told."""
        told = 0
        clock = self.units.clock
        for campaign_id in await store.due(self.worker, now=clock.now()):
            planned = await store.plan_recipients(
                self.worker, campaign_id, now=clock.now(), wall=clock.wall()
            )
            if planned is not None:
                log.info("news planned", campaign_id=campaign_id, recipients=planned)
                told += planned
        await self._announce()
        return told

    async def _announce(self) -> None:
        async with self.units.begin() as uow:
            for campaign_id, kind, segment in await store.take_unannounced(
                uow.connection, now=uow.now
            ):
                uow.outbox.add(
                    ProductUpdateAnnounced(
                        campaign_id=campaign_id,
                        news_kind=kind.value,
                        addon_key=segment.addon_key,
                        announced_at=uow.now,
                    )
                )

    async def finish(self) -> int:
        """Call done what is through; return how many campaigns."""
        done = await store.finish(self.worker)
        for campaign_id in done:
            log.info("news sent to all", campaign_id=campaign_id)
        return len(done)

    async def tidy(self) -> None:
        """Forget old news."""
        forgotten = await store.forget(self.worker, before=self.units.clock.now() - KEPT)
        if forgotten:
            log.info("old news forgotten", news=forgotten)
