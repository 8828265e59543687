"""A site is asked as the real one demands, and whatever it answers is one of a few values."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from connect.jwt import Algorithm, parse, verify
from connect.product import (
    MAX_ANSWER_BYTES,
    Licence,
    Lost,
    ProductClient,
    Reached,
    Throttled,
    Unclear,
    Unknown,
    app_token,
)
from connect.qsh import query_string_hash
from devstack.atlassian import Atlassian, Site, create_app
from devstack.atlassian.marketplace import ACCOUNT, DEVELOPER_ID, TOKEN, Faults
from tests.connect.serving import serving

APP = "com.example.app"
README = Path(__file__).parents[2] / "connect" / "README.md"
SECRET = "ATCO-made-up-secret"
OFFICIAL = (
    Path(__file__).parents[2].parent
    / "shared"
    / "vectors"
    / "marketplace-privacy-forge-samples.json"
)
CLOUD_ID = "00000000-0000-4000-8000-0000000000aa"


class SiteWithSomethingToSay:
    """A site that can be told what to answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.url = ""
        self.answer: Callable[[], Awaitable[Response]] = self._nothing

    async def _nothing(self) -> Response:
        return Response(status_code=404)

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return await self.answer()

    def says(self, response: Response) -> None:
        async def answer() -> Response:
            return response

        self.answer = answer


@pytest.fixture
async def site() -> AsyncIterator[SiteWithSomethingToSay]:
    site = SiteWithSomethingToSay()
    async with serving(Starlette(routes=[Route("/{path:path}", site.__call__)])) as url:
        site.url = url
        yield site


class StandIn:
    """The stand-in for Atlassian with its sites on a port, and an app that takes any install."""

    def __init__(self, atlassian: Atlassian, http: httpx2.AsyncClient, url: str) -> None:
        self.atlassian = atlassian
        self.http = http
        self.url = url

    async def installed(self, name: str) -> Site:
        answer = await self.http.post(f"{self.url}/sites/{name}/install")
        assert answer.json()["status"] == 204
        site = self.atlassian.site(name)
        assert site.base_url.startswith("https://")
        return site

    def base_url(self, site: Site) -> str:
        wiki = "/wiki" if site.product_type == "confluence" else ""
        return f"{self.url}/sites/{site.name}{wiki}"


async def _descriptor(_: Request) -> Response:
    hooks = {event: f"/{event}" for event in ("installed", "uninstalled", "enabled", "disabled")}
    return JSONResponse({"baseUrl": "https://app.example", "lifecycle": hooks})


async def _taken(_: Request) -> Response:
    return Response(status_code=204)


@pytest.fixture
async def stand_in(http: httpx2.AsyncClient) -> AsyncIterator[StandIn]:
    atlassian = Atlassian(http)
    app = Starlette(
        routes=[
            Route(f"/connect/{APP}/atlassian-connect.json", _descriptor),
            Route("/{path:path}", _taken, methods=["POST"]),
        ]
    )
    async with (
        serving(app) as app_url,
        serving(create_app(atlassian, app_url, [APP])) as url,
    ):
        yield StandIn(atlassian, http, url)


@pytest.mark.parametrize("name", ["acme", "initech"])
async def test_a_site_tells_the_app_of_its_licence(
    name: str, stand_in: StandIn, http: httpx2.AsyncClient
) -> None:
    site = await stand_in.installed(name)
    base_url = stand_in.base_url(site)

    answer = await ProductClient(http).licence(base_url, APP, site.shared_secret)

    paid = stand_in.atlassian.subscribe(site, APP)
    assert answer == Reached(
        Licence(
            active=True,
            evaluation=False,
            type="COMMERCIAL",
            support_entitlement_number=paid.number,
            entitlement_id=paid.entitlement_id,
            entitlement_number=paid.entitlement_number,
        ),
        "ENABLED",
    )
    for private in (paid.number, paid.entitlement_id, paid.entitlement_number, "person@"):
        assert private not in repr(answer)


async def test_an_ended_licence_is_reached_and_not_active(
    stand_in: StandIn, http: httpx2.AsyncClient
) -> None:
    site = await stand_in.installed("acme")
    client = ProductClient(http)

    await http.post(f"{stand_in.url}/sites/acme/licence/end")
    ended = await client.licence(stand_in.base_url(site), APP, site.shared_secret)
    await http.post(f"{stand_in.url}/sites/acme/licence/renew")
    renewed = await client.licence(stand_in.base_url(site), APP, site.shared_secret)

    assert isinstance(ended, Reached)
    assert isinstance(renewed, Reached)
    assert ended.licence is not None
    assert renewed.licence is not None
    assert (ended.licence.active, renewed.licence.active) == (False, True)


async def test_a_site_that_removed_the_app_and_one_that_is_gone_say_no(
    stand_in: StandIn, http: httpx2.AsyncClient
) -> None:
    client = ProductClient(http)
    acme, globex = await stand_in.installed("acme"), await stand_in.installed("globex")

    await http.post(f"{stand_in.url}/sites/acme/uninstall")
    await http.post(f"{stand_in.url}/sites/globex/delete")

    for site in (acme, globex):
        answer = await client.licence(stand_in.base_url(site), APP, site.shared_secret)
        assert answer == Lost(404)
    assert await client.cloud_id(stand_in.base_url(globex)) is None


async def test_the_examples_of_the_readme_tell_who_pays(
    stand_in: StandIn, http: httpx2.AsyncClient
) -> None:
    examples: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL):
        exec(compile(block, str(README), "exec"), examples)
    site = await stand_in.installed("acme")
    stand_in.atlassian.marketplace.faults = Faults(polls_in_progress=0)

    pays = await examples["pays"](http, stand_in.base_url(site), site.shared_secret)
    denied = await examples["pays"](http, stand_in.base_url(site), "guess")
    paying = await examples["paying"](http, stand_in.url, DEVELOPER_ID, ACCOUNT, SecretStr(TOKEN))

    assert (pays, denied) == (True, False)
    assert paying == {site.subscription(APP).entitlement_id}


async def test_another_secret_or_another_request_gets_no_answer(
    stand_in: StandIn, http: httpx2.AsyncClient
) -> None:
    acme, initech = await stand_in.installed("acme"), await stand_in.installed("initech")
    client = ProductClient(http)
    late = ProductClient(http, now=lambda: 1_000_000_000.0)

    assert await client.licence(stand_in.base_url(acme), APP, "guess") == Lost(401)
    assert await client.licence(stand_in.base_url(acme), APP, initech.shared_secret) == Lost(401)
    assert await late.licence(stand_in.base_url(acme), APP, acme.shared_secret) == Lost(401)
    wiki = stand_in.base_url(initech).removesuffix("/wiki")
    assert await client.licence(wiki, APP, initech.shared_secret) == Lost(404)


@pytest.mark.parametrize("name", ["acme", "initech"])
async def test_a_site_tells_anyone_its_cloud_id(
    name: str, stand_in: StandIn, http: httpx2.AsyncClient
) -> None:
    site = stand_in.atlassian.site(name)

    assert await ProductClient(http).cloud_id(stand_in.base_url(site)) == site.cloud_id


def test_the_token_is_for_one_request_below_the_sites_base_url() -> None:
    path = "/wiki/rest/atlassian-connect/1/addons/a"
    text = app_token("a", SECRET, "GET", path, "b=1", now=1000.9, base_path="/wiki")
    token = parse(text, Algorithm.HS256)

    claims = verify(
        token,
        SECRET.encode(),
        now=1000,
        issuer="a",
        qsh=query_string_hash("GET", "/rest/atlassian-connect/1/addons/a", "b=1"),
    )

    assert claims.expires_at - claims.issued_at == 180
    assert set(token.payload) == {"iss", "iat", "exp", "qsh"}


def _addon(**fields: Any) -> JSONResponse:
    return JSONResponse({"key": APP, "state": "ENABLED", **fields})


async def test_a_free_app_has_no_licence(
    site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    client = ProductClient(http)

    for response in (_addon(), _addon(license=None)):
        site.says(response)
        assert await client.licence(site.url, APP, SECRET) == Reached(None, "ENABLED")


async def test_the_two_names_of_the_licence_number_are_not_swapped(
    site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    numbers = {"supportEntitlementNumber": "SEN-1", "serviceEntitlementNumber": "SEN-2"}
    client = ProductClient(http)

    site.says(_addon(license={"active": True, **numbers}))
    both = await client.licence(site.url, APP, SECRET)
    site.says(_addon(license={"active": True, "serviceEntitlementNumber": "SEN-2"}))
    other = await client.licence(site.url, APP, SECRET)

    assert isinstance(both, Reached)
    assert isinstance(other, Reached)
    assert both.licence is not None
    assert other.licence is not None
    assert both.licence.support_entitlement_number == "SEN-1"
    assert other.licence.support_entitlement_number is None


@pytest.mark.skipif(not OFFICIAL.exists(), reason="Atlassian's samples are not here")
async def test_atlassians_own_sample_is_read_without_its_people(
    site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    body = json.loads(OFFICIAL.read_text())["licenceApi200"]["body"]
    site.says(JSONResponse(body))

    answer = await ProductClient(http).licence(site.url, "example-app", SECRET)

    assert isinstance(answer, Reached)
    assert answer.licence is not None
    assert answer.licence.support_entitlement_number == "SEN-###"
    assert "contact@example.com" not in f"{answer!r}{answer.licence.model_dump()}"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_site_says_no_in_four_ways(
    status: int, site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    site.says(Response("<html>gone</html>", status_code=status))

    assert await ProductClient(http).licence(site.url, APP, SECRET) == Lost(status)
    assert await ProductClient(http).cloud_id(site.url) is None


UNCLEAR: dict[str, tuple[Callable[[], Response], Unknown]] = {
    "a fault": (lambda: Response(status_code=500), Unknown.STATUS),
    "a gateway's fault": (lambda: Response(status_code=503), Unknown.STATUS),
    "nothing": (lambda: Response(status_code=204), Unknown.STATUS),
    "a bad request": (lambda: Response(status_code=400), Unknown.STATUS),
    "another place": (lambda: RedirectResponse("https://evil.example/"), Unknown.REDIRECT),
    "an empty body": (lambda: Response(b""), Unknown.FORM),
    "a page": (lambda: Response("<html>Log in</html>"), Unknown.FORM),
    "a list": (lambda: JSONResponse([]), Unknown.FORM),
    "deep nesting": (lambda: Response(b"[" * 100_000), Unknown.FORM),
    "not UTF-8": (lambda: Response(b'{"key": "\xff"}'), Unknown.FORM),
    "a licence of another form": (lambda: _addon(license={"active": "yes"}), Unknown.FORM),
    "no word on its being active": (lambda: _addon(license={}), Unknown.FORM),
    "another app": (lambda: JSONResponse({"key": "com.example.other"}), Unknown.ANOTHER_APP),
    "an endless body": (lambda: Response(b" " * (MAX_ANSWER_BYTES + 1)), Unknown.TOO_LARGE),
}


@pytest.mark.parametrize("what", UNCLEAR)
async def test_an_answer_that_says_nothing_is_unclear(
    what: str, site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    make_response, reason = UNCLEAR[what]
    site.says(make_response())
    http.follow_redirects = True

    assert await ProductClient(http).licence(site.url, APP, SECRET) == Unclear(reason)


async def test_a_site_that_throttles_says_for_how_long(
    site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    client = ProductClient(http, now=lambda: 1_795_000_000.0)
    for header, wait in (
        ({"Retry-After": "17"}, timedelta(seconds=17)),
        ({"Retry-After": "Wed, 18 Nov 2026 11:08:40 GMT"}, timedelta(minutes=2)),
        ({}, timedelta(minutes=1)),
    ):
        site.says(Response(status_code=429, headers=header))
        assert await client.licence(site.url, APP, SECRET) == Throttled(wait)
        assert await client.cloud_id(site.url) == Throttled(wait)


async def test_a_site_that_cannot_be_reached_is_unclear_and_not_lost(
    http: httpx2.AsyncClient,
) -> None:
    async with serving(Starlette()) as gone:
        pass
    client = ProductClient(http)

    for url in (gone, "https://no-such-site.invalid"):
        assert await client.licence(url, APP, SECRET) == Unclear(Unknown.NO_CONNECTION)
        assert await client.cloud_id(url) == Unclear(Unknown.NO_CONNECTION)


async def test_a_site_that_is_too_slow_is_unclear(
    site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    never = asyncio.Event()

    async def no_answer() -> Response:
        await never.wait()
        return Response()

    site.answer = no_answer
    client = ProductClient(http, timeout_seconds=0.1)

    assert await client.licence(site.url, APP, SECRET) == Unclear(Unknown.TIMEOUT)
    never.set()


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"cloudId": CLOUD_ID}, CLOUD_ID),
        ({"cloudId": CLOUD_ID.upper(), "more": 1}, CLOUD_ID),
        ({"cloudId": ""}, Unclear(Unknown.FORM)),
        ({"cloudId": "../../etc"}, Unclear(Unknown.FORM)),
        ({"cloudId": 7}, Unclear(Unknown.FORM)),
        ({}, Unclear(Unknown.FORM)),
    ],
)
async def test_a_cloud_id_is_a_uuid_in_lower_case(
    body: Any, answer: str | Unclear, site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    site.says(JSONResponse(body))

    assert await ProductClient(http).cloud_id(f"{site.url}/wiki") == answer
    assert site.requests[-1].url.path == "/_edge/tenant_info"
    assert "authorization" not in site.requests[-1].headers


async def test_a_cookie_of_one_site_does_not_reach_another(
    site: SiteWithSomethingToSay, http: httpx2.AsyncClient
) -> None:
    response = _addon()
    response.set_cookie("session", "of-one-customer")
    site.says(response)
    client = ProductClient(http)

    for _ in range(2):
        await client.licence(site.url, APP, SECRET)

    assert [request.headers.get("cookie") for request in site.requests] == [None, None]


@pytest.mark.parametrize(
    "url", ["http://acme.atlassian.net", "ftp://acme.example", "https://a@b", "acme", ""]
)
async def test_a_token_never_travels_where_it_can_be_read(
    url: str, http: httpx2.AsyncClient
) -> None:
    client = ProductClient(http)

    with pytest.raises(ValueError, match="https") as refused:
        await client.licence(url, APP, SECRET)
    assert SECRET not in f"{refused.value!r}"
    assert "acme" not in f"{refused.value!r}"
    with pytest.raises(ValueError, match="https"):
        await client.cloud_id(url)
