"""A person lets a tenant go on for the one whose site it replaced, against all that may cross it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from structlog.testing import capture_logs

from chassis.clock import ManualClock
from chassis.erasure import ErasureOrder, accept_erasure
from chassis.unit_of_work import Units
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import PurgeAccepted, PurgeRefused, PurgeRequested
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
)
from services.installer.domain.aliases import Alias, AliasKind, ForgeInstallation
from services.installer.domain.links import Refusal, Side
from services.installer.domain.links import why_not_link as decide
from services.installer.domain.tenants import Installation, begin_purge, merge_into
from services.installer.domain.timelines import Entry
from services.installer.door import Door, hear_forge_installed, hear_installed
from services.installer.handlers import decide_purge
from services.installer.links import link_tenants, why_not_link
from services.installer.store import aliases, links
from services.installer.store import tenants as store
from tests.installer.conftest import APP, OTHER_APP, START, Database
from tests.installer.licences import ENTITLEMENT, Office, a_licence, open_office
from tests.support.chassis import a_tenant

DAY = timedelta(days=1)
SITE = "https://acme.atlassian.net"
BY, REASON = "Kim Keeper", "ticket 4711, an import"


def an_installation(client_key: str = "old", **changed: Any) -> Installation:
    installation = Installation(
        addon_key=APP,
        product_type="jira",
        client_key=client_key,
        base_url=SITE,
        service_entitlement_number="SEN-22",
        shared_secret="ATCOone",
        oauth_client_id=None,
    )
    return replace(installation, **changed)


async def install(units: Units[Door], database: Database, client_key: str, **changed: Any) -> UUID:
    await hear_installed(units, an_installation(client_key, **changed))
    return (await database.tenants(client_key))[-1]


async def link(units: Units[Door], old: UUID, new: UUID) -> Refusal | None:
    return await link_tenants(units, old, new, by=BY, reason=REASON)


async def state_of(units: Units[Door], tenant_id: UUID) -> TenantState:
    async with units.begin() as uow:
        state = await store.lock_tenant(uow.connection, tenant_id)
    assert state is not None
    return state


async def told_of(database: Database, tenant_id: UUID) -> list[str]:
    rows = await database.owner.fetch(
        "SELECT what FROM timelines WHERE tenant_id = $1 ORDER BY entry_id", tenant_id
    )
    return [row["what"] for row in rows]


async def ask_for_purge(units: Units[Door], tenant: TenantState) -> None:
    request = PurgeRequested(
        purge_id=uuid4(),
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=tenant.version,
        classes=TENANT_CLASSES,
    )
    async with units.begin() as uow:
        await decide_purge(request, uow)


@pytest.fixture
async def old(units: Units[Door], database: Database, clock: ManualClock) -> UUID:
    """A site of long ago."""
    tenant_id = await install(units, database, "old")
    clock.advance(DAY)
    return tenant_id


@pytest.fixture
async def new(old: UUID, units: Units[Door], database: Database, clock: ManualClock) -> UUID:
    """What its address became by an import; the old one's clock has run for a day."""
    tenant_id = await install(units, database, "new")
    clock.advance(DAY)
    return tenant_id


@pytest.fixture
async def office(
    database: Database, units: Units[Door], http: httpx2.AsyncClient, tmp_path: Path
) -> AsyncIterator[Office]:
    async with open_office(database, units, http, tmp_path) as opened:
        yield opened


# -- the rule --------------------------------------------------------------------------------


def superseded(**changed: Any) -> Side:
    left = Departure(at=START, how=DepartureKind.SUPERSEDED)
    told = {"status": TenantStatus.UNINSTALLED, "departure": left} | changed
    return Side(a_tenant().model_copy(update=told), an_installation(), present=False)


def installed(**changed: Any) -> Side:
    return Side(a_tenant().model_copy(update=changed), an_installation("new"), present=True)


def purging(side: Side, *classes: DataClass) -> Side:
    state = begin_purge(side.tenant, uuid4(), classes, epoch=1)
    assert state is not None
    return replace(side, tenant=state)


def merged(side: Side) -> Side:
    state = merge_into(side.tenant, uuid4(), epoch=1, now=START)
    assert state is not None
    return replace(side, tenant=state)


def left_by(how: DepartureKind) -> Side:
    return superseded(departure=Departure(at=START, how=how))


ELSEWHERE = an_installation("new", base_url="https://other.atlassian.net")
OF_ANOTHER_APP = an_installation("new", addon_key=OTHER_APP)


def test_a_tenant_may_go_on_for_the_one_that_it_replaced() -> None:
    assert decide(superseded(), installed(), awaits_data=False) is None


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        (None, installed(), Refusal.OLD_IS_GONE),
        (merged(superseded()), installed(), Refusal.LINKED_ALREADY),
        (left_by(DepartureKind.UNINSTALLED), installed(), Refusal.NOT_SUPERSEDED),
        (left_by(DepartureKind.ACCESS_LOST), installed(), Refusal.NOT_SUPERSEDED),
        (installed(), installed(), Refusal.NOT_SUPERSEDED),
        (purging(superseded(), DataClass.CONTACTS), installed(), Refusal.BEING_ERASED),
        (superseded(), None, Refusal.NEW_IS_NOT_INSTALLED),
        (superseded(), superseded(), Refusal.NEW_IS_NOT_INSTALLED),
        (superseded(), purging(installed(), DataClass.CONTENT), Refusal.NEW_IS_NOT_INSTALLED),
        (superseded(), installed(platform=Platform.FORGE), Refusal.NEW_IS_ON_FORGE),
        (superseded(), replace(installed(), present=False), Refusal.NOT_AT_ONE_SITE),
        (superseded(), replace(installed(), installation=None), Refusal.NOT_AT_ONE_SITE),
        (replace(superseded(), installation=None), installed(), Refusal.NOT_AT_ONE_SITE),
        (superseded(), replace(installed(), installation=ELSEWHERE), Refusal.NOT_AT_ONE_SITE),
        (superseded(), replace(installed(), installation=OF_ANOTHER_APP), Refusal.NOT_AT_ONE_SITE),
    ],
)
def test_any_other_link_is_refused(old: Side | None, new: Side | None, refusal: Refusal) -> None:
    assert decide(old, new, awaits_data=False) is refusal


def test_who_still_awaits_data_does_not_pass_on_what_it_has() -> None:
    assert decide(superseded(), installed(), awaits_data=True) is Refusal.STILL_AWAITS_DATA


# -- the act ---------------------------------------------------------------------------------


async def test_a_link_closes_the_old_tenant_and_is_written_down(
    old: UUID, new: UUID, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    left_at = clock.now() - DAY
    assert await why_not_link(units, old, new) is None
    assert (await state_of(units, old)).merged_into is None

    assert await link(units, old, new) is None

    closed, living = await state_of(units, old), await state_of(units, new)
    assert (closed.status, closed.merged_into) == (TenantStatus.UNINSTALLED, new)
    assert closed.departure == Departure(at=left_at, how=DepartureKind.SUPERSEDED)
    assert closed.licence_numbers == ()
    assert (living.status, living.merged_into) == (TenantStatus.INSTALLED, None)
    assert (await database.said(old))[-1].state == closed
    assert await told_of(database, old) == ["superseded", "merged"]
    assert await told_of(database, new) == ["linked"]
    for tenant_id in (old, new):
        assert await links.links_of(units.pool, tenant_id) == [
            links.Link(new, old, clock.now(), BY, REASON)
        ]


async def test_who_decided_and_why_stays_in_the_database(
    old: UUID, new: UUID, units: Units[Door], database: Database
) -> None:
    with capture_logs() as logs:
        await link(units, old, new)
    assert "tenant merged" in [entry["event"] for entry in logs]
    payloads = [repr(said.message) for said in await database.said()]
    for text in (BY, REASON, SITE):
        assert text not in repr(logs)
        assert not [payload for payload in payloads if text in payload]


async def test_names_and_licences_go_to_who_goes_on(
    old: UUID, new: UUID, units: Units[Door], database: Database, office: Office
) -> None:
    site = Alias(AliasKind.CLOUD_ID, APP, "a-cloud")
    async with units.begin() as uow:
        assert await aliases.add_alias(uow.connection, old, site, now=uow.now)
    await database.owner.execute(
        "UPDATE installations SET entitlement_id = $2 WHERE tenant_id = $1", old, ENTITLEMENT
    )
    licence = a_licence(entitlement_id=ENTITLEMENT)
    await office.take_up(licence)
    assert await office.whose() == (old, "entitlement", False)

    assert await link(units, old, new) is None

    assert await office.whose() == (new, "entitlement", False)
    assert (await state_of(units, new)).subscription.status is SubscriptionStatus.ACTIVE
    # The old one still has the best proof of the licence, and gets it no more.
    await office.take_up(licence)
    assert await office.whose() == (new, "entitlement", False)
    # A move of the site to Forge is the new one's.
    await hear_forge_installed(
        units, ForgeInstallation(APP, "on-forge", "a-cloud", "jira"), Entry.FORGE_INSTALLED
    )
    assert (await state_of(units, new)).platform is Platform.FORGE
    assert (await state_of(units, old)).merged_into == new


async def test_the_record_goes_with_the_tenant_that_goes_on(
    old: UUID, new: UUID, units: Units[Door], database: Database
) -> None:
    await link(units, old, new)
    await database.forget_said()
    for number, tenant_id in enumerate((old, new)):
        async with units.begin() as uow:
            await accept_erasure(
                uow,
                ErasureOrder(
                    purge_id=uuid4(),
                    step="erase-installer",
                    tenant_id=tenant_id,
                    classes=(DataClass.INSTALLATION,),
                    ledger_number=number + 1,
                ),
            )
        assert await database.eraser_job(units).run() == 1
        assert len(await links.links_of(units.pool, new)) == 1 - number


# -- what may cross it -----------------------------------------------------------------------


async def test_to_link_twice_changes_nothing(
    old: UUID, new: UUID, units: Units[Door], database: Database
) -> None:
    answers = await asyncio.gather(*(link(units, old, new) for _ in range(4)))

    assert sorted(answers, key=str) == [None] + [Refusal.LINKED_ALREADY] * 3
    assert len(await links.links_of(units.pool, old)) == 1
    assert [said.type for said in await database.said(old)][-2:] == ["tenant-uninstalled"] * 2
    assert await told_of(database, new) == ["linked"]


async def test_a_return_of_the_old_site_undoes_the_link(
    old: UUID, new: UUID, units: Units[Door], database: Database, clock: ManualClock
) -> None:
    await link(units, old, new)
    clock.advance(DAY)

    assert await install(units, database, "old") == old

    back, left = await state_of(units, old), await state_of(units, new)
    assert (back.status, back.departure, back.merged_into) == (TenantStatus.INSTALLED, None, None)
    assert back.licence_numbers == ("SEN-22",)
    assert (left.status, left.merged_into) == (TenantStatus.UNINSTALLED, None)
    assert [each.undone_at for each in await links.links_of(units.pool, old)] == [clock.now()]
    # Now it is the imported one that was replaced, and the first one that may go on.
    assert await link(units, new, old) is None
    assert (await state_of(units, new)).merged_into == old
    # And round again.
    clock.advance(DAY)
    await install(units, database, "new")
    assert await link(units, old, new) is None
    assert [each.undone_at is None for each in await links.links_of(units.pool, old)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("attempt", range(8))
async def test_a_return_that_crosses_a_link_wins(
    old: UUID, new: UUID, units: Units[Door], database: Database, attempt: int
) -> None:
    returning = hear_installed(units, an_installation("old"))
    linking = link(units, old, new)
    both = (returning, linking) if attempt % 2 else (linking, returning)

    await asyncio.gather(*both)

    back = await state_of(units, old)
    assert (back.status, back.merged_into) == (TenantStatus.INSTALLED, None)
    assert (await state_of(units, new)).status is TenantStatus.UNINSTALLED
    assert all(each.undone_at for each in await links.links_of(units.pool, old))


@pytest.mark.parametrize("attempt", range(8))
async def test_a_purge_that_crosses_a_link_is_accepted_or_the_link_is(
    old: UUID, new: UUID, units: Units[Door], database: Database, attempt: int
) -> None:
    asking = ask_for_purge(units, await state_of(units, old))
    linking = link(units, old, new)

    if attempt % 2:
        _, refusal = await asyncio.gather(asking, linking)
    else:
        refusal, _ = await asyncio.gather(linking, asking)

    answers = [said.message for said in await database.said(old)]
    if refusal is None:
        [refused] = [each for each in answers if isinstance(each, PurgeRefused)]
        assert refused.reason == "newer-state"
        assert (await state_of(units, old)).merged_into == new
    else:
        assert refusal is Refusal.OLD_IS_GONE
        assert [each for each in answers if isinstance(each, PurgeAccepted)]
        assert (await state_of(units, old)).merged_into is None


async def test_a_purge_of_the_linked_tenant_is_accepted_as_it_is_now(
    old: UUID, new: UUID, units: Units[Door], database: Database
) -> None:
    await link(units, old, new)

    await ask_for_purge(units, await state_of(units, old))

    going = await state_of(units, old)
    assert (going.status, going.merged_into) == (TenantStatus.PURGING, new)
    assert await link(units, old, new) is Refusal.OLD_IS_GONE
    # Nothing leaves purging: who comes back is somebody new, and the word stands.
    assert await install(units, database, "old") != old
    assert (await state_of(units, old)).merged_into == new
    assert [each.undone_at for each in await links.links_of(units.pool, old)] == [None]


async def test_a_second_import_passes_on_what_the_first_one_brought_once_it_has_come(
    old: UUID, new: UUID, units: Units[Door], database: Database
) -> None:
    await link(units, old, new)
    newest = await install(units, database, "newest")
    assert (await state_of(units, new)).status is TenantStatus.UNINSTALLED

    assert await link(units, new, newest) is Refusal.STILL_AWAITS_DATA

    assert (await state_of(units, old)).merged_into == new
    await ask_for_purge(units, await state_of(units, old))
    assert await link(units, new, newest) is Refusal.STILL_AWAITS_DATA
    # As when its last class is proven erased.
    async with units.begin() as uow:
        await store.forget_tenant(uow, old)
    assert await link(units, new, newest) is None
    assert (await state_of(units, new)).merged_into == newest


@pytest.mark.parametrize("attempt", range(4))
async def test_of_two_links_that_follow_each_other_at_once_the_later_waits(
    old: UUID, new: UUID, units: Units[Door], database: Database, attempt: int
) -> None:
    newest = await install(units, database, "newest")
    chained = [link(units, old, new), link(units, new, newest)]
    first, second = await asyncio.gather(*chained)

    # The middle one is not installed any more, so nothing new comes to it.
    assert (first, second) == (Refusal.NEW_IS_NOT_INSTALLED, None)
    assert await link(units, old, newest) is None


async def test_who_is_guarded_is_not_linked(
    old: UUID, new: UUID, units: Units[Door], database: Database
) -> None:
    """After a restore the ledger may know of an erasure that the state has forgotten."""
    await database.owner.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'installation', 1, $2, $3)", old, uuid4(), START
    )
    assert await link(units, old, new) is Refusal.OLD_IS_GONE
    assert (await state_of(units, old)).classes[DataClass.CONTENT] is ClassState.LIVE
