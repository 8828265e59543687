"""What the coming weeks bring, and the brake that compares a day with what was forecast for it."""

from datetime import UTC, date, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from contracts.purges import PurgeRequested, PurgeState
from services.purger.domain.brake import FORECAST_DAYS_AHEAD
from services.purger.figures import PurgeFigures
from services.purger.forecast import WEEKS_AHEAD, Day, Week, last_day, weeks_of
from services.purger.store import brake, forecast
from services.purger.watch import Watch
from tests.purger.builders import DAY, LEFT_AT, a_tenant
from tests.purger.conftest import Purger

THURSDAY = datetime(2026, 11, 26, 15, tzinfo=UTC)
MONDAY = date(2026, 11, 23)
A_WEEK = 7 * DAY


def test_days_add_up_to_weeks_from_monday_and_none_is_left_out() -> None:
    days = [
        Day(date(2026, 11, 29), 1, 0),
        Day(date(2026, 11, 30), 2, 5),
        Day(date(2026, 12, 6), 4, 0),
    ]

    weeks = weeks_of(days, THURSDAY)

    assert weeks[:3] == [
        Week(MONDAY, 1, 0),
        Week(MONDAY + A_WEEK, 6, 5),
        Week(MONDAY + 2 * A_WEEK, 0, 0),
    ]
    assert len(weeks) == WEEKS_AHEAD
    assert weeks[-1].begins + 6 * DAY == last_day(THURSDAY)


def test_what_was_due_before_today_is_due_today() -> None:
    weeks = weeks_of([Day(date(2026, 3, 1), 3, 2), Day(date(2026, 11, 24), 1, 1)], THURSDAY)

    assert weeks[0] == Week(MONDAY, 4, 3)


def test_six_months_from_any_day_are_within_the_forecast() -> None:
    for day in range(7):
        assert last_day(THURSDAY + day * DAY) >= date(2027, 5, 26) + day * DAY


async def days(purger: Purger) -> list[Day]:
    async with purger.units.begin() as uow:
        return await forecast.due_by_day(uow.connection, until=last_day(purger.clock.now()))


async def test_days_are_counted_in_utc_until_a_purge_is_over(purger: Purger) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT), a_tenant(left_at=LEFT_AT + DAY))
    plans = [state.plans[0] for state in await purger.said(PurgeState)]
    first, second = sorted(plans, key=lambda plan: plan.start_at)

    assert await days(purger) == [
        Day(first.start_at.date(), 1, 0),
        Day(second.start_at.date(), 1, 0),
        Day(first.erase_by.date(), 0, 1),
        Day(second.erase_by.date(), 0, 1),
    ]
    purger.clock.set(first.start_at)
    await purger.sweeps.ask_for_due_purges()
    assert [day.starting for day in await days(purger)] == [1, 0, 0]


@pytest.fixture
def watch(purger: Purger) -> Watch:
    return Watch(purger.units, PurgeFigures(CollectorRegistry()))


async def forecast_of(purger: Purger, day: date) -> int | None:
    async with purger.units.begin() as uow:
        return await forecast.forecast_of(uow.connection, day)


async def test_a_days_forecast_is_made_a_week_before_and_then_kept(
    purger: Purger, watch: Watch
) -> None:
    await purger.hear(*[a_tenant(left_at=LEFT_AT) for _ in range(3)])
    day = (await purger.state()).plans[0].start_at.date()
    purger.clock.set(datetime.combine(day, LEFT_AT.timetz()) - (FORECAST_DAYS_AHEAD + 1) * DAY)
    await watch.note_forecast()
    assert await forecast_of(purger, day) is None

    purger.clock.advance(DAY)
    await watch.note_forecast()
    await purger.hear(a_tenant(left_at=LEFT_AT))
    purger.clock.advance(DAY)
    await watch.note_forecast()

    assert await forecast_of(purger, day) == 3
    assert await forecast_of(purger, day + DAY) == 3, "what is counted may be of the day before"
    assert await forecast_of(purger, day - DAY) == 0
    assert await forecast_of(purger, day + 30 * DAY) is None


async def test_old_forecasts_are_forgotten(purger: Purger, watch: Watch) -> None:
    await watch.note_forecast()
    purger.clock.advance(60 * DAY)

    await watch.note_forecast()

    assert await purger.runtime.fetchval("SELECT count(*) FROM forecasts") == FORECAST_DAYS_AHEAD


async def test_what_floods_in_after_the_forecast_is_held(purger: Purger, watch: Watch) -> None:
    # Under 2 % of all tenants, so that the other rule says nothing.
    await purger.hear(*[a_tenant() for _ in range(600)])
    await purger.hear(*[a_tenant(left_at=LEFT_AT) for _ in range(3)])
    start_at = (await purger.state()).plans[0].start_at
    await purger.sweeps.ask_for_due_purges()
    purger.clock.set(start_at - 3 * DAY)
    await watch.note_forecast()
    await purger.hear(*[a_tenant(left_at=LEFT_AT) for _ in range(7)])
    purger.clock.set(start_at + timedelta(seconds=1))

    await purger.sweeps.ask_for_due_purges()

    assert await purger.said(PurgeRequested) == []
    async with purger.units.begin() as uow:
        assert (await brake.read_brake(uow.connection)).reason == "more-than-forecast"


async def test_three_times_the_forecast_may_still_leave(purger: Purger, watch: Watch) -> None:
    await purger.hear(*[a_tenant() for _ in range(600)])
    await purger.hear(*[a_tenant(left_at=LEFT_AT) for _ in range(4)])
    start_at = (await purger.state()).plans[0].start_at
    await purger.sweeps.ask_for_due_purges()
    purger.clock.set(start_at - 3 * DAY)
    await watch.note_forecast()
    await purger.hear(*[a_tenant(left_at=LEFT_AT) for _ in range(7)])
    purger.clock.set(start_at + timedelta(seconds=1))

    await purger.sweeps.ask_for_due_purges()

    assert len(await purger.said(PurgeRequested)) == 11
