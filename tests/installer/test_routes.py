"""Atlassian's calls against the whole HTTP edge and a real database."""

import asyncio
import io
import json
from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from joserfc.jwk import OKPKey

from chassis.clock import ManualClock
from chassis.epochs import ensure_epoch
from connect import jwt
from connect.lifecycle import EventType
from connect.qsh import query_string_hash
from contracts.tenants import DepartureKind, TenantStatus
from devstack.atlassian import Hook, Site
from services.installer.store import tenants as store
from tests.installer.conftest import (
    APP,
    OTHER_APP,
    PUBLIC_URL,
    AtlassianAtWork,
    Database,
    Installer,
    MakeSettings,
    StartInstaller,
)

NOTHING = {
    "tenants": 0,
    "installations": 0,
    "tenant_keys": 0,
    "outbox": 0,
    "accepted_purges": 0,
}
ONE = dict.fromkeys(["tenants", "installations", "tenant_keys", "outbox"], 1) | {
    "accepted_purges": 0
}


def is_problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


# -- installs --------------------------------------------------------------------------------


async def test_a_first_install_makes_a_tenant_and_says_so_once(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    answer = await installer.install(site)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await installer.database.counts() == ONE
    (said,) = await installer.database.said()
    assert said.type == "tenant-installed"
    assert said.data_class == "installation"
    assert said.state.status is TenantStatus.INSTALLED
    assert said.state.licence_numbers == ("SEN-12345678",)
    assert said.state.created_at == clock.now()
    assert said.envelope.subject == said.envelope.partitionkey == str(said.state.tenant_id)
    assert said.state.tenant_id.version == 7


async def test_exactly_what_the_policy_lists_is_stored(installer: Installer, site: Site) -> None:
    tenant_id = await installer.installed(site)
    stored = dict(await installer.database.stored(tenant_id))
    assert stored.pop("shared_secret") != site.shared_secret.encode()
    assert stored == {
        "tenant_id": tenant_id,
        "live": True,
        "addon_key": APP,
        "product_type": "jira",
        "client_key": site.client_key,
        "base_url": site.base_url,
        "service_entitlement_number": "SEN-12345678",
        "oauth_client_id": None,
        # Licence details (promise P3), and what we note ourselves.
        "entitlement_id": None,
        "entitlement_number": None,
        "present": True,
        "replaced_secret": None,
        "replaced_until": None,
    }
    assert await installer.database.secret(tenant_id) == site.shared_secret


async def test_what_was_said_is_what_is_stored(installer: Installer, site: Site) -> None:
    tenant_id = await installer.installed(site)
    async with installer.database.runtime.acquire() as connection, connection.transaction():
        stored = await store.lock_tenant(connection, tenant_id)
    (said,) = await installer.database.said()
    assert stored == said.state


async def test_the_same_install_twice_makes_one_tenant_and_one_state(
    installer: Installer, site: Site
) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    assert [(await installer.send(hook)).status_code for _ in range(2)] == [204, 204]
    assert await installer.database.counts() == ONE


async def test_two_installs_at_once_make_one_tenant(installer: Installer, site: Site) -> None:
    hooks = [
        installer.hook(replace(site, shared_secret=f"ATCO{n}"), EventType.INSTALLED)
        for n in range(12)
    ]
    answers = await asyncio.gather(*(installer.send(hook) for hook in hooks))
    assert {answer.status_code for answer in answers} == {204}
    counts = await installer.database.counts()
    assert counts == ONE
    (tenant_id,) = await installer.database.tenants(site.client_key)
    assert (await installer.database.secret(tenant_id)).startswith("ATCO")


async def test_many_sites_at_once_become_as_many_tenants_each_with_its_own_secret(
    installer: Installer,
) -> None:
    sites = [Site.named(f"site-{n}") for n in range(40)]
    answers = await asyncio.gather(*(installer.install(site) for site in sites))
    assert {answer.status_code for answer in answers} == {204}
    for site in sites:
        (tenant_id,) = await installer.database.tenants(site.client_key)
        assert await installer.database.secret(tenant_id) == site.shared_secret
    assert len(await installer.database.said()) == 40


async def test_one_site_with_two_apps_is_two_tenants(installer: Installer, site: Site) -> None:
    assert (await installer.install(site, APP)).status_code == 204
    assert (await installer.install(site, OTHER_APP)).status_code == 204
    assert len(await installer.database.tenants(site.client_key)) == 2
    assert {said.type for said in await installer.database.said()} == {"tenant-installed"}


async def test_a_new_secret_replaces_the_old_one_and_nothing_is_said(
    installer: Installer, site: Site
) -> None:
    tenant_id = await installer.installed(site)
    renewed = site.with_new_secret()
    assert await installer.installed(renewed) == tenant_id
    assert await installer.database.secret(tenant_id) == renewed.shared_secret
    assert await installer.database.counts() == ONE


async def test_a_rename_moves_the_site_and_keeps_the_tenant(
    installer: Installer, site: Site
) -> None:
    tenant_id = await installer.installed(site)
    renamed = replace(site, base_url="https://acme-renamed.atlassian.net")
    assert await installer.installed(renamed) == tenant_id
    stored = await installer.database.stored(tenant_id)
    assert stored["base_url"] == "https://acme-renamed.atlassian.net"
    assert await installer.database.secret(tenant_id) == site.shared_secret
    assert await installer.database.counts() == ONE


async def test_a_new_licence_number_is_said_with_the_next_version(
    installer: Installer, site: Site
) -> None:
    await installer.installed(replace(site, service_entitlement_number=None))
    await installer.installed(site)
    first, second = await installer.database.said()
    assert (first.state.licence_numbers, second.state.licence_numbers) == ((), ("SEN-12345678",))
    assert second.type == "tenant-updated"
    assert second.state.version > first.state.version


async def test_an_import_makes_a_new_tenant_and_starts_the_old_ones_clock(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    old = await installer.installed(site)
    clock.advance(timedelta(days=1))
    imported = replace(site.with_new_secret(), client_key="imported")
    new = await installer.installed(imported)
    assert new != old
    last = (await installer.database.said(old))[-1]
    assert last.type == "tenant-uninstalled"
    assert last.state.status is TenantStatus.UNINSTALLED
    assert last.state.departure is not None
    assert last.state.departure.how is DepartureKind.SUPERSEDED
    assert last.state.departure.at == clock.now()
    assert await installer.database.secret(old) == site.shared_secret
    assert await installer.database.status(new) == "installed"


async def test_an_install_under_a_new_epoch_carries_it(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    await installer.installed(Site.named("before"))
    clock.advance(timedelta(hours=1))
    async with installer.database.worker.acquire() as connection:
        opened = await ensure_epoch(connection, wall=clock.wall(), force=True)
    tenant_id = await installer.installed(site)
    (said,) = await installer.database.said(tenant_id)
    assert said.state.version.epoch == opened.number


# -- uninstalls ------------------------------------------------------------------------------


async def test_an_uninstall_starts_the_clock_once(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await installer.installed(site)
    clock.advance(timedelta(days=2))
    left_at = clock.now()
    assert (await installer.uninstall(site)).status_code == 204
    clock.advance(timedelta(days=1))
    assert (await installer.uninstall(site)).status_code == 204
    installed, left = await installer.database.said(tenant_id)
    assert left.type == "tenant-uninstalled"
    assert left.state.status is TenantStatus.UNINSTALLED
    assert left.state.departure is not None
    assert (left.state.departure.at, left.state.departure.how) == (
        left_at,
        DepartureKind.UNINSTALLED,
    )
    assert left.state.version > installed.state.version


async def test_an_uninstall_of_nobody_is_well_and_stores_nothing(
    installer: Installer, site: Site
) -> None:
    assert (await installer.uninstall(site)).status_code == 204
    assert await installer.database.counts() == NOTHING


async def test_a_site_cannot_uninstall_another(installer: Installer, site: Site) -> None:
    other = Site.named("globex")
    tenant_id, _ = await installer.installed(site), await installer.installed(other)
    said_before = len(await installer.database.said())
    hook = installer.hook(other, EventType.UNINSTALLED)
    body = json.loads(hook.content) | {"clientKey": site.client_key}
    is_problem(await installer.send(hook, content=json.dumps(body)), 403)
    assert await installer.database.status(tenant_id) == "installed"
    assert len(await installer.database.said()) == said_before


async def test_a_reinstall_revives_the_same_tenant_with_the_new_secret(
    installer: Installer, site: Site
) -> None:
    tenant_id = await installer.installed(site)
    await installer.uninstall(site)
    again = site.with_new_secret()
    assert await installer.installed(again) == tenant_id
    last = (await installer.database.said(tenant_id))[-1]
    assert last.type == "tenant-installed"
    assert last.state.status is TenantStatus.INSTALLED
    assert last.state.departure is None
    assert last.state.version.n == 3
    assert await installer.database.secret(tenant_id) == again.shared_secret


# -- what is refused -------------------------------------------------------------------------


def with_secret(site: Site, path: str) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": site.client_key,
        "aud": [f"{PUBLIC_URL}/connect/{APP}"],
        "iat": now,
        "exp": now + 180,
        "qsh": query_string_hash("POST", path, ""),
    }
    return {"Authorization": f"JWT {jwt.sign(claims, site.shared_secret.encode())}"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("event", ["installed", "uninstalled"])
async def test_a_token_made_with_the_shared_secret_installs_nothing(
    installer: Installer, site: Site, known: bool, event: str
) -> None:
    if known:
        await installer.installed(site)
    before = await installer.database.counts()
    hook = installer.hook(site, EventType(event))
    answer = await installer.send(hook, headers=with_secret(site, hook.path))
    is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == f'JWT realm="{APP}"'
    assert await installer.database.counts() == before


def body_of(hook: Hook, **changed: Any) -> bytes:
    body = json.loads(hook.content) | changed
    return json.dumps({k: v for k, v in body.items() if v is not ...}).encode()


BAD_BODIES: dict[str, Any] = {
    "no body": lambda _: b"",
    "not JSON": lambda hook: hook.content[:-7],
    "a list": lambda _: b"[]",
    "a string": lambda _: b'"installed"',
    "null": lambda _: b"null",
    "not UTF-8": lambda hook: hook.content.replace(b"Atlassian", b"\xff\xfe"),
    "no client key": lambda hook: body_of(hook, clientKey=...),
    "a number for a client key": lambda hook: body_of(hook, clientKey=7),
    "a list for a secret": lambda hook: body_of(hook, sharedSecret=["ATCOsecret-in-a-list"]),
    "no secret": lambda hook: body_of(hook, sharedSecret=...),
    "an endless secret": lambda hook: body_of(hook, sharedSecret="ATCO" + "s" * 500),
    "a NUL": lambda hook: body_of(hook, clientKey="a\x00b"),
    "half a surrogate pair": lambda hook: hook.content.replace(b'"ATCO', b'"\\ud800ATCO'),
    "another event": lambda hook: body_of(hook, eventType="uninstalled"),
    "a host that is not Atlassian's": lambda hook: body_of(hook, baseUrl="https://evil.example"),
    "another app": lambda hook: body_of(hook, key=OTHER_APP),
    "deep nesting": lambda _: b"[" * 20_000,
    "a name twice": lambda hook: hook.content[:-1] + b', "clientKey": "another"}',
}


@pytest.mark.parametrize("wrong", BAD_BODIES)
async def test_a_bad_body_is_refused_stores_nothing_and_shows_no_secret(
    installer: Installer, site: Site, wrong: str, log: io.StringIO
) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    answer = await installer.send(hook, content=BAD_BODIES[wrong](hook))
    is_problem(answer, 400)
    assert await installer.database.counts() == NOTHING
    for shown in (answer.text, log.getvalue()):
        for private in ("ATCO", site.client_key, "acme", "evil", "eyJ"):
            assert private not in shown


async def test_an_unknown_app_is_not_found(installer: Installer, site: Site) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    for path in ("installed", "uninstalled", "enabled", "disabled"):
        sent = replace(hook, path=f"/lifecycle/{path}")
        is_problem(await installer.send(sent, app="com.example.unknown"), 404)
    answer = await installer.http.get(f"{installer.url}/connect/unknown/atlassian-connect.json")
    is_problem(answer, 404)
    assert await installer.database.counts() == NOTHING


@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_is_too_large_is_not_read(
    installer: Installer, site: Site, size: int, chunked: bool
) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    content = body_of(hook, description="d" * size)

    async def in_chunks() -> Any:
        for start in range(0, len(content), 16_384):
            yield content[start : start + 16_384]

    answer = await installer.send(hook, content=in_chunks() if chunked else content)
    is_problem(answer, 413)
    assert await installer.database.counts() == NOTHING


async def test_a_length_that_is_too_large_is_refused_before_the_token_is_looked_at(
    installer: Installer, site: Site
) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    is_problem(await installer.send(hook, content=b" " * 65_537, headers={}), 413)


@pytest.mark.parametrize("event", list(EventType))
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method_is_not_allowed(
    installer: Installer, event: EventType, method: str
) -> None:
    answer = await installer.http.request(
        method, f"{installer.url}/connect/{APP}/lifecycle/{event}"
    )
    is_problem(answer, 405)
    assert answer.headers["allow"] == "POST"


async def test_a_call_without_a_token_is_refused(installer: Installer, site: Site) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    is_problem(await installer.send(hook, headers={}), 401)
    assert await installer.database.counts() == NOTHING


async def test_a_call_to_one_app_cannot_be_played_to_another(
    installer: Installer, site: Site
) -> None:
    hook = installer.hook(site, EventType.INSTALLED)
    content = body_of(hook, key=OTHER_APP)
    is_problem(await installer.send(hook, app=OTHER_APP, content=content), 401)
    assert await installer.database.counts() == NOTHING


async def test_a_query_is_part_of_what_is_signed(installer: Installer, site: Site) -> None:
    hook = installer.hook(site, EventType.INSTALLED, query="user_key=admin&x=%20a")
    assert (await installer.send(hook)).status_code == 204
    other = replace(hook, path=hook.path.replace("admin", "other"))
    is_problem(await installer.send(other), 401)


async def test_while_the_key_host_is_away_an_unknown_key_can_be_tried_again(
    start_installer: StartInstaller,
    make_settings: MakeSettings,
    atlassian_at_work: AtlassianAtWork,
    site: Site,
) -> None:
    installer = await start_installer(make_settings())
    atlassian_at_work.atlassian.key_host_is_away = True
    try:
        answer = await installer.install(site)
    finally:
        atlassian_at_work.atlassian.key_host_is_away = False
    is_problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert await installer.database.counts() == NOTHING
    assert (await installer.install(site)).status_code == 204


async def test_a_known_key_serves_while_the_key_host_is_away(
    installer: Installer, atlassian_at_work: AtlassianAtWork, site: Site
) -> None:
    await installer.installed(Site.named("first"))
    atlassian_at_work.atlassian.key_host_is_away = True
    try:
        assert (await installer.install(site)).status_code == 204
    finally:
        atlassian_at_work.atlassian.key_host_is_away = False


async def test_while_the_database_is_busy_the_call_can_be_tried_again(
    installer: Installer, site: Site, database: Database
) -> None:
    tenant_id = await installer.installed(site)
    async with database.owner.transaction():
        await database.owner.execute(
            "SELECT FROM tenants WHERE tenant_id = $1 FOR UPDATE", tenant_id
        )
        uninstall = asyncio.create_task(installer.uninstall(site))
        waiting = None
        while waiting is None:
            waiting = await database.worker.fetchval(
                "SELECT pid FROM pg_locks WHERE NOT granted LIMIT 1"
            )
        await _terminate(database, waiting)
        is_problem(await uninstall, 503)
    assert await database.status(tenant_id) == "installed"


async def _terminate(database: Database, pid: int) -> None:
    # A session of the same role may be ended by it.
    async with database.runtime.acquire() as connection:
        await connection.execute("SELECT pg_terminate_backend($1)", pid)


async def test_no_secret_reaches_a_log_an_answer_or_the_bus(
    installer: Installer, site: Site, log: io.StringIO
) -> None:
    renewed = site.with_new_secret()
    answers = [
        await installer.install(site),
        await installer.install(renewed),
        await installer.install(replace(renewed, base_url="https://acme3.atlassian.net")),
        await installer.uninstall(renewed),
        await installer.install(renewed),
        await installer.send(installer.hook(site, EventType.INSTALLED), headers={}),
    ]
    assert [answer.status_code for answer in answers] == [204] * 5 + [401]
    lines = log.getvalue()
    assert "tenant changed" in lines
    rows = await installer.database.owner.fetch("SELECT headers, payload FROM outbox")
    on_the_bus = "".join(row["headers"] + row["payload"].decode() for row in rows)
    for shown in (lines, on_the_bus, *(answer.text for answer in answers)):
        for private in (site.shared_secret, renewed.shared_secret, site.client_key, "acme"):
            assert private not in shown


# -- descriptor, keys, a laptop's own --------------------------------------------------------


async def test_the_descriptor_names_the_hooks_and_stays_the_same(
    installer: Installer, start_installer: StartInstaller, make_settings: MakeSettings
) -> None:
    path = f"/connect/{APP}/atlassian-connect.json"
    answer = await installer.http.get(installer.url + path)
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    told = answer.json()
    assert told["key"] == APP
    assert told["baseUrl"] == f"{PUBLIC_URL}/connect/{APP}"
    assert told["apiMigrations"]["signed-install"] is True
    assert told["lifecycle"]["installed"] == "/lifecycle/installed"
    other = await start_installer(make_settings())
    assert (await installer.http.get(other.url + path)).content == answer.content


async def test_a_session_token_is_checked_by_the_published_key(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await installer.installed(site)
    answer = await installer.http.post(
        f"{installer.url}/development/session-tokens", json={"tenant_id": str(tenant_id)}
    )
    assert answer.status_code == 201
    assert answer.json()["expires_in_seconds"] == 900
    token = answer.json()["token"]
    keys = (await installer.http.get(f"{installer.url}/.well-known/jwks.json")).json()["keys"]
    (key,) = keys
    assert "d" not in key
    header, claims = verified(token, key)
    assert header == {"alg": "EdDSA", "kid": key["kid"], "typ": "JWT"}
    now = int(clock.wall().timestamp())
    assert claims == {
        "iss": "keepword-installer",
        "aud": ["config", "notifier"],
        "sub": str(tenant_id),
        # On a laptop, where nobody else could ask for an erasure.
        "role": "administrator",
        "iat": now,
        "exp": now + 900,
    }


def verified(token: str, jwk: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    key = OKPKey.import_key(jwk)
    assert key.thumbprint() == jwk["kid"]
    header, claims, signature = token.split(".")
    raw = [urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (header, claims, signature)]
    key.public_key.verify(raw[2], f"{header}.{claims}".encode())  # type: ignore[union-attr]
    return json.loads(raw[0]), json.loads(raw[1])


async def test_nobody_gets_a_token_for_a_tenant_that_is_not_installed(
    installer: Installer, site: Site
) -> None:
    tokens = f"{installer.url}/development/session-tokens"
    unknown = await installer.http.post(tokens, json={"tenant_id": str(uuid4())})
    is_problem(unknown, 404)
    tenant_id = await installer.installed(site)
    await installer.uninstall(site)
    left = await installer.http.post(tokens, json={"tenant_id": str(tenant_id)})
    is_problem(left, 409)
    is_problem(await installer.http.post(tokens, json={"tenant_id": "x"}), 400)


async def test_tenants_are_looked_up_by_their_name(installer: Installer, site: Site) -> None:
    tenant_id = await installer.installed(site)
    await installer.uninstall(site)
    asked = {"addon_key": APP, "client_key": site.client_key}
    found = await installer.http.post(f"{installer.url}/staff/tenants/lookup", json=asked)
    listed = await installer.http.get(f"{installer.url}/staff/tenants")
    expected = {"tenants": [{"tenant_id": str(tenant_id), "status": "uninstalled"}]}
    assert found.json() == listed.json() == expected
    nobody = await installer.http.post(
        f"{installer.url}/staff/tenants/lookup", json=asked | {"client_key": "nobody"}
    )
    assert nobody.json() == {"tenants": []}


async def test_outside_development_there_are_no_such_routes(
    start_installer: StartInstaller, make_settings: MakeSettings
) -> None:
    installer = await start_installer(make_settings(development=False))
    is_problem(await installer.http.get(f"{installer.url}/staff/tenants"), 404)
    body = {"tenant_id": str(UUID(int=1))}
    answer = await installer.http.post(f"{installer.url}/development/session-tokens", json=body)
    is_problem(answer, 404)


async def test_a_laptops_host_is_a_site_only_where_it_is_named(
    start_installer: StartInstaller, make_settings: MakeSettings, installer: Installer
) -> None:
    local = replace(Site.named("local"), base_url="http://localhost:2990")
    is_problem(await installer.install(local), 400)
    lenient = await start_installer(
        make_settings(development_site_hosts=frozenset({"localhost:2990"}))
    )
    assert (await lenient.install(local)).status_code == 204
