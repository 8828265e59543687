"""The six-month rule, against two independent implementations of calendar months."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given
from hypothesis import strategies as st

from contracts.deadlines import add_months, deadline, local_date
from devstack.postgres import RunningPostgres

EVERY_DAY = [date(2019, 12, 31) + timedelta(days=n) for n in range(366 * 41)]

instants = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - the zone is drawn below
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - likewise
    timezones=st.timezones(),
)
dates = st.dates(min_value=date(1970, 1, 1), max_value=date(2200, 1, 1))


@given(instants)
def test_it_is_never_later_than_six_months_by_dateutil(instant: datetime) -> None:
    in_utc = instant.astimezone(UTC)

    assert deadline(instant) <= in_utc + relativedelta(months=6)


async def test_it_is_never_later_than_six_months_by_postgresql(postgres: RunningPostgres) -> None:
    step = timedelta(hours=7, minutes=13, seconds=29, microseconds=1)
    start = datetime(2019, 12, 31, tzinfo=UTC)
    moments = [start + n * step for n in range(50_000)]
    edges = [datetime.combine(day, time.max, tzinfo=UTC) for day in EVERY_DAY]

    connection = await asyncpg.connect(
        postgres.superuser_url(), server_settings={"timezone": "UTC"}
    )
    try:
        rows = await connection.fetch(
            """
            SELECT moment, moment + interval '6 months' AS at_the_latest,
                   (day + interval '6 months')::date AS six_months_on, day
              FROM unnest($1::timestamptz[], $2::date[]) AS given (moment, day)
            """,
            [*moments, *edges],
            [local_date(moment) for moment in (*moments, *edges)],
        )
    finally:
        await connection.close()

    assert len(rows) == len(moments) + len(edges)
    for row in rows:
        assert deadline(row["moment"]) <= row["at_the_latest"]
        assert deadline(row["day"]).date() == row["six_months_on"]


@given(instants, st.timezones())
def test_it_is_never_later_than_the_start_of_the_day_six_months_on_anywhere(
    instant: datetime, zone: ZoneInfo
) -> None:
    there = instant.astimezone(zone).date() + relativedelta(months=6)

    assert deadline(instant).date() <= there


@given(instants)
def test_it_is_181_to_184_days_after_the_local_date(instant: datetime) -> None:
    days = (deadline(instant).date() - local_date(instant)).days

    assert 181 <= days <= 184


def test_every_day_of_forty_years_agrees_with_dateutil_and_spans_181_to_184_days() -> None:
    spans = set()
    for day in EVERY_DAY:
        assert add_months(day, 6) == day + relativedelta(months=6)
        spans.add((add_months(day, 6) - day).days)

    assert spans == {181, 182, 183, 184}


@given(dates, dates)
def test_a_later_start_never_has_an_earlier_deadline(one: date, other: date) -> None:
    first, second = sorted([one, other])

    assert deadline(first) <= deadline(second)


@given(dates, st.integers(min_value=-600, max_value=600))
def test_months_are_added_as_dateutil_adds_them(day: date, months: int) -> None:
    assert add_months(day, months) == day + relativedelta(months=months)


@given(instants)
def test_it_is_midnight_in_utc(instant: datetime) -> None:
    assert deadline(instant).isoformat().endswith("T00:00:00+00:00")


@given(dates)
def test_a_bare_date_counts_as_itself(day: date) -> None:
    assert local_date(day) == day
    assert deadline(day).date() == day + relativedelta(months=6)


@given(instants)
def test_the_same_instant_in_another_zone_has_the_same_deadline(instant: datetime) -> None:
    assert deadline(instant) == deadline(instant.astimezone(UTC))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-08-28", "2027-02-28"),
        ("2026-08-29", "2027-02-28"),
        ("2026-08-30", "2027-02-28"),
        ("2026-08-31", "2027-02-28"),
        ("2027-08-29", "2028-02-29"),
        ("2027-08-31", "2028-02-29"),
        ("2026-09-30", "2027-03-30"),
        ("2028-02-29", "2028-08-29"),
        ("2026-12-31", "2027-06-30"),
        ("2026-10-31", "2027-04-30"),
        ("2026-07-01", "2027-01-01"),
        ("2026-06-30", "2026-12-30"),
    ],
)
def test_month_ends_and_leap_days_are_clamped(start: str, end: str) -> None:
    assert deadline(date.fromisoformat(start)) == datetime.fromisoformat(f"{end}T00:00:00Z")


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-08-31T12:00:00Z", "2026-08-31"),
        ("2026-08-31T11:59:59.999999Z", "2026-08-30"),
        ("2026-09-01T01:30:00+14:00", "2026-08-30"),
        ("2026-08-31T00:00:00-12:00", "2026-08-31"),
        ("2026-08-31T23:59:59-12:00", "2026-08-31"),
        ("2028-03-01T11:00:00Z", "2028-02-29"),
    ],
)
def test_the_local_date_is_the_earliest_on_earth(instant: str, day: str) -> None:
    assert local_date(datetime.fromisoformat(instant)) == date.fromisoformat(day)


@given(instants, st.integers(min_value=-12, max_value=14))
def test_no_zone_has_an_earlier_date(instant: datetime, hours: int) -> None:
    assert local_date(instant) <= instant.astimezone(timezone(timedelta(hours=hours))).date()


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        deadline(datetime(2026, 8, 31))  # noqa: DTZ001 - the missing zone is the subject
