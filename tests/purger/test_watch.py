"""Warnings before a purge is late, what is counted, and the switch of a dead man."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from contracts.purges import PurgeStarted
from services.purger.figures import PurgeFigures
from services.purger.watch import Watch
from tests.purger.builders import DAY, LEFT_AT, a_tenant, answer
from tests.purger.conftest import Purger

MINUTE = timedelta(minutes=1)


class Watched:
    """The watch, and the figures that it keeps."""

    def __init__(self, purger: Purger) -> None:
        self.registry = CollectorRegistry()
        self.watch = Watch(purger.units, PurgeFigures(self.registry))

    def figure(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"keepword_{name}", labels)

    async def escalate(self) -> list[tuple[str, str, list[str]]]:
        """Escalate, and return what was said of which level with which open steps."""
        with capture_logs() as lines:
            await self.watch.escalate()
        assert all(line["log_level"] == "error" for line in lines)
        return [(line["event"], str(line["level"]), line["open_steps"]) for line in lines]


@pytest.fixture
def watched(purger: Purger) -> Watched:
    return Watched(purger)


async def last_day(purger: Purger) -> datetime:
    return (await purger.state()).plans[0].erase_by


async def test_a_running_purge_is_escalated_once_at_each_level(
    purger: Purger, watched: Watched
) -> None:
    orders = await purger.begin()
    erase_by = await last_day(purger)
    open_steps = sorted([*(order.step for order in orders), "erase-contacts"])
    said = []
    for before in (7 * DAY + MINUTE, 7 * DAY, 5 * DAY, 2 * DAY, timedelta(), -DAY):
        purger.clock.set(erase_by - before)
        said.append(await watched.escalate())
        assert await watched.escalate() == []

    assert said == [
        [],
        [("purge may be late", "seven-days", open_steps)],
        [("purge may be late", "five-days", open_steps)],
        [("purge may be late", "two-days", open_steps)],
        [("purge is overdue", "overdue", open_steps)],
        [],
    ]


async def test_after_a_silence_only_the_gravest_level_is_said(
    purger: Purger, watched: Watched
) -> None:
    await purger.ask()
    purger.clock.set(await last_day(purger) - DAY)

    assert await watched.escalate() == [("purge may be late", "two-days", [])]


async def test_a_purge_that_nobody_asks_for_is_escalated_as_well(
    purger: Purger, watched: Watched
) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT))
    purger.clock.set(await last_day(purger))

    assert await watched.escalate() == [("purge is overdue", "overdue", [])]


async def test_a_warning_names_ids_and_nothing_else_of_a_tenant(
    purger: Purger, watched: Watched
) -> None:
    asked = await purger.ask()
    purger.clock.set(await last_day(purger))

    with capture_logs() as lines:
        await watched.watch.escalate()

    assert lines[0].keys() == {
        "event",
        "log_level",
        "purge_id",
        "level",
        "phase",
        "erase_by",
        "open_steps",
    }
    assert lines[0]["purge_id"] == str(asked.purge_id)


async def test_a_receipt_with_an_open_step_is_no_success(purger: Purger, watched: Watched) -> None:
    installer, *others = await purger.begin()
    for order in others:
        await purger.hear(answer(order, purger.clock.now()))
    erase_by = await last_day(purger)
    purger.clock.set(erase_by - 5 * DAY)
    await purger.sweeps.write_late_receipts()
    contacts = (await purger.said(PurgeStarted))[-1]
    await purger.hear(answer(contacts, purger.clock.now()))
    purger.clock.set(erase_by)

    await watched.watch.count_purges()

    assert await watched.escalate() == [("purge is overdue", "overdue", [installer.step])]
    assert watched.figure("purges", phase="closed") == 0
    assert watched.figure("purges_overdue") == 1
    await purger.hear(answer(installer, purger.clock.now()))
    await watched.watch.count_purges()
    assert watched.figure("purges", phase="closed") == 1
    assert watched.figure("purges_overdue") == 0


async def test_the_brake_shows_while_it_is_on(purger: Purger, watched: Watched) -> None:
    for is_on in (0, 1, 0):
        await purger.runtime.execute(
            "UPDATE brake SET engaged_at = CASE WHEN $1 THEN now() END", bool(is_on)
        )
        await watched.watch.count_purges()
        assert watched.figure("brake_engaged") == is_on


async def test_what_is_finished_withdrawn_or_not_due_is_nobodys_warning(
    purger: Purger, watched: Watched
) -> None:
    (contacts,) = await purger.finish_wave_one()
    await purger.hear(answer(contacts, purger.clock.now()))
    gone = a_tenant(left_at=LEFT_AT)
    await purger.hear(gone)
    await purger.hear(gone.model_copy(update={"departure": None, "version": _next(gone)}))
    purger.clock.set(await last_day_of_all(purger) + DAY)
    await purger.hear(a_tenant(left_at=purger.clock.now()))

    assert await watched.escalate() == []
    await watched.watch.count_purges()
    counted = {
        phase: watched.figure("purges", phase=phase)
        for phase in ("planned", "requested", "erasing", "erased", "closed", "withdrawn")
    }
    assert counted == {
        "planned": 1,
        "requested": 0,
        "erasing": 0,
        "erased": 0,
        "closed": 1,
        "withdrawn": 1,
    }
    assert watched.figure("purges_overdue") == 0


def _next(tenant: Any) -> Any:
    return tenant.version.model_copy(update={"n": tenant.version.n + 1})


async def last_day_of_all(purger: Purger) -> datetime:
    found: datetime = await purger.runtime.fetchval("SELECT max(erase_by) FROM purges")
    return found


async def test_levels_are_counted_each_purge_at_its_gravest(
    purger: Purger, watched: Watched
) -> None:
    for days in (0, 4, 6, 20):
        await purger.hear(a_tenant(left_at=LEFT_AT + days * DAY))
    erase_by: datetime = await purger.runtime.fetchval("SELECT min(erase_by) FROM purges")
    purger.clock.set(erase_by)

    await watched.watch.count_purges()

    counted = {
        level: watched.figure("purges_escalated", level=level)
        for level in ("seven-days", "five-days", "two-days", "overdue")
    }
    assert counted == {"seven-days": 1, "five-days": 1, "two-days": 0, "overdue": 1}


async def test_a_purge_that_is_forgotten_takes_its_warnings_along(
    purger: Purger, watched: Watched
) -> None:
    await purger.ask()
    purger.clock.set(await last_day(purger))
    await watched.watch.escalate()
    await purger.runtime.execute("DELETE FROM purges")

    assert await purger.runtime.fetchval("SELECT count(*) FROM escalations") == 0


async def test_an_hour_without_a_sweep_is_noticed(purger: Purger, watched: Watched) -> None:
    await purger.sweeps.ask_for_due_purges()
    purger.clock.advance(60 * MINUTE)
    await watched.watch.count_purges()
    assert watched.watch.nobody_sweeps() is None
    assert watched.figure("last_sweep_timestamp_seconds") == LEFT_AT.timestamp()

    purger.clock.advance(MINUTE)

    assert watched.watch.nobody_sweeps() == "nobody has looked for due purges for 61 minutes"
    await purger.sweeps.ask_for_due_purges()
    await watched.watch.count_purges()
    assert watched.watch.nobody_sweeps() is None


async def test_where_nobody_ever_swept_the_start_counts(purger: Purger, watched: Watched) -> None:
    await watched.watch.count_purges()
    assert watched.watch.nobody_sweeps() is None

    purger.clock.advance(61 * MINUTE)

    assert watched.watch.nobody_sweeps() is not None
