"""The stand-in's sites pay, embed an app, move it to Forge and vanish, as the library of protocols expects."""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import date
from html import unescape
from urllib.parse import SplitResult, urlsplit

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connect.calls import Refused
from connect.forge import ForgeEvent, ForgeEventType, ForgeTokens, Invocation, read_event
from connect.key_sets import KeySet
from connect.marketplace import LicenceRow, LicenceStatus, MarketplaceReports
from connect.product import Lost, ProductClient, Reached
from connect.signed_requests import SignedRequests
from devstack.atlassian import Atlassian, Site, create_app, forge_app_id
from devstack.atlassian.marketplace import ACCOUNT, DEVELOPER_ID, TOKEN
from tests.connect.serving import serving

APP = "com.example.app"
TODAY = date(2026, 11, 23)
BASE_PATH = f"/connect/{APP}"


class App:
    """An app that takes every install, and believes Forge only by its tokens."""

    def __init__(self) -> None:
        self.forge: ForgeTokens | None = None
        self.heard: list[tuple[Invocation, ForgeEvent]] = []

    async def descriptor(self, _: Request) -> Response:
        hooks = {event: f"/{event}" for event in ("installed", "uninstalled")}
        base_url = f"https://apps.example.com{BASE_PATH}"
        return JSONResponse({"baseUrl": base_url, "lifecycle": hooks})

    async def hook(self, _: Request) -> Response:
        return Response(status_code=204)

    async def remote(self, request: Request) -> Response:
        assert self.forge is not None
        invocation = await self.forge.verify(request.headers.getlist("authorization"))
        self.heard.append((invocation, read_event(await request.body())))
        return Response(status_code=204)

    def routes(self) -> list[Route]:
        return [
            Route(f"{BASE_PATH}/atlassian-connect.json", self.descriptor),
            Route(f"{BASE_PATH}/{{event}}", self.hook, methods=["POST"]),
            Route(f"/forge/{APP}/lifecycle", self.remote, methods=["POST"]),
        ]


class Stage:
    """The stand-in with its sites on a port, and an app on another."""

    def __init__(self, atlassian: Atlassian, app: App, http: httpx2.AsyncClient) -> None:
        self.atlassian = atlassian
        self.app = app
        self.http = http
        self.url = ""
        self.app_url = ""

    async def post(self, path: str) -> int:
        return (await self.http.post(f"{self.url}{path}")).status_code

    async def row(self) -> LicenceRow:
        reports = MarketplaceReports(
            self.http, self.url, DEVELOPER_ID, ACCOUNT, SecretStr(TOKEN), sleep=_no_wait
        )
        (row,) = [row async for batch in reports.licences() for row in batch.rows]
        return row

    def gate(self) -> SignedRequests:
        async def secrets(client_key: str) -> Sequence[bytes]:
            return [
                site.shared_secret.encode()
                for site in self.atlassian.sites.values()
                if site.client_key == client_key
            ]

        return SignedRequests(secrets)


async def _no_wait(_: float) -> None:
    return None


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


@pytest.fixture
async def stage(http: httpx2.AsyncClient) -> AsyncIterator[Stage]:
    app, atlassian = App(), Atlassian(http, today=lambda: TODAY)
    stage = Stage(atlassian, app, http)
    async with (
        serving(Starlette(routes=app.routes())) as stage.app_url,
        serving(create_app(atlassian, stage.app_url, [APP])) as stage.url,
    ):
        keys = KeySet(http, f"{stage.url}/forge/.well-known/jwks.json")
        app.forge = ForgeTokens(keys, [forge_app_id(APP)])
        yield stage


async def test_a_site_can_live_where_the_stand_in_is(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    here = Atlassian(http, sites_at=stage.url)

    for name, path in (("acme", ""), ("initech", "/wiki")):
        site = here.site(name)
        assert site.base_url == f"{stage.url}/sites/{name}{path}"
        assert site.client_key == stage.atlassian.site(name).client_key
        assert await ProductClient(http).cloud_id(site.base_url) == site.cloud_id
    assert here.site("new-one").base_url == f"{stage.url}/sites/new-one"


async def test_what_a_site_pays_stands_in_the_marketplaces_report(stage: Stage) -> None:
    await stage.post("/sites/acme/install")
    site = stage.atlassian.site("acme")
    first = await stage.row()

    await stage.post("/sites/acme/licence/end")
    ended = await stage.row()
    await stage.post("/sites/acme/licence/renew")

    paid = site.subscription(APP)
    assert first.status is LicenceStatus.ACTIVE
    assert (first.licence_id, first.app_entitlement_id) == (paid.number, paid.entitlement_id)
    assert (first.cloud_id, first.cloud_site_hostname) == (site.cloud_id, "acme.atlassian.net")
    assert ended.status is LicenceStatus.INACTIVE
    assert ended.last_updated == ended.maintenance_end_date == TODAY
    assert await stage.row() == first


async def test_a_deleted_site_answers_nothing_and_tells_nobody(stage: Stage) -> None:
    await stage.post("/sites/acme/install")
    site = stage.atlassian.site("acme")
    client, url = ProductClient(stage.http), f"{stage.url}/sites/acme"
    before = await client.licence(url, APP, site.shared_secret)

    assert await stage.post("/sites/acme/delete") == 200

    assert isinstance(before, Reached)
    assert await client.licence(url, APP, site.shared_secret) == Lost(404)
    for path in ("uninstall", "install", "import", "delete", "licence/end", "forge/install"):
        assert await stage.post(f"/sites/acme/{path}") == 404
    page = await stage.http.get(stage.url)
    assert "/sites/acme/" not in page.text
    assert "/sites/globex/" in page.text


async def test_an_import_gives_a_site_another_name_and_tells_nobody(stage: Stage) -> None:
    await stage.post("/sites/acme/install")
    before = stage.atlassian.site("acme")

    assert await stage.post("/sites/acme/import") == 200

    after = stage.atlassian.site("acme")
    assert after.client_key != before.client_key
    assert (after.base_url, after.product_type) == (before.base_url, before.product_type)
    client, url = ProductClient(stage.http), f"{stage.url}/sites/acme"
    assert await client.licence(url, APP, before.shared_secret) == Lost(404)
    assert await stage.post("/sites/acme/install") == 200
    secret = stage.atlassian.site("acme").shared_secret
    assert isinstance(await client.licence(url, APP, secret), Reached)


async def test_the_page_of_a_site_shows_the_app_by_a_url_that_its_gate_believes(
    stage: Stage,
) -> None:
    await stage.post("/sites/initech/install")

    page = await stage.http.get(f"{stage.url}/sites/initech/page?app={APP}")
    entry = _frame(page.text)
    call = await stage.gate().verify(
        method="GET",
        raw_path=entry.path,
        raw_query=entry.query,
        authorization=None,
        base_path=BASE_PATH,
    )

    assert call.client_key == stage.atlassian.site("initech").client_key
    assert f"{entry.scheme}://{entry.netloc}" == stage.app_url
    assert entry.path == f"{BASE_PATH}/entry"
    assert "lic=active&" in entry.query
    assert page.headers["content-security-policy"].endswith(f"frame-src {stage.app_url}")
    for script in ("/site.js", "/all.js"):
        answer = await stage.http.get(stage.url + script)
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "context-token" in answer.text


async def test_the_page_tells_the_app_that_nobody_pays(stage: Stage) -> None:
    await stage.post("/sites/acme/licence/end")

    page = await stage.http.get(f"{stage.url}/sites/acme/page")

    assert "lic=none&" in _frame(page.text).query


async def test_a_context_token_opens_the_apps_own_routes_and_no_other(stage: Stage) -> None:
    url = f"{stage.url}/sites/acme/context-token?app={APP}"
    assert (await stage.http.get(url)).status_code == 404
    await stage.post("/sites/acme/install")

    header = f"JWT {(await stage.http.get(url)).json()['token']}"
    call = await stage.gate().verify_context(authorization=header)

    assert call.client_key == stage.atlassian.site("acme").client_key
    with pytest.raises(Refused):
        await stage.gate().verify(method="GET", raw_path="/", raw_query="", authorization=header)


async def test_forge_tells_of_an_installation_from_beginning_to_end(stage: Stage) -> None:
    for verb in ("install", "upgrade", "uninstall", "install"):
        assert await stage.post(f"/sites/acme/forge/{verb}") == 200

    site = stage.atlassian.site("acme")
    invocations = [invocation for invocation, _ in stage.app.heard]
    events = [event for _, event in stage.app.heard]
    ids = [event.installation_id for event in events]
    assert [event.event_type for event in events] == [
        ForgeEventType.INSTALLED,
        ForgeEventType.UPGRADED,
        ForgeEventType.UNINSTALLED,
        ForgeEventType.INSTALLED,
    ]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert ids == [invocation.installation_id for invocation in invocations]
    for invocation in invocations:
        assert invocation.app_id == forge_app_id(APP)
        assert invocation.licence_active is True
        assert invocation.site is not None
        assert invocation.site.cloud_id == site.cloud_id


async def test_forge_says_when_nobody_pays(stage: Stage) -> None:
    await stage.post("/sites/acme/licence/end")
    await stage.post("/sites/acme/forge/install")

    ((invocation, _),) = stage.app.heard
    assert invocation.licence_active is False


@pytest.mark.parametrize(
    "path",
    [
        "/sites/acme/licence/explode",
        "/sites/acme/forge/explode",
        "/sites/acme/licence/end?app=other",
        "/sites/ACME/delete",
    ],
)
async def test_an_act_that_does_not_exist_is_not_found(path: str, stage: Stage) -> None:
    assert await stage.post(path) == 404


async def test_an_app_without_a_descriptor_has_no_page(
    stage: Stage, http: httpx2.AsyncClient
) -> None:
    async with serving(create_app(Atlassian(http), stage.url, [APP])) as url:
        assert (await http.get(f"{url}/sites/acme/page")).status_code == 502
        assert (await http.get(f"{url}/sites/acme/page?app=other")).status_code == 404


def test_nothing_of_a_sites_secret_is_shown() -> None:
    site = Site.named("acme")

    assert site.shared_secret not in repr(site)


def _frame(page: str) -> SplitResult:
    found = re.search(r'<iframe [^>]*src="([^"]+)"', page)
    assert found is not None
    return urlsplit(unescape(found[1]))
