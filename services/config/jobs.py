"""What config does by the clock, besides its moves: it forgets what was kept for a while, and whose."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from chassis.clock import Clock
from chassis.database import Pool
from chassis.jobs import Job
from services.config.domain.things import KEYS_KEPT
from services.config.store import export_uses, repeats, transfers, usage

USES_KEPT: Final = timedelta(days=365)
_AT_ONCE: Final = 5_000


def usage_job(clock: Clock, worker: Pool) -> Job:
    """The job that makes a day's usage, once the day is over, statistics that name no tenant."""

    async def roll_up() -> int:
        return await usage.roll_up(worker, now=clock.now())

    return Job("roll up usage", timedelta(hours=1), roll_up)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The job that forgets keys whose day is over, tickets whose minute is, and year-old downloads."""

    clock: Clock
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("forget keys and tickets", timedelta(hours=1), self.run),)

    async def run(self) -> int:
        """Forget all whose time is over, some at a time; return how many there were."""
        gone, wall = 0, self.clock.wall()
        while some := await repeats.forget(
            self.worker, made_before=wall - KEYS_KEPT, limit=_AT_ONCE
        ):
            gone += some
        while some := await transfers.forget_tickets(self.worker, ended_by=wall, limit=_AT_ONCE):
            gone += some
        used_before = self.clock.now() - USES_KEPT
        while some := await export_uses.forget_uses(
            self.worker, used_before=used_before, limit=_AT_ONCE
        ):
            gone += some
        return gone
