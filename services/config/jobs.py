"""What config does by the clock, besides its moves: it forgets what was kept for a while, and whose."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from chassis.audit import KEPT as AUDIT_KEPT
from chassis.clock import Clock
from chassis.database import Pool
from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.service import Running
from services.config.domain.things import KEYS_KEPT
from services.config.store import export_uses, grants, looks, repeats, transfers, usage

USES_KEPT: Final = timedelta(days=365)
LOOKS_KEPT: Final = timedelta(days=365)
_AT_ONCE: Final = 5_000


def usage_job(clock: Clock, worker: Pool) -> Job:
    """The job that makes a day's usage, once the day is over, statistics that name no tenant."""

    async def roll_up() -> int:
        return await usage.roll_up(worker, now=clock.now())

    return Job("roll up usage", timedelta(hours=1), roll_up)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The job that forgets keys whose day is over, tickets whose minute is, and what is a year old."""

    clock: Clock
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("forget keys and tickets", timedelta(hours=1), self.run),)

    async def run(self) -> int:
        """Forget all whose time is over, some at a time; return how many there were."""
        wall, now = self.clock.wall(), self.clock.now()
        gone = 0
        for forget in (
            partial(repeats.forget, made_before=wall - KEYS_KEPT),
            partial(transfers.forget_tickets, ended_by=wall),
            partial(export_uses.forget_uses, used_before=now - USES_KEPT),
            partial(looks.forget, looked_before=now - LOOKS_KEPT),
            partial(grants.forget, given_before=now - AUDIT_KEPT),
        ):
            while some := await forget(self.worker, limit=_AT_ONCE):
                gone += some
        return gone


class WatchingGrants:
    """The job that shows since when a broken glass waits for its review."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, told: str) -> Gauge:
            return Gauge(name, told, namespace=NAMESPACE, registry=registry)

        self._number = gauge("glass_unreviewed", "Broken glasses that nobody has reviewed.")
        self._seconds = gauge(
            "glass_unreviewed_seconds", "For how long the first of them waits for that."
        )

    def job(self, config: Running[Any]) -> Job:
        """The job with its interval; an alarm goes by what it shows."""

        async def watch() -> int:
            waiting = await grants.unreviewed(config.resources.worker)
            now = config.units.clock.now()
            self._number.set(waiting.number)
            self._seconds.set(
                max(0.0, (now - waiting.since).total_seconds()) if waiting.since else 0.0
            )
            return waiting.number

        return Job("watch grants", timedelta(seconds=15), watch)
