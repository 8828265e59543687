"""The stand-in signs, publishes its key and calls an app as Atlassian does."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connect.descriptor import Descriptor, Vendor
from connect.install_keys import InstallKeys
from connect.jwt import Algorithm, find_token, parse, verify
from connect.keys import KeyHostAway, UnknownKey
from connect.lifecycle import (
    Disabled,
    Enabled,
    EventType,
    Installed,
    LifecycleBody,
    Uninstalled,
    read_body,
)
from connect.qsh import query_string_hash
from connect.signed_install import SignedInstalls
from devstack.atlassian import Atlassian, Site, create_app
from devstack.atlassian.service_desk import LICENCE_FIELD
from tests.connect.serving import serving

APP = "com.example.app"
BASE_PATH = f"/connect/{APP}"
BASE_URL = f"https://apps.example.com{BASE_PATH}"


class App:
    """An app that verifies its signed calls and keeps the bodies."""

    def __init__(self) -> None:
        self.gate: SignedInstalls | None = None
        self.bodies: list[LifecycleBody] = []

    async def descriptor(self, _: Request) -> Response:
        vendor = Vendor(name="Example", url="https://vendor.example.com")
        descriptor = Descriptor(key=APP, name="Example", base_url=BASE_URL, vendor=vendor)
        return Response(descriptor.to_json(), media_type="application/json")

    async def signed(self, request: Request) -> Response:
        assert self.gate is not None
        call = await self.gate.verify(
            method="POST",
            raw_path=request.scope["raw_path"],
            raw_query=request.scope["query_string"],
            authorization=request.headers.getlist("authorization"),
            base_path=BASE_PATH,
        )
        model = Installed if request.url.path.endswith("/installed") else Uninstalled
        body = read_body(model, await request.body())
        self.gate.check_body(call, body)
        self.bodies.append(body)
        return Response(status_code=204)

    async def by_secret(self, request: Request) -> Response:
        model = Enabled if request.url.path.endswith("/enabled") else Disabled
        token = parse(find_token(authorization=request.headers["authorization"]), Algorithm.HS256)
        secret = next(
            body.shared_secret.get_secret_value()
            for body in reversed(self.bodies)
            if isinstance(body, Installed) and body.client_key == token.claimed_issuer
        )
        qsh = query_string_hash("POST", request.scope["raw_path"], "", BASE_PATH)
        verify(token, secret.encode(), now=token.payload["iat"], qsh=qsh)
        self.bodies.append(read_body(model, await request.body()))
        return Response(status_code=204)

    def routes(self) -> list[Route]:
        hooks = f"{BASE_PATH}/lifecycle"
        return [
            Route(f"{BASE_PATH}/atlassian-connect.json", self.descriptor),
            Route(f"{hooks}/installed", self.signed, methods=["POST"]),
            Route(f"{hooks}/uninstalled", self.signed, methods=["POST"]),
            Route(f"{hooks}/enabled", self.by_secret, methods=["POST"]),
            Route(f"{hooks}/disabled", self.by_secret, methods=["POST"]),
        ]


class Stage:
    """The stand-in and an app, each on a port of its own."""

    def __init__(self, atlassian: Atlassian, app: App, url: str, app_url: str) -> None:
        self.atlassian = atlassian
        self.app = app
        self.url = url
        self.app_url = app_url


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


@pytest.fixture
async def stage(http: httpx2.AsyncClient) -> AsyncIterator[Stage]:
    app, atlassian = App(), Atlassian(http)
    async with (
        serving(Starlette(routes=app.routes())) as app_url,
        serving(create_app(atlassian, app_url, [APP])) as url,
    ):
        app.gate = SignedInstalls(InstallKeys(http, f"{url}/install-keys"), APP, [BASE_URL])
        yield Stage(atlassian, app, url, app_url)


async def test_a_site_installs_and_uninstalls_an_app(stage: Stage) -> None:
    site = stage.atlassian.site("acme")

    installed = await stage.atlassian.install(site, stage.app_url, APP)
    uninstalled = await stage.atlassian.uninstall(site, stage.app_url, APP, query="user_key=admin")

    assert (installed.status_code, uninstalled.status_code) == (204, 204)
    first, second = stage.app.bodies
    assert isinstance(first, Installed)
    assert isinstance(second, Uninstalled)
    assert first.client_key == second.client_key == site.client_key
    assert first.base_url == site.base_url == "https://acme.atlassian.net"
    assert first.shared_secret.get_secret_value() == site.shared_secret
    assert stage.atlassian.key_requests == {stage.atlassian.key_id: 1}


async def test_enabled_and_disabled_are_signed_with_the_secret_of_the_install(stage: Stage) -> None:
    site = stage.atlassian.site("initech")
    await stage.atlassian.install(site, stage.app_url, APP)

    for event in (EventType.ENABLED, EventType.DISABLED):
        answer = await stage.atlassian.send(site, event, stage.app_url, APP)
        assert answer.status_code == 204

    assert [type(body) for body in stage.app.bodies] == [Installed, Enabled, Disabled]
    assert stage.app.bodies[0].base_url == "https://initech.atlassian.net/wiki"


async def test_a_program_makes_a_site_call_the_app(stage: Stage, http: httpx2.AsyncClient) -> None:
    for verb, event in (("install", "installed"), ("enable", "enabled"), ("install", "installed")):
        answer = await http.post(f"{stage.url}/sites/new-one/{verb}")
        assert answer.json() == {"site": "new-one", "app": APP, "event": event, "status": 204}

    first, _, second = stage.app.bodies
    assert isinstance(first, Installed)
    assert isinstance(second, Installed)
    assert first.client_key == second.client_key
    assert first.shared_secret != second.shared_secret


async def test_a_person_presses_a_button_and_reads_the_answer(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    pressed = await http.post(
        f"{stage.url}/sites/acme/install?app={APP}",
        headers={"Accept": "text/html"},
        follow_redirects=True,
    )

    assert pressed.url == f"{stage.url}/"
    assert "installed: 204" in pressed.text
    assert f'action="/sites/acme/uninstall?app={APP}"' in pressed.text
    assert "<script" not in pressed.text
    for site in stage.atlassian.sites.values():
        assert site.shared_secret not in pressed.text


@pytest.mark.parametrize(
    "path", ["/sites/acme/explode", "/sites/ACME/install", "/sites/a%2Fb/install", "/key-host/x"]
)
async def test_what_does_not_exist_is_not_found(
    path: str, stage: Stage, http: httpx2.AsyncClient
) -> None:
    assert (await http.post(f"{stage.url}{path}")).status_code == 404
    assert (await http.post(f"{stage.url}/sites/acme/install?app=other")).status_code == 404


async def test_an_app_that_does_not_answer_is_a_bad_gateway(http: httpx2.AsyncClient) -> None:
    async with serving(Starlette()) as gone:
        pass
    async with serving(create_app(Atlassian(http), gone, [APP])) as url:
        answer = await http.post(f"{url}/sites/acme/install")

    assert (answer.status_code, answer.json()["status"]) == (502, None)


async def test_the_key_host_can_be_sent_away_and_brought_back(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    keys = InstallKeys(http, f"{stage.url}/install-keys")

    assert (await http.post(f"{stage.url}/key-host/away")).json()["away"] is True
    with pytest.raises(KeyHostAway):
        await keys.key(stage.atlassian.key_id)
    assert (await http.post(f"{stage.url}/key-host/back")).json()["away"] is False
    assert await keys.key(stage.atlassian.key_id)
    with pytest.raises(UnknownKey):
        await keys.key("another")
    assert (await http.get(f"{stage.url}/key-host")).json()["requests"] >= 3


async def test_a_person_opens_a_ticket_and_sends_the_desk_away(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    number = stage.atlassian.site("acme").subscription(APP).number
    browser = {"Accept": "text/html"}
    opened = f"/service-desk/tickets?licence={number}"
    page = await http.get(f"{stage.url}/")
    assert f'action="{opened}"' in page.text

    page = await http.post(f"{stage.url}{opened}", headers=browser, follow_redirects=True)
    assert "Reports of Grace Example stay empty" in page.text
    [shown] = (await http.get(f"{stage.url}/service-desk/tickets")).json()
    assert (shown["fields"][LICENCE_FIELD], len(shown["comments"])) == (number, 1)

    away = f"{stage.url}/service-desk/away"
    page = await http.post(away, headers=browser, follow_redirects=True)
    assert 'action="/service-desk/back"' in page.text
    assert stage.atlassian.service_desk.faults.away
    assert (await http.post(f"{stage.url}/service-desk/back")).json() == {"away": False}
    assert (await http.post(f"{stage.url}/service-desk/elsewhere")).status_code == 404
    assert (await http.post(f"{stage.url}/service-desk/tickets")).status_code == 400


async def test_a_call_signed_long_beforehand_is_good_for_as_long_as_was_asked(
    http: httpx2.AsyncClient,
) -> None:
    atlassian, site = Atlassian(http), Site.named("acme")
    hook = atlassian.hook(
        site,
        EventType.INSTALLED,
        app_key=APP,
        audience=BASE_URL,
        path="/lifecycle/installed",
        issued_at=1_795_000_000,
        lifetime_seconds=3600,
    )
    token = parse(find_token(authorization=hook.headers["Authorization"]), Algorithm.RS256)

    claims = verify(token, atlassian.private_key.public_key(), now=1_795_003_600)

    assert claims.expires_at == 1_795_003_600
    assert token.key_id == atlassian.key_id


async def test_the_stand_in_runs_as_a_process_of_its_own(http: httpx2.AsyncClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devstack.atlassian",
        *("--port", str(port), "--installer-url", "http://127.0.0.1:9", "--app-key", APP),
        "--sites-here",
    )
    try:
        page = await _answer_once_it_listens(http, f"http://127.0.0.1:{port}/")
        assert APP in page.text
        assert f"http://127.0.0.1:{port}/sites/initech/wiki" in page.text
    finally:
        os.kill(process.pid, signal.SIGTERM)
        await process.wait()


async def _answer_once_it_listens(http: httpx2.AsyncClient, url: str) -> httpx2.Response:
    async with asyncio.timeout(30):
        while True:
            try:
                return await http.get(url)
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
