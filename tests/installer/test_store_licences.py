"""What is stored of licences, and the one statement that finds their tenants."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import httpx2
import pytest

from chassis import reports
from chassis.clock import ManualClock
from chassis.unit_of_work import Units
from services.installer.domain.licences import LicenceName, Match, Step
from services.installer.door import Door
from services.installer.store import licences as store
from tests.installer.conftest import APP, OTHER_APP, Database
from tests.installer.licences import ENTITLEMENT, Office, a_licence, install, open_office

PAST = date(2026, 5, 2)
EVERY = {"every": timedelta(days=1), "full_every": timedelta(days=7)}


@pytest.fixture
async def office(
    database: Database, units: Units[Door], http: httpx2.AsyncClient, tmp_path: Path
) -> AsyncIterator[Office]:
    async with open_office(database, units, http, tmp_path) as opened:
        yield opened


async def begin(units: Units[Door]) -> reports.ReportBegun | None:
    async with units.begin() as uow:
        return await reports.begin_report(uow.connection, now=uow.now, wall=uow.wall, **EVERY)


async def test_every_step_of_the_join_finds_its_tenant_in_one_statement(
    units: Units[Door], database: Database
) -> None:
    by_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    by_number = await install(units, database, "two", entitlement_number="E-1")
    by_sen = await install(units, database, "three", sen="SEN-33")
    by_cloud = await install(units, database, "four")
    by_host = await install(units, database, "five")
    await database.owner.execute(
        "INSERT INTO aliases (tenant_id, kind, addon_key, name, live, present, heard_at)"
        " VALUES ($1, 'cloud-id', $2, 'cloud', true, true, $3)",
        by_cloud,
        APP,
        units.clock.now(),
    )
    licences = [
        a_licence("1", entitlement_id=ENTITLEMENT),
        a_licence("2", entitlement_number="E-1"),
        a_licence("33"),
        a_licence("4", cloud_id="cloud"),
        a_licence("5", site_host="five.atlassian.net"),
        a_licence("6", sen="SEN-6"),
    ]

    async with units.begin() as uow:
        found = await store.candidates_of(uow.connection, licences)

    assert [[each.tenant_id for each in found[licence.name]] for licence in licences] == [
        [by_id],
        [by_number],
        [by_sen],
        [by_cloud],
        [by_host],
        [],
    ]


async def test_nobody_who_is_purging_is_found(units: Units[Door], database: Database) -> None:
    await install(units, database, "one", entitlement_id=ENTITLEMENT)
    await database.owner.execute("UPDATE installations SET live = false")
    licence = a_licence(entitlement_id=ENTITLEMENT)

    async with units.begin() as uow:
        assert await store.candidates_of(uow.connection, [licence]) == {licence.name: []}


async def test_two_apps_may_have_licences_of_one_number(office: Office) -> None:
    other = a_licence()
    await office.take_up(a_licence(), a_licence(name=LicenceName(OTHER_APP, other.name.number)))

    assert await office.numbers() == ["100200", "100200"]


async def test_a_licence_that_is_read_again_keeps_whose_it_is(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    await office.take_up(a_licence(entitlement_id=ENTITLEMENT))
    clock.advance(timedelta(days=1))
    async with units.begin() as uow:
        await store.save_licences(
            uow.connection, [a_licence(status="inactive")], now=uow.now, last_day_past=PAST
        )
        [stored] = await store.read_licences(uow.connection, [a_licence().name])

    assert stored.match == Match(tenant_id, Step.ENTITLEMENT)
    assert stored.licence.status == "inactive"
    assert stored.first_seen_at == clock.now() - timedelta(days=1)


async def test_what_is_over_for_six_months_is_not_taken_up_but_heard_of_what_is_known(
    office: Office, units: Units[Door]
) -> None:
    over = a_licence(status="inactive", ends_on=PAST)
    async with units.begin() as uow:
        await store.save_licences(uow.connection, [over], now=uow.now, last_day_past=PAST)
        assert await store.read_licences(uow.connection, [over.name]) == []
    await office.take_up(a_licence())
    async with units.begin() as uow:
        await store.save_licences(uow.connection, [over], now=uow.now, last_day_past=PAST)
        [stored] = await store.read_licences(uow.connection, [over.name])

    assert stored.licence == over


async def test_one_worker_at_a_time_reads_the_report(
    units: Units[Door], clock: ManualClock
) -> None:
    first = await begin(units)

    assert first is not None
    assert first.updated_since is None
    assert await begin(units) is None
    clock.advance(timedelta(minutes=46))
    again = await begin(units)
    assert again is not None
    assert again.report_id == first.report_id


async def test_a_report_is_due_daily_with_overlap_and_whole_once_a_week(
    units: Units[Door], clock: ManualClock, database: Database
) -> None:
    whole = []
    for day in range(9):
        begun = await begin(units)
        assert begun is not None
        if begun.updated_since is None:
            whole.append(day)
        else:
            assert begun.updated_since == clock.wall().date() - timedelta(days=3)
        await reports.end_report(database.runtime, begun.report_id, now=clock.now())
        clock.advance(timedelta(hours=23))
        assert await begin(units) is None
        clock.advance(timedelta(hours=1))

    assert whole == [0, 7]


async def test_a_report_that_was_left_waits_as_long_as_it_was_asked_to(
    units: Units[Door], clock: ManualClock, database: Database
) -> None:
    first = await begin(units)
    assert first is not None
    await reports.leave_report(
        database.runtime, first.report_id, until=clock.wall() + timedelta(minutes=10)
    )

    assert await begin(units) is None
    clock.advance(timedelta(minutes=10))
    assert await begin(units) is not None


async def test_old_licences_of_nobody_old_hashes_and_old_readings_go(
    office: Office, database: Database, units: Units[Door], clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    over = {"status": "inactive", "ends_on": date(2026, 6, 1)}
    await office.take_up(
        a_licence("1", **over),
        a_licence("2"),
        a_licence("3", entitlement_id=ENTITLEMENT, **over),
        a_licence("4", status="cancelled", last_updated=date(2026, 6, 2)),
    )
    async with units.begin() as uow:
        await store.note_purged(uow.connection, [b"old"], now=clock.now())
    await office.read()
    clock.set(clock.now().replace(month=12, day=1))
    async with units.begin() as uow:
        await store.note_purged(uow.connection, [b"new"], now=clock.now())

    await office.jobs.tidy()

    assert await office.numbers() == ["2", "3", "4"]
    assert (await office.whose("3"))[0] == tenant_id
    clock.advance(timedelta(days=380))
    await office.jobs.tidy()
    assert set(await store.purged_at(database.runtime, [b"old", b"new"])) == {b"new"}
    assert await database.owner.fetchval("SELECT count(*) FROM licence_reports") == 0
    assert "4" not in await office.numbers()
