"""Licences that were tenants of their own, and the installations that take them over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.clock import ManualClock
from chassis.unit_of_work import Units
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import GENESIS, EntryKind, LedgerEntry, Receipt, ReceiptStage
from contracts.purges import PurgeRequested, PurgeStarted, Scope
from contracts.tenants import (
    ClassState,
    DepartureKind,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
)
from services.installer.door import Door, hear_uninstalled
from services.installer.handlers import decide_purge, follow_ledger, start_erasure
from services.installer.store import licences as store
from services.installer.subscriptions import join_licences, renew_subscriptions
from tests.installer.conftest import APP, Database
from tests.installer.licences import ENTITLEMENT, Office, a_licence, a_row, install, open_office

DAY = timedelta(days=1)


@pytest.fixture
async def office(
    database: Database, units: Units[Door], http: httpx2.AsyncClient, tmp_path: Path
) -> AsyncIterator[Office]:
    async with open_office(database, units, http, tmp_path) as opened:
        yield opened


@pytest.fixture
async def alone(office: Office, clock: ManualClock) -> UUID:
    """The tenant of a cloud licence that waited in vain for its installation."""
    office.holds(a_row(appEntitlementId=ENTITLEMENT, cloudSiteHostname="one.atlassian.net"))
    await office.read()
    clock.advance(14 * DAY)
    await office.jobs.match()
    return await office.tenant_named()


async def begin_purge(
    units: Units[Door], tenant: TenantState, classes: tuple[DataClass, ...] = TENANT_CLASSES
) -> PurgeRequested:
    request = PurgeRequested(
        purge_id=uuid4(),
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=tenant.version,
        classes=classes,
    )
    async with units.begin() as uow:
        await decide_purge(request, uow)
    return request


async def close_purge(units: Units[Door], request: PurgeRequested) -> None:
    """As the ledger says when every owner has answered."""
    now = units.clock.now()
    entry = LedgerEntry(
        number=1,
        kind=EntryKind.RECEIPT,
        at=now,
        purge_id=request.purge_id,
        classes=request.classes,
        receipt=Receipt(
            stage=ReceiptStage.CLOSED,
            receipt_code="Rm9yIHdob2V2ZXIgaGFzIGl0",
            steps=(),
            deadline=now,
            erase_by=now,
        ),
        previous_hash=GENESIS,
        hash=GENESIS,
        signature="A" * 86,
        key_id="key",
    )
    async with units.begin() as uow:
        await follow_ledger(entry, uow)


async def told_of(database: Database, tenant_id: UUID) -> list[str]:
    """A tenant's timeline."""
    rows = await database.owner.fetch(
        "SELECT what FROM timelines WHERE tenant_id = $1 ORDER BY entry_id", tenant_id
    )
    return [row["what"] for row in rows]


async def test_a_licence_moves_to_who_installs_later_and_its_own_tenant_closes(
    office: Office, alone: UUID, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "two", entitlement_id=ENTITLEMENT)

    assert await office.jobs.match() == 1

    assert await office.whose() == (tenant_id, "entitlement", False)
    assert (await office.state(tenant_id)).subscription.status is SubscriptionStatus.ACTIVE
    closed = await office.state(alone)
    assert closed.merged_into == tenant_id
    assert closed.status is TenantStatus.UNINSTALLED
    assert closed.departure is not None
    assert closed.departure.how is DepartureKind.SUPERSEDED
    assert closed.departure.at == clock.now()
    assert closed.subscription.status is SubscriptionStatus.NONE
    assert closed.licence_numbers == ()
    assert await office.types(alone) == ["tenant-updated", "tenant-uninstalled"]
    assert await told_of(database, alone) == ["merged"]
    assert await office.jobs.match() == 0
    assert len(await database.said(alone)) == 2


async def test_the_report_itself_finds_the_later_install(
    office: Office, alone: UUID, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "two", entitlement_id=ENTITLEMENT)

    assert await office.read() == 1

    assert (await office.state(alone)).merged_into == tenant_id


async def test_a_guess_merges_nobody(
    office: Office, alone: UUID, units: Units[Door], database: Database
) -> None:
    await install(units, database, "one")

    assert await office.jobs.match() == 0

    assert await office.whose() == (alone, "itself", False)
    assert (await office.state(alone)).merged_into is None


async def test_a_tenant_that_was_taken_over_goes_without_a_trace_of_its_licence(
    office: Office, alone: UUID, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "two", entitlement_id=ENTITLEMENT)
    await office.jobs.match()
    request = await begin_purge(units, await office.state(alone))
    assert (await office.state(alone)).merged_into == tenant_id
    async with units.begin() as uow:
        await start_erasure(
            PurgeStarted(
                purge_id=request.purge_id,
                step="erase-installer",
                wave=1,
                tenant_id=alone,
                owner="installer",
                classes=(DataClass.INSTALLATION,),
                ledger_number=1,
                merged_into=tenant_id,
            ),
            uow,
        )
    await database.forget_said()
    assert await database.eraser_job(units).run() == 1
    await close_purge(units, request)

    assert await database.status(alone) is None
    assert (await database.said(alone))[-1].message is None
    assert await office.whose() == (tenant_id, "entitlement", False)
    assert await database.owner.fetchval("SELECT count(*) FROM purged_licences") == 0


async def test_a_licence_that_ended_alone_leaves_a_hash_when_its_tenant_is_purged(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    over = {"hosting": "Server", "status": "inactive", "maintenanceEndDate": "2026-11-01"}
    office.holds(a_row(**over))
    await office.read()
    tenant_id = await office.tenant_named()
    request = await begin_purge(units, await office.state(tenant_id))
    await close_purge(units, request)

    assert await database.status(tenant_id) is None
    assert await office.numbers() == []
    assert await database.owner.fetchval("SELECT count(*) FROM purged_licences") == 1
    clock.advance(DAY)
    office.holds(a_row(**over, lastUpdated="2026-11-03"))
    await office.read()
    assert await office.numbers() == []


async def test_people_who_stayed_for_their_licence_move_to_the_new_installation(
    office: Office, units: Units[Door], database: Database
) -> None:
    first = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    await office.take_up(a_licence(entitlement_id=ENTITLEMENT))
    await hear_uninstalled(units, APP, "one")
    await begin_purge(units, await office.state(first), Scope.SERVICE_DATA.classes)
    assert await office.jobs.match() == 0
    assert await office.whose() == (first, "itself", False)

    second = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    assert await office.jobs.match() == 1

    assert second != first
    assert await office.whose() == (second, "entitlement", False)
    closed = await office.state(first)
    assert closed.merged_into == second
    assert closed.status is TenantStatus.PURGING
    assert closed.classes[DataClass.CONTACTS] is ClassState.LIVE
    # Its timeline is being erased, so nothing is added to it.
    assert "merged" not in await told_of(database, first)


async def test_an_import_of_a_site_merges_nobody(
    office: Office, units: Units[Door], database: Database
) -> None:
    first = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    await office.take_up(a_licence(entitlement_id=ENTITLEMENT))
    await hear_uninstalled(units, APP, "one")
    second = await install(units, database, "two", entitlement_id=ENTITLEMENT)

    await office.take_up(a_licence(entitlement_id=ENTITLEMENT))

    assert await office.whose() == (second, "entitlement", False)
    left = await office.state(first)
    assert left.merged_into is None
    assert left.subscription.status is SubscriptionStatus.NONE


async def test_a_tenant_with_another_licence_is_not_empty(
    office: Office, units: Units[Door], database: Database
) -> None:
    first = await install(units, database, "one", entitlement_id=ENTITLEMENT, sen="SEN-22")
    await office.take_up(a_licence("1", entitlement_id=ENTITLEMENT), a_licence("2", sen="22"))
    await hear_uninstalled(units, APP, "one")
    await begin_purge(units, await office.state(first), Scope.SERVICE_DATA.classes)
    second = await install(units, database, "two", entitlement_id=ENTITLEMENT)

    assert await office.jobs.match() == 1

    assert (await office.state(first)).merged_into is None
    assert await office.whose("1") == (second, "entitlement", False)
    assert await office.whose("2") == (first, "itself", False)
    third = await install(units, database, "three", sen="SEN-22")
    assert await office.jobs.match() == 1
    assert (await office.state(first)).merged_into == third


async def test_who_is_closed_is_not_renewed_any_more(
    office: Office, alone: UUID, units: Units[Door], database: Database
) -> None:
    await install(units, database, "two", entitlement_id=ENTITLEMENT)
    await office.jobs.match()
    said = await office.types(alone)
    async with units.begin() as uow:
        await renew_subscriptions(uow, [alone])

    assert await office.types(alone) == said


async def test_people_on_their_way_out_are_not_called_back_by_a_later_install(
    office: Office, units: Units[Door], database: Database
) -> None:
    office.holds(
        a_row(
            appEntitlementId=ENTITLEMENT,
            hosting="Server",
            status="inactive",
            maintenanceEndDate="2026-11-01",
        )
    )
    await office.read()
    tenant_id = await office.tenant_named()
    await begin_purge(units, await office.state(tenant_id))
    await install(units, database, "two", entitlement_id=ENTITLEMENT)

    assert await office.jobs.match() == 1

    assert (await office.state(tenant_id)).merged_into is None
    assert await database.status(tenant_id) == "purging"


async def test_many_workers_close_a_tenant_once(
    office: Office, units: Units[Door], database: Database
) -> None:
    numbers = [f"{n:03}" for n in range(30)]
    office.holds(
        *[a_row(each, hosting="Server", appEntitlementId=f"id-{each}") for each in numbers]
    )
    await office.read()
    lone = [await office.tenant_named(each) for each in numbers]
    heirs = [
        await install(units, database, f"site{each}", entitlement_id=f"id-{each}")
        for each in numbers
    ]
    names = [a_licence(each).name for each in numbers]

    async def join(backwards: bool) -> None:
        async with units.begin() as uow:
            await join_licences(uow, names[::-1] if backwards else names)

    await asyncio.gather(*(join(n % 2 == 0) for n in range(4)))

    for tenant_id, heir in zip(lone, heirs, strict=True):
        assert await office.types(tenant_id) == ["tenant-updated", "tenant-uninstalled"]
        assert (await office.state(tenant_id)).merged_into == heir


async def test_a_licence_is_not_given_to_a_tenant_that_begins_to_purge_meanwhile(
    office: Office, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    async with units.begin() as uow:
        await store.save_licences(
            uow.connection,
            [a_licence(entitlement_id=ENTITLEMENT)],
            now=uow.now,
            last_day_past=date(2026, 1, 1),
        )
    async with units.begin() as purging:
        await purging.connection.execute(
            "SELECT FROM tenants WHERE tenant_id = $1 FOR UPDATE", tenant_id
        )
        matching = asyncio.create_task(office.jobs.match())
        await _until_somebody_waits(database)
        await purging.connection.execute("UPDATE tenants SET status = 'purging'")
        await purging.connection.execute("UPDATE installations SET live = false")

    assert await matching == 0
    assert await office.whose() == (None, None, False)


async def _until_somebody_waits(database: Database) -> None:
    while not await database.owner.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    ):
        await asyncio.sleep(0.01)
