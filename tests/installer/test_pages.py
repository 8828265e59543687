"""An app's page and its session: the whole HTTP edge, a real database, and a browser's requests."""

import asyncio
import io
import json
import logging
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx2
import pytest
import structlog
from joserfc.jwk import OKPKey

from chassis import logs
from chassis.clock import ManualClock
from chassis.keys import TenantKeys
from connect.qsh import CONTEXT_QSH, query_string_hash
from contracts.classes import TENANT_CLASSES
from contracts.purges import PurgeRequested
from contracts.tenants import DepartureKind
from devstack.atlassian import Site
from devstack.atlassian.signer import sign_with_secret
from services.installer import handlers
from services.installer.domain import tenants as domain
from services.installer.store import tenants as store
from tests.installer.conftest import (
    APP,
    OTHER_APP,
    PUBLIC_URL,
    Database,
    Installer,
    MakeSettings,
    StartInstaller,
)

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PERSON = "5be24ad8b1653240376955d2"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, by our loggers and by others'."""
    root = logging.getLogger()
    handlers_before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("installer", "debug", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers_before
    root.setLevel(level)


async def open_page(
    installer: Installer,
    site: Site,
    *,
    app: str = APP,
    path: str = "/entry",
    query: str = "",
    token: str | None = None,
    accept: str | None = BROWSER["accept"],
    language: str = "en",
) -> httpx2.Response:
    """Open the page as the site's frame does."""
    query = query or urlencode({"lic": "active", "xdm_e": "https://acme.atlassian.net", "cp": ""})
    if token is None:
        token = sign_with_secret(site, query_string_hash("GET", path, query))
    address = f"{installer.url}/connect/{app}{path}?{query}&jwt={token}"
    headers = {"accept-language": language} | ({"accept": accept} if accept else {})
    return await installer.http.get(address, headers=headers)


def context_token(site: Site, **options: Any) -> str:
    claims = {"sub": PERSON, "context": {"user": {"accountId": PERSON}}}
    return sign_with_secret(site, CONTEXT_QSH, more_claims=claims, **options)


async def exchange(
    installer: Installer, token: str | None, *, app: str = APP, **options: Any
) -> httpx2.Response:
    headers = {} if token is None else {"authorization": f"JWT {token}"}
    return await installer.http.post(
        f"{installer.url}/connect/{app}/session-tokens", headers=headers, **options
    )


def session_in(page: httpx2.Response) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="session">(.*?)</script>', page.text)
    assert found is not None
    session: dict[str, Any] = json.loads(found[1])
    return session


async def claims_of(installer: Installer, token: str) -> dict[str, Any]:
    """Check a token as config does, and say what it claims."""
    published = (await installer.http.get(f"{installer.url}/.well-known/jwks.json")).json()
    (jwk,) = published["keys"]
    header, claims, signature = token.split(".")
    raw = [urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (header, claims, signature)]
    key = OKPKey.import_key(jwk).public_key
    key.verify(raw[2], f"{header}.{claims}".encode())  # type: ignore[union-attr]
    told: dict[str, Any] = json.loads(raw[1])
    return told


async def let_purge(installer: Installer, tenant_id: UUID) -> None:
    """Take a tenant that has left past the point of no return."""
    state = (await installer.database.said(tenant_id))[-1].state
    request = PurgeRequested(
        purge_id=uuid4(),
        step="accept",
        tenant_id=tenant_id,
        tenant_version=state.version,
        classes=TENANT_CLASSES,
    )
    async with installer.running.units.begin() as uow:
        await handlers.handlers.by_model[PurgeRequested].function(request, uow)
    assert await installer.database.status(tenant_id) == "purging"


def is_problem(answer: httpx2.Response, status: int, reason: str | None = None) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("reason") == reason


def is_notice(answer: httpx2.Response, status: int, title: str) -> None:
    """Check that a person is told what to do, and is given nothing."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert f"<h1>{title}</h1>" in answer.text
    assert f"<title>{title}</title>" in answer.text
    assert "<script" not in answer.text
    assert "set-cookie" not in answer.headers


NOT_OPENED = "This page could not be opened"
REMOVED = "The app is not installed any more"
GONE = "What was kept here is being erased"
ELSEWHERE = "Your data is in your Atlassian site"


# -- the page --------------------------------------------------------------------------------


async def test_the_page_holds_a_session_of_the_site_that_signed_its_address(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await installer.installed(site)
    page = await open_page(installer, site)
    assert page.status_code == 200
    assert "<title>Example</title>" in page.text
    session = session_in(page)
    assert session["expires_in_seconds"] == 900
    now = int(clock.wall().timestamp())
    assert await claims_of(installer, session["token"]) == {
        "iss": "keepword-installer",
        "aud": ["config", "notifier"],
        "sub": str(tenant_id),
        "iat": now,
        "exp": now + 900,
    }


async def test_the_page_may_load_nothing_but_ours_and_atlassians_bridge(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    page = await open_page(installer, site)
    assert dict(
        directive.split(" ", 1) for directive in page.headers["content-security-policy"].split("; ")
    ) == {
        "default-src": "'none'",
        "script-src": "'self' https://connect-cdn.atl-paas.net",
        "style-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "https://*.atlassian.net https://*.jira-dev.com https://*.jira.com",
    }
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in page.headers
    assert re.findall(r'(?:src|href)="([^"]+)"', page.text) == [
        "entry.css",
        "https://connect-cdn.atl-paas.net/all.js",
        "entry.js",
    ]


async def test_settings_name_who_else_may_be_called_and_what_the_page_tells(
    start_installer: StartInstaller, make_settings: MakeSettings, site: Site
) -> None:
    installer = await start_installer(
        make_settings(
            connect_bridge_url="http://127.0.0.1:2990/all.js",
            config_public_url="https://config.example.com/behind/",
            notifier_public_url="https://notifier.example.com/behind/",
            development_site_hosts=frozenset({"127.0.0.1:2990"}),
            privacy_policy_url="https://vendor.example.com/privacy?a=1&b=2",
            data_location="Frankfurt <Germany>",
        )
    )
    await installer.installed(site)
    page = await open_page(installer, site)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self' http://127.0.0.1:2990 https://config.example.com;" in policy
    assert "connect-src 'self' https://config.example.com https://notifier.example.com;" in policy
    assert "style-src 'self' https://config.example.com;" in policy
    assert "frame-src https://config.example.com/behind/screens/preview.html;" in policy
    assert 'data-src="https://config.example.com/behind/screens/app.js"' in page.text
    assert 'data-notifier="https://notifier.example.com/behind"' in page.text
    assert policy.endswith(" https://127.0.0.1:2990 http://127.0.0.1:2990")
    assert 'href="https://vendor.example.com/privacy?a=1&amp;b=2"' in page.text
    assert "<dd>Frankfurt &lt;Germany&gt;</dd>" in page.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"connect_bridge_url": "http://bridge.example.com/all.js"},
        {"connect_bridge_url": "https://bridge.example.com/all.js; script-src *"},
        {"config_public_url": "http://config.example.com"},
        {"config_public_url": "https://config.example.com *"},
        {"notifier_public_url": "https://notifier.example.com; script-src *"},
        {"privacy_policy_url": "javascript:alert(1)"},
        {"data_location": ""},
    ],
)
def test_a_setting_that_would_open_the_page_to_others_is_refused(
    make_settings: MakeSettings, wrong: dict[str, str]
) -> None:
    with pytest.raises(ValueError):
        make_settings(**wrong)


async def test_two_apps_have_a_page_each_and_a_site_of_one_is_nobody_at_the_other(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    is_notice(await open_page(installer, site, app=OTHER_APP), 401, NOT_OPENED)
    assert (await installer.install(site, OTHER_APP)).status_code == 204
    page = await open_page(installer, site, app=OTHER_APP)
    assert "<title>Other</title>" in page.text
    ours = session_in(await open_page(installer, site))
    theirs = session_in(page)
    subjects = {(await claims_of(installer, each["token"]))["sub"] for each in (ours, theirs)}
    assert len(subjects) == 2


async def test_scripts_and_styles_are_asked_for_anew_and_sent_when_they_changed(
    installer: Installer,
) -> None:
    for name, kind in (("entry.js", "text/javascript"), ("entry.css", "text/css")):
        address = f"{installer.url}/connect/{APP}/{name}"
        answer = await installer.http.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        etag = {"if-none-match": answer.headers["etag"]}
        again = await installer.http.get(address, headers=etag)
        assert (again.status_code, again.content) == (304, b"")


# -- who gets none ---------------------------------------------------------------------------


async def test_a_stranger_cannot_be_told_from_a_wrong_signature(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    stranger = await open_page(installer, Site.named("stranger"))
    forged = await open_page(installer, site.with_new_secret())
    is_notice(stranger, 401, NOT_OPENED)
    assert (stranger.status_code, stranger.text) == (forged.status_code, forged.text)
    assert stranger.headers["www-authenticate"] == f'JWT realm="{APP}"'
    assert {k: v for k, v in stranger.headers.items() if k != "date"} == {
        k: v for k, v in forged.headers.items() if k != "date"
    }


async def test_a_token_of_another_request_opens_nothing(installer: Installer, site: Site) -> None:
    await installer.installed(site)
    other_path = sign_with_secret(site, query_string_hash("GET", "/other", "lic=active"))
    is_notice(
        await open_page(installer, site, query="lic=active", token=other_path), 401, NOT_OPENED
    )
    other_query = sign_with_secret(site, query_string_hash("GET", "/entry", "lic=none"))
    is_notice(
        await open_page(installer, site, query="lic=active", token=other_query), 401, NOT_OPENED
    )
    context = context_token(site)
    is_notice(await open_page(installer, site, token=context), 401, NOT_OPENED)
    expired = sign_with_secret(
        site, query_string_hash("GET", "/entry", "lic=active"), issued_at=1_700_000_000
    )
    is_notice(await open_page(installer, site, query="lic=active", token=expired), 401, NOT_OPENED)
    bare = await installer.http.get(f"{installer.url}/connect/{APP}/entry", headers=BROWSER)
    is_notice(bare, 401, NOT_OPENED)


async def test_a_site_that_removed_the_app_is_told_so(installer: Installer, site: Site) -> None:
    await installer.installed(site)
    await installer.uninstall(site)
    is_notice(await open_page(installer, site), 403, REMOVED)
    is_problem(await open_page(installer, site, accept=None), 403, "left")
    is_problem(await exchange(installer, context_token(site)), 403, "left")
    forged = await open_page(installer, site.with_new_secret())
    is_notice(forged, 401, NOT_OPENED)


async def test_a_site_whose_data_is_being_erased_is_told_so_before_any_key_is_touched(
    installer: Installer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await installer.installed(site)
    await installer.uninstall(site)
    await let_purge(installer, tenant_id)

    def touched(*_: Any) -> bytes:
        raise AssertionError("a key was touched")

    monkeypatch.setattr(TenantKeys, "unwrapped_key", touched)
    is_notice(await open_page(installer, site), 410, GONE)
    is_problem(await open_page(installer, site, accept="application/json"), 410, "gone")
    is_problem(await exchange(installer, context_token(site)), 410, "gone")


async def test_a_site_that_installed_again_meanwhile_gets_the_new_tenants_session(
    installer: Installer, site: Site
) -> None:
    old = await installer.installed(site)
    await installer.uninstall(site)
    await let_purge(installer, old)
    again = site.with_new_secret()
    assert (await installer.install(again)).status_code == 204
    session = session_in(await open_page(installer, again))
    subject = UUID((await claims_of(installer, session["token"]))["sub"])
    assert subject != old
    assert await installer.database.status(subject) == "installed"


async def on_another_platform(installer: Installer, site: Site, platform: str) -> UUID:
    tenant_id = await installer.installed(site)
    await installer.database.owner.execute(
        "UPDATE tenants SET platform = $2, platform_since = $3 WHERE tenant_id = $1",
        tenant_id,
        platform,
        installer.running.units.clock.now(),
    )
    return tenant_id


async def test_a_site_that_moved_to_forge_gets_a_session_for_what_it_still_has(
    installer: Installer, site: Site
) -> None:
    tenant_id = await on_another_platform(installer, site, "forge")
    session = session_in(await open_page(installer, site))
    assert (await claims_of(installer, session["token"]))["sub"] == str(tenant_id)
    assert (await exchange(installer, context_token(site))).status_code == 201


async def test_an_app_in_a_data_center_has_nothing_here_to_open(
    installer: Installer, site: Site
) -> None:
    await on_another_platform(installer, site, "datacenter")
    is_notice(await open_page(installer, site), 403, ELSEWHERE)
    is_problem(await exchange(installer, context_token(site)), 403, "kept-elsewhere")


async def test_the_page_of_the_administration_alone_gives_an_administrators_session(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    plain = await claims_of(installer, session_in(await open_page(installer, site))["token"])
    assert "role" not in plain
    opened = await open_page(installer, site, path="/administration")
    administrators = await claims_of(installer, session_in(opened)["token"])
    assert administrators == plain | {"role": "administrator"}

    # What was signed for everybody's page opens no other one.
    query = urlencode({"xdm_e": "https://acme.atlassian.net"})
    everybodys = sign_with_secret(site, query_string_hash("GET", "/entry", query))
    forged = await open_page(installer, site, path="/administration", query=query, token=everybodys)
    is_notice(forged, 401, NOT_OPENED)
    renewed = (await exchange(installer, context_token(site))).json()["token"]
    assert "role" not in await claims_of(installer, renewed)


async def test_an_app_that_is_none_of_ours_is_not_found(installer: Installer, site: Site) -> None:
    is_notice(
        await open_page(installer, site, app="com.example.unknown"),
        404,
        "There is no such app here",
    )
    is_problem(await open_page(installer, site, app="com.example.unknown", accept=None), 404)
    is_problem(await exchange(installer, context_token(site), app="com.example.unknown"), 404)
    answer = await installer.http.get(f"{installer.url}/connect/com.example.unknown/")
    is_problem(answer, 404)


async def test_while_the_database_is_busy_the_page_says_to_try_again(
    installer: Installer, site: Site, database: Database
) -> None:
    await installer.installed(site)
    async with database.owner.transaction():
        await database.owner.execute("LOCK TABLE installations IN ACCESS EXCLUSIVE MODE")
        opening = asyncio.create_task(open_page(installer, site))
        waiting = None
        while waiting is None:
            waiting = await database.worker.fetchval(
                "SELECT pid FROM pg_locks WHERE NOT granted LIMIT 1"
            )
        async with database.runtime.acquire() as connection:
            # A session of the same role may be ended by it.
            await connection.execute("SELECT pg_terminate_backend($1)", waiting)
        page = await opening
    is_notice(page, 503, "We cannot be reached just now")
    assert int(page.headers["retry-after"]) > 0


async def test_a_page_that_is_opened_brings_back_a_tenant_that_seemed_lost(
    installer: Installer, site: Site
) -> None:
    tenant_id = await installer.installed(site)
    async with installer.running.units.begin() as uow:
        tenant = await store.lock_tenant(uow.connection, tenant_id)
        assert tenant is not None
        lost = domain.leave(tenant, DepartureKind.ACCESS_LOST, epoch=await uow.epoch(), at=uow.now)
        assert lost is not None
        await store.record_state(uow, lost, "tenant-uninstalled")
    forged = await open_page(installer, site.with_new_secret())
    is_notice(forged, 401, NOT_OPENED)
    assert await installer.database.status(tenant_id) == "uninstalled"

    session = session_in(await open_page(installer, site))
    assert (await claims_of(installer, session["token"]))["sub"] == str(tenant_id)
    assert await installer.database.status(tenant_id) == "installed"


async def test_who_gets_no_session_is_counted_by_the_reason(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    await open_page(installer, site.with_new_secret())
    await installer.uninstall(site)
    await exchange(installer, context_token(site))
    assert installer.figure("calls_refused_total", route="entry", reason="unproven") == 1
    assert installer.figure("calls_refused_total", route="session-tokens", reason="left") == 1


# -- the exchange ----------------------------------------------------------------------------


async def test_a_context_token_is_exchanged_for_a_session_without_a_person_in_it(
    installer: Installer, site: Site, clock: ManualClock
) -> None:
    tenant_id = await installer.installed(site)
    answer = await exchange(installer, context_token(site))
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"token", "expires_in_seconds"}
    claims = await claims_of(installer, answer.json()["token"])
    assert claims["sub"] == str(tenant_id)
    assert set(claims) == {"iss", "aud", "sub", "iat", "exp"}
    assert PERSON not in json.dumps(claims)


async def test_only_a_context_token_in_the_header_is_exchanged(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    bound = sign_with_secret(site, query_string_hash("POST", "/session-tokens", ""))
    is_problem(await exchange(installer, bound), 401, "unproven")
    is_problem(await exchange(installer, None), 401, "unproven")
    in_query = await exchange(installer, None, params={"jwt": context_token(site)})
    is_problem(in_query, 401, "unproven")
    in_body = await exchange(installer, None, data={"jwt": context_token(site)})
    is_problem(in_body, 401, "unproven")
    session = (await exchange(installer, context_token(site))).json()["token"]
    is_problem(await exchange(installer, session), 401, "unproven")
    old = context_token(site, issued_at=1_700_000_000)
    is_problem(await exchange(installer, old), 401, "unproven")


async def test_a_stranger_and_a_forger_get_the_same_refusal(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    stranger = await exchange(installer, context_token(Site.named("stranger")))
    forged = await exchange(installer, context_token(site.with_new_secret()))
    is_problem(stranger, 401, "unproven")
    assert stranger.content == forged.content


async def test_pages_of_others_are_not_told_that_they_may_ask(
    installer: Installer, site: Site
) -> None:
    await installer.installed(site)
    origin = {"origin": "https://evil.example.com"}
    preflight = await installer.http.options(
        f"{installer.url}/connect/{APP}/session-tokens",
        headers=origin | {"access-control-request-method": "POST"},
    )
    assert preflight.status_code == 405
    answer = await exchange(installer, context_token(site))
    for each in (preflight, answer):
        assert not [name for name in each.headers if name.startswith("access-control")]


async def test_neither_tokens_nor_names_reach_a_log(
    installer: Installer, site: Site, log: io.StringIO
) -> None:
    await installer.installed(site)
    page = await open_page(installer, site)
    answer = await exchange(installer, context_token(site))
    await open_page(installer, site.with_new_secret())
    await exchange(installer, context_token(site, issued_at=1_700_000_000))
    lines = log.getvalue()
    for private in (site.client_key, site.shared_secret, "acme", PERSON, "eyJ"):
        assert private not in lines
    assert site.client_key not in page.text + answer.text
    assert site.shared_secret not in page.text + answer.text


# -- the descriptor --------------------------------------------------------------------------


async def test_each_app_has_a_descriptor_whose_page_is_the_entry_page(installer: Installer) -> None:
    for app, name in ((APP, "Example"), (OTHER_APP, "Other")):
        address = f"{installer.url}/connect/{app}/"
        answer = await installer.http.get(address, follow_redirects=True)
        assert answer.url == f"{address}atlassian-connect.json"
        assert answer.headers["content-type"] == "application/json; charset=UTF-8"
        told = answer.json()
        assert (told["key"], told["baseUrl"]) == (app, f"{PUBLIC_URL}/connect/{app}")
        assert told["apiMigrations"] == {"context-qsh": True, "signed-install": True}
        assert told["modules"] == {
            "generalPages": [{"key": "entry", "name": {"value": name}, "url": "/entry"}],
            # The product signs its address for administrators alone.
            "adminPages": [
                {
                    "key": "administration",
                    "name": {"value": name},
                    "url": "/administration",
                    "conditions": [{"condition": "user_is_admin"}],
                }
            ],
        }


async def test_the_key_set_is_public_and_may_be_kept_for_a_while(installer: Installer) -> None:
    answer = await installer.http.get(f"{installer.url}/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
