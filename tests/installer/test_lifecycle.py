"""Connect's lifecycle: every call that Atlassian makes, in the orders in which they really come."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.clock import ManualClock
from connect.lifecycle import EventType
from contracts.classes import TENANT_CLASSES
from contracts.purges import PurgeRequested
from contracts.tenants import DepartureKind, TenantState, TenantStatus
from devstack.atlassian import Hook, Site
from services.installer import handlers
from services.installer.callers import Caller, find_caller, note_life
from services.installer.domain import tenants as domain
from services.installer.domain.timelines import KEPT, Entry
from services.installer.jobs.secrets import secret_jobs
from services.installer.store import tenants as store
from services.installer.store import timelines
from tests.installer.conftest import APP, OTHER_APP, Installer, MakeSettings, StartInstaller

REPLACED_LIVES = timedelta(minutes=3)


def told(hook: Hook, **changed: Any) -> Hook:
    """The same call with another body, which is not signed; ``...`` leaves a field out."""
    body = json.loads(hook.content) | changed
    content = json.dumps({name: value for name, value in body.items() if value is not ...})
    return replace(hook, content=content.encode())


async def install(installer: Installer, site: Site, **changed: Any) -> UUID:
    hook = told(installer.hook(site, EventType.INSTALLED), **changed)
    assert (await installer.send(hook)).status_code == 204
    return (await installer.database.tenants(site.client_key))[-1]


async def switch(
    installer: Installer, site: Site, event: EventType = EventType.ENABLED
) -> httpx2.Response:
    return await installer.send(installer.hook(site, event))


async def timeline(installer: Installer, tenant_id: UUID) -> list[str]:
    answer = await installer.http.get(f"{installer.url}/staff/tenants/{tenant_id}/timeline")
    assert answer.status_code == 200
    return [entry["what"] for entry in answer.json()["entries"]]


async def state_of(installer: Installer, tenant_id: UUID) -> TenantState:
    async with installer.database.runtime.acquire() as connection, connection.transaction():
        state = await store.lock_tenant(connection, tenant_id)
    assert state is not None
    return state


async def lose_access(installer: Installer, tenant_id: UUID) -> TenantState:
    """As the sweep does it."""
    async with installer.running.units.begin() as uow:
        tenant = await store.lock_tenant(uow.connection, tenant_id)
        assert tenant is not None
        lost = domain.leave(tenant, DepartureKind.ACCESS_LOST, epoch=await uow.epoch(), at=uow.now)
        assert lost is not None
        await store.record_state(uow, lost, "tenant-uninstalled")
    return lost


async def begin_check(installer: Installer, tenant_id: UUID, *, losses: int = 0) -> None:
    now = installer.running.units.clock.now()
    lost_at = now if losses else None
    await installer.database.owner.execute(
        "INSERT INTO access_checks (tenant_id, addon_key, due_at, last_seen_at, losses,"
        " first_lost_at, last_lost_at) VALUES ($1, $2, $3, $3, $4, $5, $5)",
        tenant_id,
        APP,
        now,
        losses,
        lost_at,
    )


async def check_of(installer: Installer, tenant_id: UUID) -> Mapping[str, Any]:
    row = await installer.database.owner.fetchrow(
        "SELECT * FROM access_checks WHERE tenant_id = $1", tenant_id
    )
    assert row is not None
    return dict(row)


async def purge(installer: Installer, tenant_id: UUID) -> None:
    tenant = await state_of(installer, tenant_id)
    request = PurgeRequested(
        purge_id=uuid4(),
        step="accept",
        tenant_id=tenant_id,
        tenant_version=tenant.version,
        classes=TENANT_CLASSES,
    )
    async with installer.running.units.begin() as uow:
        await handlers.decide_purge(request, uow)
    assert await installer.database.status(tenant_id) == "purging"


async def caller_of(installer: Installer, site: Site) -> Caller:
    caller = await find_caller(installer.running.units, APP, site.client_key)
    assert caller is not None
    return caller


# -- what an install was ---------------------------------------------------------------------


@pytest.mark.parametrize("product", ["jira", "confluence"])
async def test_each_install_is_exactly_one_thing_and_counted_as_that(
    installer: Installer, clock: ManualClock, product: str
) -> None:
    site = Site.named("acme", product)
    renewed = site.with_new_secret()
    renamed = replace(renewed, base_url=site.base_url.replace("acme", "acme-renamed"))

    def heard() -> dict[str, float]:
        counted = {
            word: installer.figure("installs_heard_total", addon_key=APP, heard=word)
            for word in ("new", "revived", "rotated", "renamed", "upgraded", "unchanged")
        }
        return {word: count for word, count in counted.items() if count}

    tenant_id = await install(installer, site)
    assert heard() == {"new": 1}
    await install(installer, site)
    await install(installer, renewed)
    await install(installer, renamed)
    await install(installer, renamed, oauthClientId="another")
    await installer.uninstall(renamed)
    clock.advance(timedelta(days=3))
    # Its secret and its address changed as well, but it had left: that comes first.
    assert await install(installer, site.with_new_secret()) == tenant_id
    assert heard() == {
        "new": 1,
        "unchanged": 1,
        "rotated": 1,
        "renamed": 1,
        "upgraded": 1,
        "revived": 1,
    }
    assert await timeline(installer, tenant_id) == [
        "unchanged",
        "rotated",
        "renamed",
        "upgraded",
        "uninstalled",
        "revived",
    ]


async def test_a_first_install_begins_the_timeline_and_writes_no_line_of_it(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    answer = await installer.http.get(f"{installer.url}/staff/tenants/{tenant_id}/timeline")
    began_at = clock.now().isoformat().replace("+00:00", "Z")
    assert answer.json() == {"began_at": began_at, "entries": []}
    unknown = await installer.http.get(f"{installer.url}/staff/tenants/{uuid4()}/timeline")
    assert unknown.status_code == 404


async def test_the_same_again_moves_nothing_and_takes_one_line_however_often(
    installer: Installer, site: Site
) -> None:
    tenant_id = await install(installer, site)
    stored = await installer.database.stored(tenant_id)
    for _ in range(3):
        await install(installer, site)
    assert len(await installer.database.said(tenant_id)) == 1
    assert await installer.database.stored(tenant_id) == stored
    assert await timeline(installer, tenant_id) == ["unchanged"]


async def test_a_timeline_keeps_its_last_fifty_lines(installer: Installer, site: Site) -> None:
    tenant_id = await install(installer, site)
    async with installer.running.units.begin() as uow:
        for n in range(KEPT + 5):
            entry = Entry.RENAMED if n % 2 else Entry.ROTATED
            await timelines.add_entry(uow.connection, tenant_id, entry, now=uow.now)
        await timelines.add_entry(uow.connection, tenant_id, Entry.UPGRADED, now=uow.now)
    shown = await timeline(installer, tenant_id)
    assert len(shown) == KEPT
    assert shown[-2:] == ["rotated", "upgraded"]


async def test_what_a_body_tells_of_the_licence_is_stored_and_stays_when_it_is_missing(
    installer: Installer, site: Site
) -> None:
    numbers = {"entitlementId": "5f0c7d0e", "entitlementNumber": "E-AAA-BBB-CCC-DDD"}
    tenant_id = await install(installer, site, **numbers)
    first = (await installer.database.said(tenant_id))[-1]
    assert first.state.licence_numbers == ("SEN-12345678", "E-AAA-BBB-CCC-DDD")
    assert await state_of(installer, tenant_id) == first.state
    await install(installer, site, serviceEntitlementNumber=...)
    stored = await installer.database.stored(tenant_id)
    assert stored["service_entitlement_number"] == "SEN-12345678"
    assert stored["entitlement_id"] == "5f0c7d0e"
    assert stored["entitlement_number"] == "E-AAA-BBB-CCC-DDD"
    assert len(await installer.database.said(tenant_id)) == 1
    await install(installer, site, entitlementNumber="E-NEW")
    last = (await installer.database.said(tenant_id))[-1]
    assert last.type == "tenant-updated"
    assert last.state.licence_numbers == ("SEN-12345678", "E-NEW")


# -- a new secret ----------------------------------------------------------------------------


async def test_a_replaced_secret_is_accepted_for_three_minutes_and_then_dead(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    await install(installer, site)
    renewed = site.with_new_secret()
    await install(installer, renewed)
    assert (await switch(installer, site)).status_code == 204
    clock.advance(REPLACED_LIVES - timedelta(seconds=1))
    assert (await switch(installer, site)).status_code == 204
    clock.advance(timedelta(seconds=1))
    assert (await switch(installer, site)).status_code == 401
    assert (await switch(installer, renewed)).status_code == 204


async def test_of_two_rotations_in_a_row_the_first_secret_is_dead_at_once(
    installer: Installer, site: Site
) -> None:
    second, third = site.with_new_secret(), site.with_new_secret()
    for each in (site, second, third):
        await install(installer, each)
    answers = [(await switch(installer, each)).status_code for each in (site, second, third)]
    assert answers == [401, 204, 204]


async def test_a_replaced_secret_is_sealed_and_forgotten_when_its_time_is_over(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    sealed = (await installer.database.stored(tenant_id))["shared_secret"]
    await install(installer, site.with_new_secret())
    stored = await installer.database.stored(tenant_id)
    assert stored["replaced_secret"] == sealed
    assert stored["replaced_until"] == clock.wall() + REPLACED_LIVES
    (job,) = secret_jobs(installer.running.units)
    await job.run()
    assert await installer.database.stored(tenant_id) == stored
    clock.advance(REPLACED_LIVES)
    await job.run()
    forgotten = await installer.database.stored(tenant_id)
    assert (forgotten["replaced_secret"], forgotten["replaced_until"]) == (None, None)
    assert forgotten["shared_secret"] == stored["shared_secret"]


async def test_the_next_write_forgets_a_replaced_secret_too(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    renewed = site.with_new_secret()
    await install(installer, renewed)
    clock.advance(timedelta(minutes=1))
    await install(installer, renewed, oauthClientId="one")
    assert (await installer.database.stored(tenant_id))["replaced_secret"] is not None
    clock.advance(REPLACED_LIVES)
    await install(installer, renewed, oauthClientId="two")
    assert (await installer.database.stored(tenant_id))["replaced_secret"] is None


# -- imports ---------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["jira", "confluence"])
async def test_an_import_supersedes_and_merges_nothing(
    installer: Installer, product: str, clock: ManualClock
) -> None:
    site = Site.named("acme", product)
    old = await install(installer, site)
    clock.advance(timedelta(days=1))
    imported = replace(site.with_new_secret(), client_key="imported")
    new = await install(installer, imported)
    left = await state_of(installer, old)
    assert left.status is TenantStatus.UNINSTALLED
    assert left.departure is not None
    assert (left.departure.how, left.departure.at) == (DepartureKind.SUPERSEDED, clock.now())
    assert left.merged_into is None
    assert not (await installer.database.stored(old))["present"]
    assert await timeline(installer, old) == ["superseded"]
    assert await timeline(installer, new) == []
    # Put back from a backup: then the other one is at its place.
    assert await install(installer, site) == old
    assert await installer.database.status(old) == "installed"
    assert await installer.database.status(new) == "uninstalled"


async def test_jira_and_confluence_of_one_site_are_two_tenants(installer: Installer) -> None:
    jira = Site.named("acme")
    confluence = replace(Site.named("acme", "confluence"), client_key="the-wiki")
    tenants = [await install(installer, each) for each in (jira, confluence)]
    assert [await installer.database.status(each) for each in tenants] == ["installed"] * 2
    stored = await installer.database.stored(tenants[1])
    assert (stored["product_type"], stored["base_url"]) == ("confluence", confluence.base_url)
    assert confluence.base_url.endswith("/wiki")
    await installer.uninstall(confluence)
    assert [await installer.database.status(each) for each in tenants] == [
        "installed",
        "uninstalled",
    ]


async def test_who_uninstalled_before_an_import_left_by_that(
    installer: Installer, site: Site
) -> None:
    old = await install(installer, site)
    await installer.uninstall(site)
    await install(installer, replace(site.with_new_secret(), client_key="imported"))
    left = await state_of(installer, old)
    assert left.departure is not None
    assert left.departure.how is DepartureKind.UNINSTALLED
    assert await timeline(installer, old) == ["uninstalled"]


# -- enabled and disabled --------------------------------------------------------------------


async def test_enabled_and_disabled_are_noted_and_say_nothing(
    installer: Installer, site: Site
) -> None:
    tenant_id = await install(installer, site)
    for event in (EventType.ENABLED, EventType.DISABLED, EventType.DISABLED, EventType.ENABLED):
        assert (await switch(installer, site, event)).status_code == 204
    assert await timeline(installer, tenant_id) == ["enabled", "disabled", "enabled"]
    assert len(await installer.database.said(tenant_id)) == 1


@pytest.mark.parametrize("event", [EventType.ENABLED, EventType.DISABLED])
async def test_a_site_cannot_speak_for_another(
    installer: Installer, site: Site, event: EventType
) -> None:
    other = Site.named("globex")
    tenant_id, _ = await install(installer, site), await install(installer, other)
    hook = told(installer.hook(other, event), clientKey=site.client_key)
    assert (await installer.send(hook)).status_code == 403
    assert await timeline(installer, tenant_id) == []
    counted = installer.figure("calls_refused_total", route=event, reason="foreign-client-key")
    assert counted == 1


async def test_an_unknown_site_is_answered_like_a_wrong_signature(
    installer: Installer, site: Site
) -> None:
    await install(installer, site)
    wrong = await switch(installer, site.with_new_secret())
    unknown = await switch(installer, Site.named("nobody"))
    assert (wrong.status_code, wrong.content) == (unknown.status_code, unknown.content)
    assert wrong.status_code == 401
    assert wrong.headers["www-authenticate"] == unknown.headers["www-authenticate"]


async def test_disabled_without_a_token_is_answered_counted_and_not_believed(
    installer: Installer, site: Site
) -> None:
    tenant_id = await install(installer, site)
    answers = {
        event: (await installer.send(installer.hook(site, event), headers={})).status_code
        for event in (EventType.ENABLED, EventType.DISABLED)
    }
    assert answers == {EventType.ENABLED: 401, EventType.DISABLED: 204}
    assert await timeline(installer, tenant_id) == []
    for event in answers:
        assert installer.figure("calls_refused_total", route=event, reason="no-token") == 1


async def test_what_comes_late_after_an_uninstall_changes_nothing(
    installer: Installer, site: Site
) -> None:
    tenant_id = await install(installer, site)
    await installer.uninstall(site)
    before = await state_of(installer, tenant_id)
    for event in (EventType.DISABLED, EventType.ENABLED):
        assert (await switch(installer, site, event)).status_code == 204
    assert await state_of(installer, tenant_id) == before
    assert len(await installer.database.said(tenant_id)) == 2
    assert await timeline(installer, tenant_id) == ["uninstalled"]


async def test_a_late_disabled_under_a_dead_secret_is_refused_and_harms_nobody(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    await installer.uninstall(site)
    await install(installer, site.with_new_secret())
    clock.advance(REPLACED_LIVES)
    assert (await switch(installer, site, EventType.DISABLED)).status_code == 401
    assert await installer.database.status(tenant_id) == "installed"
    assert await timeline(installer, tenant_id) == ["uninstalled", "revived"]


async def test_calls_of_a_tenant_that_is_being_purged_touch_no_key(
    installer: Installer, site: Site
) -> None:
    tenant_id = await install(installer, site)
    await installer.uninstall(site)
    await purge(installer, tenant_id)
    # With a key that cannot be opened, whoever tried would fail.
    await installer.database.owner.execute("UPDATE tenant_keys SET wrapped_key = 'x'")
    said = len(await installer.database.said())
    answers = [
        await switch(installer, site, EventType.ENABLED),
        await switch(installer, site, EventType.DISABLED),
        await installer.uninstall(site),
    ]
    assert [answer.status_code for answer in answers] == [204] * 3
    assert len(await installer.database.said()) == said


async def test_who_comes_back_while_purging_is_a_new_tenant_with_its_own_secret(
    installer: Installer, site: Site
) -> None:
    old = await install(installer, site)
    await installer.uninstall(site)
    await purge(installer, old)
    again = site.with_new_secret()
    new = await install(installer, again)
    assert new != old
    assert (await switch(installer, again)).status_code == 204
    assert (await switch(installer, site)).status_code == 401
    assert await timeline(installer, new) == ["enabled"]
    said = await installer.database.said(new)
    assert [each.type for each in said] == ["tenant-installed"]


async def test_one_site_with_two_apps_signs_with_two_secrets(
    installer: Installer, site: Site
) -> None:
    other = site.with_new_secret()
    await installer.install(site, APP)
    await installer.install(other, OTHER_APP)
    for app, each, status in (
        (APP, site, 204),
        (APP, other, 401),
        (OTHER_APP, other, 204),
        (OTHER_APP, site, 401),
    ):
        hook = installer.hook(each, EventType.ENABLED, app)
        assert (await installer.send(hook, app)).status_code == status


# -- signs of life ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["enabled", "disabled", "installed", "page"])
async def test_a_signed_call_takes_back_that_access_was_lost(
    installer: Installer, site: Site, clock: ManualClock, by: str
) -> None:
    tenant_id = await install(installer, site)
    await begin_check(installer, tenant_id, losses=3)
    await lose_access(installer, tenant_id)
    clock.advance(timedelta(days=4))
    match by:
        case "installed":
            await install(installer, site)
            expected = ["revived"]
        case "page":
            await note_life(installer.running.units, await caller_of(installer, site))
            expected = ["access-back"]
        case _:
            assert (await switch(installer, site, EventType(by))).status_code == 204
            expected = ["access-back", by]
    state = await state_of(installer, tenant_id)
    assert (state.status, state.departure) == (TenantStatus.INSTALLED, None)
    assert (await installer.database.said(tenant_id))[-1].type == "tenant-installed"
    assert await timeline(installer, tenant_id) == expected
    check = await check_of(installer, tenant_id)
    assert (check["losses"], check["first_lost_at"], check["last_seen_at"]) == (
        0,
        None,
        clock.now(),
    )


async def test_life_is_noted_once_an_hour_and_at_once_after_a_loss(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    units = installer.running.units
    # Not asked yet: there is nothing to note it in.
    await note_life(units, await caller_of(installer, site))
    await begin_check(installer, tenant_id)
    began_at = clock.now()
    clock.advance(timedelta(minutes=59))
    await note_life(units, await caller_of(installer, site))
    assert (await check_of(installer, tenant_id))["last_seen_at"] == began_at
    clock.advance(timedelta(minutes=1))
    await note_life(units, await caller_of(installer, site))
    assert (await check_of(installer, tenant_id))["last_seen_at"] == clock.now()
    await installer.database.owner.execute(
        "UPDATE access_checks SET losses = 1, first_lost_at = $1, last_lost_at = $1", clock.now()
    )
    await note_life(units, await caller_of(installer, site))
    assert (await check_of(installer, tenant_id))["losses"] == 0


async def test_an_uninstall_after_access_was_lost_is_not_taken_back_by_a_late_call(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    lost = await lose_access(installer, tenant_id)
    clock.advance(timedelta(days=1))
    assert (await installer.uninstall(site)).status_code == 204
    assert (await switch(installer, site, EventType.DISABLED)).status_code == 204
    state = await state_of(installer, tenant_id)
    assert state.status is TenantStatus.UNINSTALLED
    assert lost.departure is not None
    assert state.departure is not None
    assert (state.departure.how, state.departure.at) == (
        DepartureKind.UNINSTALLED,
        lost.departure.at,
    )


async def test_a_purging_tenant_shows_no_life(installer: Installer, site: Site) -> None:
    tenant_id = await install(installer, site)
    await lose_access(installer, tenant_id)
    before_purge = await caller_of(installer, site)
    await purge(installer, tenant_id)
    said = len(await installer.database.said())
    for caller in (before_purge, await caller_of(installer, site)):
        await note_life(installer.running.units, caller)
    assert await installer.database.status(tenant_id) == "purging"
    assert len(await installer.database.said()) == said


# -- the app's route on Forge is closed ------------------------------------------------------


async def test_a_name_on_forge_is_kept_only_where_forge_can_say_that_it_ended(
    start_installer: StartInstaller, make_settings: MakeSettings, site: Site
) -> None:
    installer = await start_installer(make_settings())
    ari = "ari:cloud:ecosystem::installation/5f0c7d0e"
    hook = told(installer.hook(site, EventType.INSTALLED, OTHER_APP), installationId=ari)
    assert (await installer.send(hook, OTHER_APP)).status_code == 204
    assert await installer.database.owner.fetchval("SELECT count(*) FROM aliases") == 0
    await installer.uninstall(site, OTHER_APP)
    (tenant_id,) = await installer.database.tenants(site.client_key)
    assert await installer.database.status(tenant_id) == "uninstalled"
