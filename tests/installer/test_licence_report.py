"""The report is read from the Marketplace over HTTP, and tenants hear what it says of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from structlog.testing import capture_logs

from chassis.clock import ManualClock
from chassis.unit_of_work import Units
from connect.marketplace import ReportAway, ReportRefused
from contracts.classes import DataClass
from contracts.purges import PurgeRequested
from contracts.tenants import Platform, SubscriptionStatus, TenantStatus
from devstack.atlassian.marketplace import TOKEN
from services.installer.door import Door, hear_uninstalled
from services.installer.handlers import decide_purge
from services.installer.jobs.licences import LicenceJobs
from services.installer.settings import InstallerSettings
from services.installer.store import licences as store
from services.installer.subscriptions import (
    licence_hash,
    note_purged_licences,
    renew_subscriptions,
)
from tests.installer.conftest import APP, Database, MakeSettings, StartInstaller
from tests.installer.licences import ENTITLEMENT, Office, a_licence, a_row, install, open_office
from tests.support.chassis import suppressed

DAY = timedelta(days=1)


@pytest.fixture
async def office(
    database: Database, units: Units[Door], http: httpx2.AsyncClient, tmp_path: Path
) -> AsyncIterator[Office]:
    async with open_office(database, units, http, tmp_path) as opened:
        yield opened


async def hear_from_site(database: Database, tenant_id: UUID, active: bool, at: datetime) -> None:
    """As the sweep of the sites writes it down."""
    await database.owner.execute(
        """
        INSERT INTO access_checks (tenant_id, addon_key, due_at, last_seen_at, licence_active,
                                   licence_heard_at, licence_inactive_since)
        VALUES ($1, $2, $3, $3, $4, $3, CASE WHEN NOT $4 THEN $3::timestamptz END)
        ON CONFLICT (tenant_id) DO UPDATE
           SET licence_active = excluded.licence_active,
               licence_inactive_since = excluded.licence_inactive_since
        """,
        tenant_id,
        APP,
        at,
        active,
    )


# -- reading it -----------------------------------------------------------------------------------


async def test_the_report_is_read_stored_and_joined_without_its_people(
    office: Office, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    office.holds(
        a_row("1", appEntitlementId=ENTITLEMENT, licenseId="SEN-77"),
        a_row("2"),
        a_row("3", addonKey="com.example.unknown"),
        a_row("4", status="odd"),
        a_row("", licenseId=None),
    )

    assert await office.read() == 4

    assert await office.numbers() == ["1", "2"]
    assert await office.whose("1") == (tenant_id, "entitlement", False)
    assert await office.whose("2") == (None, None, False)
    report = await office.report()
    assert (report["rows_read"], report["rows_unreadable"]) == (4, 2)
    assert report["ended_at"] is not None
    state = await office.state(tenant_id)
    assert state.subscription.status is SubscriptionStatus.ACTIVE
    assert state.licence_numbers == ("1", "SEN-77")
    assert await office.types(tenant_id) == ["tenant-installed", "tenant-updated"]
    everything = str(await database.owner.fetch("SELECT * FROM licences"))
    assert "person@customer.example" not in everything


async def test_a_report_that_was_read_today_is_not_read_again(office: Office) -> None:
    office.holds(a_row())
    await office.read()
    asked = office.marketplace.requests

    assert await office.read() is None
    assert office.marketplace.requests == asked


async def test_the_next_day_only_what_changed_is_asked_for(
    office: Office, clock: ManualClock
) -> None:
    office.holds(a_row("1", lastUpdated="2026-10-01"), a_row("2"))
    assert await office.read() == 2
    clock.advance(DAY)

    assert await office.read() == 1
    assert (await office.report())["updated_since"] == date(2026, 10, 31)


async def test_reading_the_same_again_says_nothing(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    office.holds(a_row(appEntitlementId=ENTITLEMENT))
    await office.read()
    said = await office.types(tenant_id)
    clock.advance(8 * DAY)

    assert await office.read() == 1
    assert await office.types(tenant_id) == said


async def test_a_run_that_was_broken_off_is_begun_again(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    await install(units, database, "one", entitlement_id=ENTITLEMENT)
    office.holds(*[a_row(f"{n:04}") for n in range(300)])
    office.has(exports_refused=True, broken=0)
    pages = 0

    async def broken_after_two_pages(self: Any, report: Any, batch: Any) -> dict[str, int]:
        nonlocal pages
        pages += 1
        if pages > 2:
            raise asyncio.CancelledError
        return await take_up(self, report, batch)

    take_up = LicenceJobs._take_up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LicenceJobs, "_take_up", broken_after_two_pages)
        with pytest.raises(asyncio.CancelledError):
            await office.read()
    assert len(await office.numbers()) == 100
    assert await office.read() is None

    clock.advance(timedelta(minutes=46))

    assert await office.read() == 300
    assert len(await office.numbers()) == 300
    assert (await office.report())["rows_read"] == 300
    assert await database.owner.fetchval("SELECT count(*) FROM licence_reports") == 1


async def test_a_marketplace_that_asks_for_a_long_pause_gets_it(
    office: Office, clock: ManualClock
) -> None:
    office.holds(a_row())
    office.has(throttled=1, retry_after="1800")
    with pytest.raises(ReportAway):
        await office.read()
    asked = office.marketplace.requests

    clock.advance(timedelta(minutes=29))
    assert await office.read() is None
    assert office.marketplace.requests == asked
    clock.advance(timedelta(minutes=2))
    assert await office.read() == 1


async def test_a_marketplace_that_is_away_is_asked_again_by_the_next_run(office: Office) -> None:
    office.holds(a_row())
    office.has(broken=6)
    with pytest.raises(ReportAway):
        await office.read()

    assert await office.read() == 1


async def test_an_account_that_is_refused_is_left_alone_for_an_hour_and_never_logged(
    office: Office, clock: ManualClock
) -> None:
    office.source.token_file.write_text("another-token", "utf-8")
    with capture_logs() as logs, pytest.raises(ReportRefused) as refused:
        await office.read()

    assert "another-token" not in f"{logs} {refused.value!r} {office.source!r}"
    assert TOKEN not in repr(office.source)
    office.source.token_file.write_text(TOKEN, "utf-8")
    assert await office.read() is None
    clock.advance(timedelta(hours=1))
    assert await office.read() == 0


async def test_without_an_account_nothing_is_read_and_that_is_said_once(
    units: Units[Door], office: Office
) -> None:
    alone = LicenceJobs(units, frozenset({APP}), None, office.jobs.figures)

    with capture_logs() as logs:
        names = [job.name for job in alone.jobs()]

    assert "read licence report" not in names
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_the_marketplace_is_named_whole_or_not_at_all(make_settings: MakeSettings) -> None:
    with pytest.raises(ValueError, match="KEEPWORD_MARKETPLACE_TOKEN_FILE"):
        make_settings(marketplace_account="reports@vendor.example")
    with pytest.raises(ValueError):
        make_settings(marketplace_url="http://marketplace.example")
    whole = make_settings(
        marketplace_account="reports@vendor.example",
        marketplace_developer_id="one-two",
        marketplace_token_file=Path("token"),
    )
    assert isinstance(whole, InstallerSettings)
    assert "reports@vendor.example" not in repr(whole)


async def test_figures_tell_matched_licences_and_the_age_of_the_report(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    await install(units, database, "one", entitlement_id=ENTITLEMENT)
    office.holds(
        a_row("1", appEntitlementId=ENTITLEMENT),
        a_row("2", cloudSiteHostname="one.atlassian.net"),
        a_row("3"),
        a_row("4", status="odd"),
    )
    await office.read()
    clock.advance(timedelta(minutes=5))

    await office.jobs.measure()

    figures = {
        kind: office.registry.get_sample_value(
            "keepword_licences", {"addon_key": APP, "matched": kind}
        )
        for kind in ("strong", "weak", "none")
    }
    assert figures == {"strong": 1, "weak": 1, "none": 1}
    assert office.registry.get_sample_value("keepword_licence_report_age_seconds") == 300
    assert office.registry.get_sample_value("keepword_licence_report_rows_unreadable") == 1


# -- what it means for tenants ----------------------------------------------------------------------


async def test_a_subscription_ends_and_is_renewed(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    licence = {"appEntitlementId": ENTITLEMENT}
    office.holds(a_row(**licence))
    await office.read()
    clock.advance(DAY)
    office.holds(a_row(**licence, status="inactive", maintenanceEndDate="2026-11-02"))
    await office.read()

    over = await office.state(tenant_id)
    assert over.subscription.status is SubscriptionStatus.ENDED
    assert over.subscription.ended_at == datetime(2026, 11, 2, 12, tzinfo=UTC)
    clock.advance(DAY)
    office.holds(a_row(**licence, lastUpdated="2026-11-03"))
    await office.read()
    assert (await office.state(tenant_id)).subscription.status is SubscriptionStatus.ACTIVE
    assert await office.types(tenant_id) == [
        "tenant-installed",
        "tenant-updated",
        "subscription-ended",
        "subscription-renewed",
    ]


async def test_a_guess_is_flagged_and_says_nothing_to_others(
    office: Office, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "one")
    await office.take_up(a_licence(site_host="one.atlassian.net"))

    assert await office.whose() == (tenant_id, "host", True)
    assert await office.types(tenant_id) == ["tenant-installed"]
    await database.owner.execute("UPDATE installations SET base_url = 'https://x.atlassian.net'")
    await office.jobs.match()
    assert await office.whose() == (None, None, False)


async def test_a_later_install_finds_its_licence_and_takes_it_from_who_was_guessed(
    office: Office, units: Units[Door], database: Database
) -> None:
    await install(units, database, "one")
    await office.take_up(
        a_licence("1", entitlement_id=ENTITLEMENT, site_host="one.atlassian.net"),
        a_licence("2", sen="SEN-22"),
    )
    tenant_id = await install(units, database, "two", entitlement_id=ENTITLEMENT, sen="22")

    assert await office.jobs.match() == 2

    assert await office.whose("1") == (tenant_id, "entitlement", False)
    assert await office.whose("2") == (tenant_id, "sen", False)
    state = await office.state(tenant_id)
    assert state.subscription.status is SubscriptionStatus.ACTIVE
    assert state.licence_numbers == ("22", "1", "2", "SEN-22")


async def test_who_left_hears_of_the_end_of_a_licence_that_it_went_on_paying(
    office: Office, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "one", entitlement_id=ENTITLEMENT)
    await office.take_up(a_licence(entitlement_id=ENTITLEMENT))
    await hear_uninstalled(units, APP, "one")
    purge = PurgeRequested(
        purge_id=uuid4(),
        step="accept",
        tenant_id=tenant_id,
        tenant_version=(await office.state(tenant_id)).version,
        classes=(DataClass.INSTALLATION, DataClass.CONTENT, DataClass.ERRORS),
    )
    async with units.begin() as uow:
        await decide_purge(purge, uow)

    await office.take_up(
        a_licence(entitlement_id=ENTITLEMENT, status="inactive", ends_on=date(2026, 11, 1))
    )

    state = await office.state(tenant_id)
    assert state.status is TenantStatus.PURGING
    assert state.subscription.status is SubscriptionStatus.ENDED
    assert state.licence_numbers == ()
    assert (await database.said(tenant_id))[-1].type == "subscription-ended"


async def test_the_sites_own_word_counts_while_it_is_installed(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "one")
    await hear_from_site(database, tenant_id, active=True, at=clock.now())
    async with units.begin() as uow:
        await renew_subscriptions(uow, [tenant_id, uuid4()])
    assert (await office.state(tenant_id)).subscription.status is SubscriptionStatus.ACTIVE

    await hear_uninstalled(units, APP, "one")
    await office.jobs.match()

    assert (await office.state(tenant_id)).subscription.status is SubscriptionStatus.NONE
    await install(units, database, "one")
    await office.jobs.match()
    assert (await office.state(tenant_id)).subscription.status is SubscriptionStatus.ACTIVE


async def test_a_licence_that_the_site_calls_inactive_ends_when_it_was_heard(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant_id = await install(units, database, "one")
    clock.advance(DAY)
    await hear_from_site(database, tenant_id, active=False, at=clock.now())
    clock.advance(DAY)
    async with units.begin() as uow:
        await renew_subscriptions(uow, [tenant_id])

    assert (await office.state(tenant_id)).subscription.ended_at == clock.now() - DAY


# -- licences without an installation -----------------------------------------------------------


async def test_a_self_hosted_licence_is_a_tenant_at_once(office: Office) -> None:
    office.holds(a_row("1", hosting="Data Center", licenseId="SEN-1"), a_row("2", hosting="Server"))
    await office.read()

    tenant_id = await office.tenant_named("1")
    state = await office.state(tenant_id)
    assert await office.types(tenant_id) == ["tenant-updated"]
    assert await office.whose("1") == (tenant_id, "itself", False)
    assert state.platform is Platform.DATACENTER
    assert state.status is TenantStatus.UNINSTALLED
    assert state.departure is None
    assert state.subscription.status is SubscriptionStatus.ACTIVE
    assert state.licence_numbers == ("1", "SEN-1")
    assert await office.tenant_named("2") != tenant_id


async def test_a_cloud_licence_waits_14_days_for_its_installation(
    office: Office, clock: ManualClock, database: Database
) -> None:
    office.holds(
        a_row("1", appEntitlementNumber="E-1-2-3-4"),
        a_row("2", status="inactive", maintenanceEndDate="2026-05-10"),
    )
    await office.read()
    clock.advance(14 * DAY - timedelta(seconds=1))
    await office.jobs.match()
    assert await office.whose("1") == (None, None, False)
    clock.advance(timedelta(seconds=1))

    await office.jobs.match()

    state = await office.state(await office.tenant_named("1"))
    assert state.platform is Platform.CONNECT
    assert state.licence_numbers == ("1", "E-1-2-3-4")
    # Its own six months were over before the fortnight was.
    assert await office.whose("2") == (None, None, False)
    assert await database.owner.fetchval("SELECT count(*) FROM tenants") == 1


async def test_the_end_of_a_licence_alone_counts_from_the_day_of_the_report(
    office: Office, clock: ManualClock
) -> None:
    office.holds(a_row(hosting="Server", status="inactive", maintenanceEndDate="2026-08-03"))
    await office.read()

    state = await office.state(await office.tenant_named())
    assert state.created_at == state.subscription.ended_at
    assert state.subscription.ended_at == datetime(2026, 8, 3, 12, tzinfo=UTC)
    clock.advance(DAY)
    office.holds(a_row(hosting="Server", lastUpdated="2026-11-03"))
    await office.read()
    assert (await office.types(state.tenant_id)) == ["tenant-updated", "subscription-renewed"]


async def test_two_workers_make_each_licence_a_tenant_once(
    office: Office, database: Database, units: Units[Door]
) -> None:
    async with units.begin() as uow:
        await store.save_licences(
            uow.connection,
            [a_licence(f"{n:04}", hosting="server") for n in range(450)],
            now=uow.now,
            last_day_past=date(2026, 1, 1),
        )

    made = await asyncio.gather(*(office.jobs.make_lone_tenants() for _ in range(3)))

    assert sum(made) == 450
    assert await database.owner.fetchval("SELECT count(*) FROM tenants") == 450


# -- purged licences ----------------------------------------------------------------------------


async def test_a_purged_licence_stays_away_unless_it_is_something_new(
    office: Office, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    numbers = ("1", "2", "3")
    await office.take_up(*[a_licence(each, hosting="server") for each in numbers])
    await office.jobs.make_lone_tenants()
    for number in numbers:
        tenant_id = await office.tenant_named(number)
        async with units.begin() as uow:
            await note_purged_licences(uow, tenant_id)
            await uow.connection.execute("DELETE FROM tenants WHERE tenant_id = $1", tenant_id)
    assert await office.numbers() == []
    purged = await database.owner.fetch("SELECT licence_hash FROM purged_licences")
    assert {row["licence_hash"] for row in purged} == {
        licence_hash(database.keys, a_licence(each).name) for each in numbers
    }
    clock.advance(2 * DAY)
    office.holds(
        a_row("1", status="inactive", maintenanceEndDate="2026-11-01"),
        a_row("2", status="inactive", maintenanceEndDate="2026-11-03"),
        a_row("3"),
    )

    await office.read()

    assert await office.numbers() == ["2", "3"]
    assert suppressed(office.jobs.units) == {("import", "installation"): 1}


async def test_a_guess_goes_nowhere_with_the_tenant_that_it_was_made_of(
    office: Office, units: Units[Door], database: Database
) -> None:
    tenant_id = await install(units, database, "one")
    await office.take_up(a_licence(site_host="one.atlassian.net"))
    async with units.begin() as uow:
        await note_purged_licences(uow, tenant_id)

    assert await office.whose() == (None, None, False)
    assert await database.owner.fetchval("SELECT count(*) FROM purged_licences") == 0


async def test_support_sees_licences_without_an_installation_and_guesses(
    office: Office,
    database: Database,
    start_installer: StartInstaller,
    make_settings: MakeSettings,
    clock: ManualClock,
) -> None:
    units = office.jobs.units
    tenant_id = await install(units, database, "one")
    async with units.begin() as uow:
        await store.note_purged(
            uow.connection,
            [licence_hash(database.keys, a_licence("3").name)],
            now=clock.now() - DAY,
        )
    office.holds(
        a_row("1", cloudSiteHostname="one.atlassian.net"),
        a_row("2", hosting="Server"),
        a_row("3", appEntitlementNumber="E-3"),
    )
    await office.read()
    installer = await start_installer(make_settings())

    answer = await installer.http.get(f"{installer.url}/staff/licences/unmatched")

    assert answer.status_code == 200
    since = clock.now().isoformat().replace("+00:00", "Z")
    common = {"addon_key": APP, "status": "active", "since": since}
    assert answer.json()["licences"] == [
        common
        | {
            "number": "1",
            "entitlement_number": None,
            "matched_by": "host",
            "tenant_id": str(tenant_id),
            "renewed_after_purge": False,
        },
        common
        | {
            "number": "3",
            "entitlement_number": "E-3",
            "matched_by": None,
            "tenant_id": None,
            "renewed_after_purge": True,
        },
    ]
    assert "atlassian.net" not in answer.text
    outside = await start_installer(make_settings(development=False))
    hidden = await installer.http.get(f"{outside.url}/staff/licences/unmatched")
    assert hidden.status_code == 404
