"""Jobs run at start, at intervals and when woken, one run at a time, and outlive failures."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from chassis import clock, jobs, tracing
from chassis.clock import OffsetClock
from chassis.jobs import Job, JobRunner, notice_moved_time
from chassis.metrics import Metrics

HOUR = timedelta(hours=1)
SOON = timedelta(milliseconds=1)


class Counted:
    """A job's work that counts its runs and can be waited for."""

    def __init__(self) -> None:
        self.runs = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        self._changed.set()

    async def reached(self, runs: int) -> None:
        async with asyncio.timeout(10):
            while self.runs < runs:
                self._changed.clear()
                await self._changed.wait()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def running(runner: JobRunner) -> AsyncIterator[JobRunner]:
    runner.start()
    yield runner
    await runner.stop(timedelta(seconds=5))


def a_runner(run: Callable[[], Awaitable[object]], every: timedelta = HOUR) -> JobRunner:
    return JobRunner([Job("sweep", every, run)], Metrics(), first_backoff=SOON)


def outcomes(runner: JobRunner, outcome: str) -> float:
    labels = {"job": "sweep", "outcome": outcome}
    return runner._metrics.registry.get_sample_value("keepword_job_runs_total", labels) or 0


async def test_a_job_runs_at_start_and_then_at_every_interval() -> None:
    work = Counted()
    async with running(a_runner(work.run, timedelta(milliseconds=5))):
        await work.reached(4)


async def test_a_job_is_not_run_before_its_interval_is_over_unless_woken() -> None:
    work = Counted()
    async with running(a_runner(work.run)) as runner:
        await work.reached(1)
        await until(lambda: outcomes(runner, "completed") == 1)
        runner.wake("sweep")
        await work.reached(2)
        await until(lambda: outcomes(runner, "completed") == 2)
    assert work.runs == 2


async def test_two_runs_of_a_job_never_overlap_and_a_wake_meanwhile_runs_it_again() -> None:
    inside = most = runs = 0
    go_on = asyncio.Event()

    async def slow() -> None:
        nonlocal inside, most, runs
        inside, runs = inside + 1, runs + 1
        most = max(most, inside)
        await go_on.wait()
        inside -= 1

    async with running(a_runner(slow)) as runner:
        await until(lambda: runs == 1)
        for _ in range(3):
            runner.wake("sweep")
        go_on.set()
        await until(lambda: outcomes(runner, "completed") == 2)
    assert (most, runs) == (1, 2)


async def test_jobs_do_not_wait_for_each_other() -> None:
    both = asyncio.Barrier(2)
    runner = JobRunner([Job("one", HOUR, both.wait), Job("other", HOUR, both.wait)], Metrics())
    async with running(runner):
        await until(lambda: both.n_waiting == 0 and runner._standings["one"].completed_at)


async def test_a_failure_is_logged_and_counted_and_tried_again_with_longer_pauses() -> None:
    failures = 3

    async def fails_at_first() -> None:
        if outcomes(runner, "failed") < failures:
            raise RuntimeError("hunter2")

    runner = a_runner(fails_at_first)
    with capture_logs() as logged:
        async with running(runner):
            await until(lambda: outcomes(runner, "completed") == 1)
    assert outcomes(runner, "failed") == failures
    assert runner._standings["sweep"].failures == 0
    assert [(line["event"], line["failures"]) for line in logged] == [
        ("job failed", 1),
        ("job failed", 2),
        ("job failed", 3),
    ]


def test_pauses_double_up_to_the_interval() -> None:
    async def nothing() -> None:
        return None

    runner = JobRunner(
        [Job("sweep", timedelta(seconds=20), nothing)],
        Metrics(),
        first_backoff=timedelta(seconds=1),
    )
    standing = runner._standings["sweep"]
    pauses = []
    for standing.failures in (1, 2, 3, 9, 10_000):
        pauses.append(runner._pause(standing, time.monotonic()))
    for pause, expected in zip(pauses, (1, 2, 4, 20, 20), strict=True):
        assert pause == pytest.approx(expected, rel=jobs.JITTER + 0.001)


async def test_a_run_is_a_trace_of_its_own_with_the_jobs_name_on_its_log_lines() -> None:
    traces = []

    async def work() -> None:
        traces.append(tracing.trace_id())

    async with running(a_runner(work, timedelta(milliseconds=1))):
        await until(lambda: len(traces) >= 2)
    assert None not in traces
    assert traces[0] != traces[1]


async def test_stop_lets_a_running_job_finish() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()
    finished = False

    async def slow() -> None:
        nonlocal finished
        begun.set()
        await finish.wait()
        finished = True

    runner = a_runner(slow)
    runner.start()
    await begun.wait()
    stopping = asyncio.create_task(runner.stop(timedelta(seconds=5)))
    await until(runner._stopping.is_set)
    finish.set()
    await stopping
    assert finished
    assert outcomes(runner, "completed") == 1


async def test_stop_cuts_off_a_job_that_does_not_finish_in_time() -> None:
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    runner = a_runner(endless)
    runner.start()
    await begun.wait()
    with capture_logs() as logged:
        await runner.stop(timedelta(milliseconds=20))
    assert [line["event"] for line in logged] == ["job cut off"]
    assert outcomes(runner, "cancelled") == 1
    assert all(task.done() for task in runner._tasks)


async def test_after_a_stop_nothing_runs_any_more() -> None:
    work = Counted()
    runner = a_runner(work.run, SOON)
    part = asyncio.create_task(runner.run())
    await work.reached(2)
    await runner.stop()
    await asyncio.wait_for(part, 5)
    runs = work.runs
    runner.wake("sweep")
    await asyncio.sleep(0)
    assert work.runs == runs


async def test_a_job_that_stopped_completing_turns_its_check_red() -> None:
    fail = False

    async def work() -> None:
        if fail:
            raise RuntimeError

    runner = a_runner(work)
    check = runner.dead_mans_switch("sweep", timedelta(minutes=5))
    async with running(runner):
        await until(lambda: outcomes(runner, "completed") == 1)
        assert check() is None
        standing = runner._standings["sweep"]
        assert standing.completed_at is not None
        standing.completed_at -= 301
        assert check() == "not completed for 301 s"
        fail = True
        runner.wake("sweep")
        with capture_logs():
            await until(lambda: outcomes(runner, "failed") >= 1)
        assert check() is not None
        fail = False
        await until(lambda: check() is None)


async def test_a_job_that_never_completed_counts_from_the_start() -> None:
    runner = a_runner(asyncio.Event().wait)
    runner._started_at -= 60
    assert runner.age("sweep") >= timedelta(seconds=60)
    assert runner.dead_mans_switch("sweep", timedelta(seconds=59))() is not None


def test_names_are_unique_and_known() -> None:
    work = Counted()
    with pytest.raises(ValueError, match="same name"):
        JobRunner([Job("a", HOUR, work.run), Job("a", HOUR, work.run)], Metrics())
    with pytest.raises(KeyError):
        a_runner(work.run).wake("unknown")
    with pytest.raises(KeyError):
        a_runner(work.run).dead_mans_switch("unknown", HOUR)()


async def test_moved_time_wakes_the_jobs_of_each_minute_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "LOOK_EVERY_SECONDS", 0.0)
    file, woken = tmp_path / "offset", list[str]()

    async def nothing() -> None:
        """Never run here."""

    jobs = [Job("remind", 60 * SOON, nothing), Job("tidy", HOUR, nothing)]
    job = notice_moved_time(
        OffsetClock(file), jobs, {name: partial(woken.append, name) for name in ("remind", "tidy")}
    )
    await job.run()
    assert woken == []
    file.write_text("86400")
    await job.run()
    await job.run()
    assert woken == ["remind"]
