"""Jobs: what a service does by the clock rather than because a message came."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from chassis import logs, tracing
from chassis.clock import OffsetClock
from chassis.metrics import Metrics

log = structlog.get_logger()

JITTER: Final = 0.1
FIRST_BACKOFF: Final = timedelta(seconds=1)
LONGEST_BACKOFF: Final = timedelta(minutes=5)
_PROMPT: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do at start and then at every interval of wall time.

    ``run`` claims its work in the database, as the same job runs in other
    replicas too, and reads business time from the service's clock.
    """

    name: str
    every: timedelta
    run: Callable[[], Awaitable[object]]


@dataclass(slots=True)
class _Standing:
    """What is known of one job's runs, in seconds of the monotonic clock."""

    job: Job
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    completed_at: float | None = None
    failures: int = 0


class JobRunner:
    """Runs each job in a task of its own, never two runs of one job at once.

    A failed run is logged, counted and tried again after a pause that doubles,
    never longer than the job's interval. It is a part of a process: ``run`` until
    ``stop``. Jobs must tolerate being cut off: a run that does not end within
    ``stop_within`` is cancelled.
    """

    name = "jobs"

    def __init__(
        self,
        jobs: Sequence[Job],
        metrics: Metrics,
        *,
        first_backoff: timedelta = FIRST_BACKOFF,
        stop_within: timedelta = timedelta(seconds=20),
    ) -> None:
        self._standings = {job.name: _Standing(job) for job in jobs}
        if len(self._standings) != len(jobs):
            raise ValueError("two jobs have the same name")
        self._metrics = metrics
        self._first_backoff = first_backoff
        self._stop_within = stop_within
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started_at = time.monotonic()

    def start(self) -> None:
        """Begin; each job runs at once for the first time."""
        self._started_at = time.monotonic()
        for standing in self._standings.values():
            task = asyncio.create_task(self._repeat(standing), name=f"job {standing.job.name}")
            self._tasks.add(task)

    async def run(self) -> None:
        """Begin, and return once stopped."""
        self.start()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._stopping.wait()

    def wake(self, name: str) -> None:
        """Run a job now, or once more if it is running; unknown names raise ``KeyError``."""
        self._standings[name].wanted.set()

    async def stop(self, timeout: timedelta | None = None) -> None:
        """Begin no run any more, let running ones end within the timeout, cancel the rest."""
        self._stopping.set()
        for standing in self._standings.values():
            standing.wanted.set()
        if not self._tasks:
            return
        within = self._stop_within if timeout is None else timeout
        _, running = await asyncio.wait(self._tasks, timeout=within.total_seconds())
        for task in running:
            log.warning("job cut off", job=task.get_name().removeprefix("job "))
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1)

    def age(self, name: str) -> timedelta:
        """How long ago a job last completed; since the start where it never has."""
        completed_at = self._standings[name].completed_at
        since = self._started_at if completed_at is None else completed_at
        return timedelta(seconds=time.monotonic() - since)

    def dead_mans_switch(self, name: str, limit: timedelta) -> Callable[[], str | None]:
        """Make a health check that fails once a job has not completed for ``limit``."""

        def check() -> str | None:
            age = self.age(name)
            if age <= limit:
                return None
            return f"not completed for {round(age.total_seconds())} s"

        return check

    async def _repeat(self, standing: _Standing) -> None:
        while not self._stopping.is_set():
            standing.wanted.clear()
            began_at = time.monotonic()
            await self._run_once(standing)
            if not self._stopping.is_set():
                await _wait(standing.wanted, self._pause(standing, began_at))

    async def _run_once(self, standing: _Standing) -> None:
        job = standing.job
        began_at = time.monotonic()
        outcome = "cancelled"
        try:
            with logs.bound(job=job.name), tracing.continued(None, f"job {job.name}"):
                outcome = await self._outcome(standing)
        finally:
            self._metrics.job_runs_total.labels(job.name, outcome).inc()
            self._metrics.job_seconds.labels(job.name).observe(time.monotonic() - began_at)

    async def _outcome(self, standing: _Standing) -> str:
        name = standing.job.name
        try:
            await standing.job.run()
        except Exception:
            standing.failures += 1
            log.exception("job failed", failures=standing.failures)
            return "failed"
        standing.failures = 0
        standing.completed_at = time.monotonic()
        self._metrics.job_completed_timestamp_seconds.labels(name).set_to_current_time()
        return "completed"

    def _pause(self, standing: _Standing, began_at: float) -> float:
        """Seconds until the next run, a little more or less so that replicas drift apart."""
        every = standing.job.every.total_seconds()
        if standing.failures:
            doubled = self._first_backoff.total_seconds() * 2.0 ** min(standing.failures - 1, 16)
            pause = min(doubled, every, LONGEST_BACKOFF.total_seconds())
        else:
            pause = max(0.0, every - (time.monotonic() - began_at))
        return pause * (1 + JITTER * (2 * random.random() - 1))  # noqa: S311 - spreads load, guards nothing


def notice_moved_time(
    clock: OffsetClock, jobs: Sequence[Job], wakes: Mapping[str, Callable[[], None]]
) -> Job:
    """Make a job that runs those of each minute as soon as a laptop's time is moved.

    They come by wall time, which is not moved, so what has become due would wait for its turn.
    What comes more seldom has no haste.
    """
    known = clock.offset
    prompt = [job.name for job in jobs if job.every <= _PROMPT]

    async def look() -> None:
        nonlocal known
        if known != (known := clock.offset):
            for name in prompt:
                wakes[name]()

    return Job("notice moved time", timedelta(milliseconds=200), look)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
