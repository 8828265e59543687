"""Welcomes the first people of tenants, and stops telling what is no news any more."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from chassis.database import Pool
from chassis.housekeeping import ERASURE_PROOF_KEPT
from chassis.jobs import Job
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from services.notifier.context import Context
from services.notifier.domain.lifecycle import welcome
from services.notifier.store import lifecycle as store

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The jobs about notices of tenants' lives; people come in more than one way, so these look."""

    units: Units[Context]
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("welcome people", timedelta(seconds=10), self.welcome_people),
            Job("stop old news", timedelta(minutes=1), self.stop_old_news),
            Job("tidy notices", timedelta(hours=1), self.tidy),
        )

    async def welcome_people(self) -> int:
        """Plan a welcome for the people of each tenant that got its first; count the tenants."""
        welcomed = 0
        while page := await store.tenants_to_welcome(self.worker, limit=_AT_ONCE):
            async with self.units.begin() as uow:
                await uow.lock_tenants(page)
                erased = await uow.erased_classes(page)
                taken = await store.take_welcomes(uow.connection, page)
                for tenant_id, platform in taken.items():
                    if DataClass.CONTACTS in erased.get(tenant_id, ()):
                        continue
                    await store.tell(
                        uow.connection,
                        tenant_id,
                        welcome(tenant_id, platform, now=uow.now),
                        now=uow.now,
                        wall=uow.wall,
                        doubtful=False,
                    )
            welcomed += len(taken)
        return welcomed

    async def stop_old_news(self) -> int:
        """Stop notices that would come too late; count those that had not reached everybody."""
        stopped = await store.stop_old_news(self.worker, now=self.units.clock.now())
        if stopped:
            log.warning("notices not sent to everybody, too late by now", notices=stopped)
        return stopped

    async def tidy(self) -> None:
        """Forget campaigns that ended 30 days ago."""
        before = self.units.clock.now() - ERASURE_PROOF_KEPT
        await store.drop_campaigns(self.worker, noted_before=before)
