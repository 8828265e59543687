"""What purger does by the clock: due purges, silence, late receipts, the ledger's publication."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from chassis.jobs import Job
from chassis.unit_of_work import Units
from services.purger import ledger
from services.purger.context import Context, Work
from services.purger.domain.brake import Sweep, enough_tenants, why_to_brake
from services.purger.domain.steps import OPEN_STEPS_NAMED_BEFORE_ERASE_BY
from services.purger.figures import HoldFigures
from services.purger.progress import advance, ask_installer, order_erasure, say_purges
from services.purger.store import brake as store_of_brake
from services.purger.store import forecast as store_of_forecast
from services.purger.store import holds, purges, states, steps, wishes

log = structlog.get_logger(__name__)

HEAD_SAID_EVERY = timedelta(days=1)
PURGES_KEPT = timedelta(days=30)
ASKED_AGAIN_A_SECOND = 20
_AT_ONCE = 200
_DUE_WITHIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sweeps:
    """The jobs of one purger, on its units of uow."""

    units: Units[Context]
    cluster_id: str

    def jobs(self, *, sweep_every: timedelta) -> Sequence[Job]:
        """List the jobs with their intervals."""
        return (
            Job("ask for due purges", sweep_every, self.ask_for_due_purges),
            Job("ask again", sweep_every, partial(self.ask_again, within=sweep_every)),
            Job("write late receipts", timedelta(minutes=1), self.write_late_receipts),
            Job("publish ledger", timedelta(milliseconds=250), self.publish_ledger),
            Job("drop old purges", timedelta(hours=1), self.drop_old_purges),
        )

    async def ask_for_due_purges(self) -> int:
        """Ask the installer for every purge whose start has come; return how many.

        None is asked for while the brake holds.
        """
        asked = 0
        while True:
            async with self.units.begin() as uow:
                if not await _may_purge(uow):
                    return asked
                due = await purges.claim_due_purges(
                    uow.connection, now=uow.now, silence=uow.context.silence, limit=_AT_ONCE
                )
                for asking in due:
                    ask_installer(uow, asking)
                await say_purges(uow, {asking.tenant_id for asking in due})
            asked += len(due)
            if len(due) < _AT_ONCE:
                return asked

    async def ask_again(self, *, within: timedelta = timedelta(seconds=10)) -> int:
        """Repeat what was asked and not answered; return how many questions that were.

        Who has thousands to answer is late and not deaf: so that a backlog does not
        grow by being asked about, no more is repeated than ``within`` that time may be.
        What has waited longest comes first, and then waits twice as long.
        """
        limit = max(1, round(ASKED_AGAIN_A_SECOND * within.total_seconds()))
        async with self.units.begin() as uow:
            silence = uow.context.silence
            askings = await purges.claim_unanswered_purges(
                uow.connection, now=uow.now, silence=silence, limit=limit
            )
            for asking in askings:
                ask_installer(uow, asking)
            orders = await steps.claim_unanswered_steps(
                uow.connection, now=uow.now, silence=silence, limit=limit
            )
            for order in orders:
                order_erasure(uow, order)
        return len(askings) + len(orders)

    async def write_late_receipts(self) -> int:
        """Write the first receipt of purges that can wait no longer; return how many."""
        async with self.units.begin() as uow:
            late = await purges.late_purges(
                uow.connection,
                erase_by_before=uow.now + OPEN_STEPS_NAMED_BEFORE_ERASE_BY,
                limit=_AT_ONCE,
            )
        for purge_id in late:
            async with self.units.begin() as uow:
                if await advance(uow, [purge_id]):
                    purge = await purges.lock_purge(uow.connection, purge_id)
                    assert purge is not None
                    log.error("purge is late, open steps are named", purge_id=str(purge_id))
                    await say_purges(uow, [purge.tenant_id])
        return len(late)

    async def publish_ledger(self) -> int:
        """Say new entries of the ledger, and once a day how long it is."""
        async with self.units.begin() as uow:
            return await ledger.publish(uow, self.cluster_id, head_every=HEAD_SAID_EVERY)

    async def drop_old_purges(self) -> int:
        """Forget purges 30 days after they were over; the ledger keeps their proof."""
        async with self.units.begin() as uow:
            before = uow.now - PURGES_KEPT
            dropped = await purges.drop_old_purges(uow.connection, before=before, limit=1_000)
            await wishes.drop_old_wishes(uow.connection, before=before)
            await holds.drop_old_holds(uow.connection, before=before)
            return dropped


def count_held_job(units: Units[Context], figures: HoldFigures) -> Job:
    """Show once a minute what is held."""

    async def count_held() -> int:
        async with units.begin() as uow:
            held = await holds.count_held(uow.connection, now=uow.now)
        figures.legal_holds.set(held.holds)
        figures.held_purges.set(held.purges)
        figures.held_purges_overdue.set(held.overdue_purges)
        return 0

    return Job("count held purges", timedelta(minutes=1), count_held)


async def restart(units: Units[Context], cluster_id: str) -> None:
    """Before the doors open: say how long the ledger is, and ask again for all that is open.

    In a Kafka cluster that has not heard the ledger all of it is said first.
    """
    async with units.begin() as uow:
        said = await ledger.publish(uow, cluster_id, head_every=timedelta())
    async with units.begin() as uow:
        await steps.ask_all_at_once(uow.connection, now=uow.now)
    log.info("ledger said", entries=said)


async def restate(units: Units[Context]) -> None:
    """Say all purges again with new versions, in pages; after a new epoch was opened."""
    after = None
    while True:
        async with units.begin() as uow:
            page = await states.tenants_spoken_of(uow.connection, after=after, limit=_AT_ONCE)
            await say_purges(uow, page)
        if len(page) < _AT_ONCE:
            return
        after = page[-1]


async def restate_some(uow: Work, tenant_ids: Collection[UUID]) -> set[UUID]:
    """Say these tenants' purges again with new versions; return those of whom any stand said."""
    spoken_of = await states.spoken_of(uow.connection, tenant_ids)
    await say_purges(uow, spoken_of)
    return spoken_of


async def _may_purge(uow: Work) -> bool:
    brake = await store_of_brake.lock_brake(uow.connection)
    sweep = Sweep(uow.now, uow.wall)
    await store_of_brake.note_sweep(uow.connection, sweep)
    due = await store_of_brake.count_due_tenants(uow.connection, now=uow.now, within=_DUE_WITHIN)
    if brake.engaged_at is not None:
        if due:
            log.error("brake holds purges", reason=brake.reason, due_tenants=due)
        return False
    tenants = await store_of_brake.count_tenants(uow.connection, most=enough_tenants(due))
    forecast = await store_of_forecast.forecast_of(uow.connection, uow.now.date())
    reason = why_to_brake(brake.last, sweep, tenants_due=due, tenants=tenants, forecast=forecast)
    if reason is None:
        return True
    await store_of_brake.engage_brake(uow.connection, reason, now=uow.now)
    log.error("brake engaged", reason=reason, due_tenants=due, tenants=tenants, forecast=forecast)
    return False
