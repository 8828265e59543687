"""Forge's lifecycle: events at the remote, and a tenant's move from Connect to Forge."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from chassis.clock import ManualClock
from connect import jwt
from connect.forge import ForgeEventType
from contracts.tenants import DepartureKind, Platform, TenantState, TenantStatus
from devstack.atlassian import ForgeInstallation, Site, forge_app_id
from services.installer.settings import App
from tests.installer.conftest import APP, OTHER_APP, Installer, MakeSettings, StartInstaller
from tests.installer.test_lifecycle import (
    begin_check,
    check_of,
    install,
    purge,
    state_of,
    timeline,
)

INSTALLED, UPGRADED, UNINSTALLED = (
    ForgeEventType.INSTALLED,
    ForgeEventType.UPGRADED,
    ForgeEventType.UNINSTALLED,
)


def forge_token(
    installer: Installer, installation: ForgeInstallation, *, app: Mapping[str, Any] | None = None
) -> str:
    """A token of Forge's; ``app`` goes over what it says of the app."""
    forge = installer.atlassian.forge
    token = forge.token(installation)
    claims = dict(jwt.parse(token, jwt.Algorithm.RS256).payload)
    claims["app"] |= app or {}
    return jwt.sign(claims, forge.private_key, key_id=forge.key_id)


async def send(
    installer: Installer,
    installation: ForgeInstallation,
    event: ForgeEventType,
    *,
    app: str = APP,
    says: Mapping[str, Any] | None = None,
) -> httpx2.Response:
    token = forge_token(installer, installation, app=says)
    return await installer.http.post(
        f"{installer.url}/forge/{app}/lifecycle",
        content=installation.event_body(event),
        headers={"Authorization": f"Bearer {token}"},
    )


async def hear(
    installer: Installer, installation: ForgeInstallation, event: ForgeEventType = INSTALLED
) -> None:
    assert (await send(installer, installation, event)).status_code == 204


async def end_before_uninstall(
    installer: Installer, installation: ForgeInstallation
) -> httpx2.Response:
    token = installer.atlassian.forge.token(installation)
    return await installer.http.post(
        f"{installer.url}/forge/{APP}/pre-uninstall",
        headers={"Authorization": f"Bearer {token}"},
        content=b"whatever it may be",
    )


async def all_tenants(installer: Installer) -> list[UUID]:
    rows = await installer.database.owner.fetch("SELECT tenant_id FROM tenants ORDER BY 1")
    return [row["tenant_id"] for row in rows]


async def the_tenant(installer: Installer) -> TenantState:
    (tenant_id,) = await all_tenants(installer)
    return await state_of(installer, tenant_id)


async def names_of(installer: Installer, tenant_id: UUID) -> dict[str, tuple[str, bool]]:
    rows = await installer.database.owner.fetch(
        "SELECT name, kind, present FROM aliases WHERE tenant_id = $1 AND live", tenant_id
    )
    return {row["name"]: (row["kind"], row["present"]) for row in rows}


@pytest.fixture
def on_forge(site: Site) -> ForgeInstallation:
    """The app of the same site, on Forge."""
    return ForgeInstallation.of(site, APP)


# -- a tenant that began on Forge ------------------------------------------------------------


async def test_an_install_on_forge_is_a_tenant_without_an_installation_of_connects(
    installer: Installer, on_forge: ForgeInstallation, clock: ManualClock
) -> None:
    await hear(installer, on_forge)
    tenant = await the_tenant(installer)
    (said,) = await installer.database.said()
    assert (said.type, said.state) == ("tenant-installed", tenant)
    assert (tenant.platform, tenant.platform_since) == (Platform.FORGE, None)
    assert (tenant.product_type, tenant.created_at) == ("jira", clock.now())
    assert await names_of(installer, tenant.tenant_id) == {
        on_forge.installation_id: ("forge-installation", True),
        on_forge.cloud_id: ("cloud-id", False),
    }
    assert await timeline(installer, tenant.tenant_id) == ["forge-installed"]
    counts = await installer.database.counts()
    assert (counts["installations"], counts["tenant_keys"]) == (0, 0)


@pytest.mark.parametrize("event", [INSTALLED, UPGRADED])
async def test_an_event_that_comes_five_times_is_heard_once(
    installer: Installer, on_forge: ForgeInstallation, event: ForgeEventType
) -> None:
    for _ in range(5):
        await hear(installer, on_forge, event)
    tenant = await the_tenant(installer)
    assert len(await installer.database.said()) == 1
    assert len(await timeline(installer, tenant.tenant_id)) == 1


async def test_an_event_that_comes_five_times_at_once_makes_one_tenant(
    installer: Installer, on_forge: ForgeInstallation
) -> None:
    await asyncio.gather(*(hear(installer, on_forge) for _ in range(5)))
    await the_tenant(installer)
    assert len(await installer.database.said()) == 1


@pytest.mark.parametrize("before", [True, False])
async def test_an_uninstall_on_forge_starts_the_clock_once(
    installer: Installer, on_forge: ForgeInstallation, clock: ManualClock, before: bool
) -> None:
    await hear(installer, on_forge)
    clock.advance(timedelta(days=1))
    left_at = clock.now()
    if before:
        assert (await end_before_uninstall(installer, on_forge)).status_code == 204
        clock.advance(timedelta(minutes=1))
    for _ in range(5):
        await hear(installer, on_forge, UNINSTALLED)
        clock.advance(timedelta(minutes=1))
    tenant = await the_tenant(installer)
    assert tenant.status is TenantStatus.UNINSTALLED
    assert tenant.departure is not None
    assert (tenant.departure.how, tenant.departure.at) == (DepartureKind.UNINSTALLED, left_at)
    assert await timeline(installer, tenant.tenant_id) == ["forge-installed", "forge-uninstalled"]
    assert len(await installer.database.said()) == 2


async def test_an_uninstall_of_an_unknown_installation_is_well_and_stores_nothing(
    installer: Installer, on_forge: ForgeInstallation
) -> None:
    await hear(installer, on_forge, UNINSTALLED)
    assert await all_tenants(installer) == []


async def test_a_reinstall_has_another_id_and_is_found_by_its_site(
    installer: Installer, on_forge: ForgeInstallation, site: Site
) -> None:
    await hear(installer, on_forge)
    await hear(installer, on_forge, UNINSTALLED)
    again = ForgeInstallation.of(site, APP)
    await hear(installer, again)
    tenant = await the_tenant(installer)
    assert (tenant.status, tenant.departure) == (TenantStatus.INSTALLED, None)
    assert (await installer.database.said())[-1].type == "tenant-installed"
    names = await names_of(installer, tenant.tenant_id)
    assert names[on_forge.installation_id] == ("forge-installation", False)
    assert names[again.installation_id] == ("forge-installation", True)


@pytest.mark.parametrize("late", [INSTALLED, UPGRADED])
async def test_what_is_told_late_of_an_installation_that_ended_revives_nobody(
    installer: Installer, on_forge: ForgeInstallation, late: ForgeEventType
) -> None:
    await hear(installer, on_forge)
    await hear(installer, on_forge, UNINSTALLED)
    await hear(installer, on_forge, late)
    assert (await the_tenant(installer)).status is TenantStatus.UNINSTALLED


async def test_who_comes_back_on_forge_while_purging_is_a_new_tenant(
    installer: Installer, on_forge: ForgeInstallation, site: Site, clock: ManualClock
) -> None:
    await hear(installer, on_forge)
    old = (await the_tenant(installer)).tenant_id
    await hear(installer, on_forge, UNINSTALLED)
    await purge(installer, old)
    clock.advance(timedelta(days=1))
    again = ForgeInstallation.of(site, APP)
    for event in (UNINSTALLED, INSTALLED):
        await hear(installer, again, event)
    old_again, new = await all_tenants(installer)
    assert old_again == old
    assert await installer.database.status(old) == "purging"
    assert await installer.database.status(new) == "installed"
    assert set(await names_of(installer, new)) == {again.installation_id, site.cloud_id}


async def test_an_app_at_two_products_of_a_cloud_leaves_with_the_last_of_them(
    installer: Installer, on_forge: ForgeInstallation
) -> None:
    wiki = replace(on_forge, product_type="confluence", installation_id="the-wiki")
    await hear(installer, on_forge)
    await hear(installer, wiki)
    await hear(installer, on_forge, UNINSTALLED)
    assert (await the_tenant(installer)).status is TenantStatus.INSTALLED
    await hear(installer, wiki, UNINSTALLED)
    assert (await the_tenant(installer)).status is TenantStatus.UNINSTALLED


# -- from Connect to Forge -------------------------------------------------------------------


async def test_connect_tells_the_name_on_forge_and_forge_moves_the_tenant(
    installer: Installer, site: Site, on_forge: ForgeInstallation, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    assert await install(installer, site, installationId=on_forge.ari) == tenant_id
    assert await names_of(installer, tenant_id) == {
        on_forge.installation_id: ("forge-installation", True)
    }
    assert (await the_tenant(installer)).platform is Platform.CONNECT
    clock.advance(timedelta(days=1))
    await hear(installer, on_forge)
    moved = await the_tenant(installer)
    assert (moved.platform, moved.platform_since) == (Platform.FORGE, clock.now())
    assert (await installer.database.said())[-1].type == "tenant-updated"
    assert await timeline(installer, tenant_id) == [
        "upgraded",
        "moved-to-forge",
        "forge-installed",
    ]
    # Connect's own calls go on coming, and change nothing of that.
    await install(installer, site, installationId=on_forge.ari)
    assert (await the_tenant(installer)) == moved


@pytest.mark.parametrize("connect_first", [True, False])
async def test_connects_uninstall_and_forges_install_come_in_either_order(
    installer: Installer, site: Site, on_forge: ForgeInstallation, connect_first: bool
) -> None:
    tenant_id = await install(installer, site, installationId=on_forge.ari)
    if connect_first:
        await installer.uninstall(site)
        await hear(installer, on_forge)
    else:
        await hear(installer, on_forge)
        await installer.uninstall(site)
    tenant = await the_tenant(installer)
    assert tenant.tenant_id == tenant_id
    assert (tenant.status, tenant.departure) == (TenantStatus.INSTALLED, None)
    assert tenant.platform is Platform.FORGE
    await hear(installer, on_forge, UNINSTALLED)
    assert (await the_tenant(installer)).status is TenantStatus.UNINSTALLED


async def test_a_tenant_that_left_by_connect_is_found_by_its_site_and_revived(
    installer: Installer, site: Site, on_forge: ForgeInstallation, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site)
    # As the sweep notes it.
    await installer.database.owner.execute(
        "INSERT INTO aliases VALUES ($1, 'cloud-id', $2, $3, true, false, $4)",
        tenant_id,
        APP,
        site.cloud_id,
        clock.now(),
    )
    await installer.uninstall(site)
    assert (await the_tenant(installer)).status is TenantStatus.UNINSTALLED
    await hear(installer, on_forge)
    tenant = await the_tenant(installer)
    assert (tenant.status, tenant.platform) == (TenantStatus.INSTALLED, Platform.FORGE)
    assert (await installer.database.said())[-1].type == "tenant-installed"


async def test_who_ends_on_forge_alone_is_on_connect_again_and_its_losses_count_from_then(
    installer: Installer, site: Site, on_forge: ForgeInstallation, clock: ManualClock
) -> None:
    tenant_id = await install(installer, site, installationId=on_forge.ari)
    await begin_check(installer, tenant_id)
    await hear(installer, on_forge)
    clock.advance(timedelta(days=100))
    await hear(installer, on_forge, UNINSTALLED)
    tenant = await the_tenant(installer)
    assert (tenant.status, tenant.platform) == (TenantStatus.INSTALLED, Platform.CONNECT)
    assert tenant.platform_since == clock.now()
    assert (await installer.database.said())[-1].state == tenant
    assert (await timeline(installer, tenant_id))[-2:] == ["forge-uninstalled", "moved-to-connect"]
    assert (await check_of(installer, tenant_id))["last_seen_at"] == clock.now()
    await installer.uninstall(site)
    assert (await the_tenant(installer)).status is TenantStatus.UNINSTALLED


async def test_who_left_forge_and_comes_back_by_connect_is_a_connect_tenant(
    installer: Installer, site: Site, on_forge: ForgeInstallation
) -> None:
    tenant_id = await install(installer, site, installationId=on_forge.ari)
    await hear(installer, on_forge)
    await installer.uninstall(site)
    await hear(installer, on_forge, UNINSTALLED)
    left = await the_tenant(installer)
    assert (left.status, left.platform) == (TenantStatus.UNINSTALLED, Platform.FORGE)
    await install(installer, site)
    back = await the_tenant(installer)
    assert (back.status, back.platform) == (TenantStatus.INSTALLED, Platform.CONNECT)
    assert (await timeline(installer, tenant_id))[-2:] == ["revived", "moved-to-connect"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_tenant_of_forges_merges_into_the_one_whose_site_names_its_installation(
    installer: Installer,
    site: Site,
    on_forge: ForgeInstallation,
    clock: ManualClock,
    known: bool,
) -> None:
    living = await install(installer, site) if known else None
    await hear(installer, on_forge)
    (closing,) = set(await all_tenants(installer)) - {living}
    clock.advance(timedelta(days=1))
    living = await install(installer, site, installationId=on_forge.ari)
    closed = await state_of(installer, closing)
    assert closed.merged_into == living
    assert closed.status is TenantStatus.UNINSTALLED
    assert closed.departure is not None
    assert (closed.departure.how, closed.departure.at) == (
        DepartureKind.SUPERSEDED,
        clock.now(),
    )
    assert (await timeline(installer, closing))[-1] == "merged"
    # All its names find the other one now, whatever comes next.
    assert await names_of(installer, closing) == {}
    assert set(await names_of(installer, living)) == {on_forge.installation_id, site.cloud_id}
    moved = await state_of(installer, living)
    assert (moved.platform, moved.status) == (Platform.FORGE, TenantStatus.INSTALLED)
    said = (await installer.database.said(living))[-1]
    assert (said.type, said.state) == ("tenant-updated", moved)
    await hear(installer, ForgeInstallation.of(site, APP))
    assert len(await all_tenants(installer)) == 2


async def test_an_import_takes_the_name_on_forge_along_and_merges_nothing(
    installer: Installer, site: Site, on_forge: ForgeInstallation
) -> None:
    old = await install(installer, site, installationId=on_forge.ari)
    imported = replace(site.with_new_secret(), client_key="imported")
    new = await install(installer, imported, installationId=on_forge.ari)
    left = await state_of(installer, old)
    assert left.status is TenantStatus.UNINSTALLED
    assert left.merged_into is None
    assert set(await names_of(installer, new)) == {on_forge.installation_id}
    assert await names_of(installer, old) == {}


async def test_a_connect_tenant_that_loses_its_name_on_forge_keeps_its_time_to_come_back(
    installer: Installer, site: Site, on_forge: ForgeInstallation
) -> None:
    old = await install(installer, site, installationId=on_forge.ari)
    await installer.uninstall(site)
    assert await installer.database.status(old) == "installed"
    elsewhere = Site.named("globex")
    await install(installer, elsewhere, installationId=on_forge.ari)
    left = await state_of(installer, old)
    assert left.departure is not None
    assert (left.departure.how, left.merged_into) == (DepartureKind.SUPERSEDED, None)


async def test_a_merge_takes_the_licence_along(
    installer: Installer, site: Site, on_forge: ForgeInstallation, clock: ManualClock
) -> None:
    await hear(installer, on_forge)
    closing = (await the_tenant(installer)).tenant_id
    await installer.database.owner.execute(
        "INSERT INTO licences (addon_key, number, entitlement_number, hosting, status,"
        " licence_type, last_updated, first_seen_at, heard_at, tenant_id, matched_by)"
        " VALUES ($1, '7', 'E-7', 'cloud', 'active', 'COMMERCIAL', $2, $3, $3, $4, 'cloud-id')",
        APP,
        clock.now().date(),
        clock.now(),
        closing,
    )
    living = await install(installer, site, installationId=on_forge.ari)
    state = await state_of(installer, living)
    assert state.subscription.status == "active"
    assert "E-7" in state.licence_numbers
    assert (await installer.database.said(living))[-1].state == state
    assert (await state_of(installer, closing)).licence_numbers == ()


@pytest.mark.parametrize("ari", ["ari:cloud:other::thing/1", "a b", "x" * 200])
async def test_a_name_of_another_shape_is_no_name(
    installer: Installer, site: Site, ari: str
) -> None:
    tenant_id = await install(installer, site, installationId=ari)
    assert await names_of(installer, tenant_id) == {}


# -- what is refused -------------------------------------------------------------------------


async def test_an_app_without_a_forge_id_has_no_route(installer: Installer, site: Site) -> None:
    installation = ForgeInstallation.of(site, OTHER_APP)
    for path in ("lifecycle", "pre-uninstall"):
        token = installer.atlassian.forge.token(installation)
        answer = await installer.http.post(
            f"{installer.url}/forge/{OTHER_APP}/{path}",
            content=installation.event_body(INSTALLED),
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 404
        counted = installer.figure(
            "calls_refused_total", route=f"forge-{path}", reason="unknown-app"
        )
        assert counted == 1


async def test_a_call_to_one_app_is_no_call_to_another(
    start_installer: StartInstaller, make_settings: MakeSettings, on_forge: ForgeInstallation
) -> None:
    apps = tuple(App(key=key, name=key, forge_app_id=forge_app_id(key)) for key in (APP, OTHER_APP))
    installer = await start_installer(make_settings(apps=apps))
    assert (await send(installer, on_forge, INSTALLED, app=OTHER_APP)).status_code == 401
    assert (await send(installer, on_forge, INSTALLED)).status_code == 204


@pytest.mark.parametrize(("development", "status"), [(True, 204), (False, 403)])
async def test_developers_own_installations_are_for_development(
    start_installer: StartInstaller,
    make_settings: MakeSettings,
    on_forge: ForgeInstallation,
    development: bool,
    status: int,
) -> None:
    installer = await start_installer(make_settings(development=development))
    says = {"environment": {"type": "DEVELOPMENT"}}
    answer = await send(installer, on_forge, INSTALLED, says=says)
    assert answer.status_code == status
    counted = installer.figure(
        "calls_refused_total", route="forge-lifecycle", reason="another-environment"
    )
    assert counted == (0 if development else 1)


async def test_the_licence_that_a_token_tells_of_decides_nothing(
    installer: Installer, on_forge: ForgeInstallation
) -> None:
    answer = await send(installer, on_forge, INSTALLED, says={"license": {"isActive": False}})
    assert answer.status_code == 204
    assert (await the_tenant(installer)).subscription.status == "none"


async def test_the_stand_in_and_the_installer_understand_each_other(
    installer: Installer, site: Site
) -> None:
    for event in (INSTALLED, UPGRADED, UNINSTALLED):
        answer = await installer.atlassian.send_forge(site, event, installer.url, APP)
        assert answer.status_code == 204
    tenant = await the_tenant(installer)
    assert await timeline(installer, tenant.tenant_id) == [
        "forge-installed",
        "forge-upgraded",
        "forge-uninstalled",
    ]


@pytest.mark.parametrize("path", ["lifecycle", "pre-uninstall"])
@pytest.mark.parametrize("module", [{"key": "the-page"}, {}])
async def test_a_token_of_a_page_ends_no_installation(
    installer: Installer, on_forge: ForgeInstallation, path: str, module: dict[str, str]
) -> None:
    await hear(installer, on_forge)
    token = forge_token(installer, on_forge, app={"module": module})
    answer = await installer.http.post(
        f"{installer.url}/forge/{APP}/{path}",
        content=on_forge.event_body(UNINSTALLED),
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 403
    assert (await the_tenant(installer)).status is TenantStatus.INSTALLED
