"""A service talks to whom its settings name, to nobody else, and has no other way to talk."""

import ast
import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.egress import Egress, Network, NotAllowed, is_public
from connect.product import ProductClient, Unclear, Unknown
from tests.connect.serving import serving

ROOT = Path(__file__).parents[2]
PUBLIC, OTHER_PUBLIC = "93.184.216.34", "2606:2800:220:1::1"
METADATA = "169.254.169.254"
SITES = Egress.to("https://keys.example.com", domains=("atlassian.net",))


class Server:
    """A server that notes who comes, and can lead elsewhere."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.leads_to: str | None = None
        self.url = ""

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        answer = RedirectResponse(self.leads_to, 307) if self.leads_to else Response("here")
        answer.set_cookie("session", "1")
        return answer


@pytest.fixture
async def servers() -> AsyncIterator[tuple[Server, Server]]:
    one, other = Server(), Server()
    routes = [Starlette(routes=[Route("/{path:path}", each.answer)]) for each in (one, other)]
    async with serving(routes[0]) as one.url, serving(routes[1]) as other.url:
        yield one, other


# -- who is on the list ---------------------------------------------------------------------------


async def test_who_is_not_named_is_not_asked_and_not_written_down(
    servers: tuple[Server, Server],
) -> None:
    named, other = servers
    async with Egress.to(f"{named.url}/keys/of?all=1").client() as http:
        assert (await http.get(f"{named.url}/other/path")).text == "here"
        with structlog.testing.capture_logs() as logged, pytest.raises(NotAllowed) as refused:
            await http.get(f"{other.url}/secret-path")
    assert other.asked == []
    assert logged == [{"event": "egress refused", "why": "not on the list", "log_level": "warning"}]
    assert "127.0.0.1" not in f"{refused.value!r}{logged}"


async def test_who_names_nobody_reaches_nobody(servers: tuple[Server, Server]) -> None:
    async with Egress().client() as http:
        with pytest.raises(NotAllowed):
            await http.get(servers[0].url)


@pytest.mark.parametrize(
    ("url", "admitted"),
    [
        ("https://keys.example.com/a", True),
        ("https://KEYS.example.com:443/a", True),
        ("http://keys.example.com/a", False),
        ("https://keys.example.com:8443/a", False),
        ("https://x.keys.example.com/a", False),
        ("https://keys.example.com.evil.test/a", False),
        ("https://keys.example.com@evil.test/a", False),
        ("https://acme.atlassian.net/wiki", True),
        ("http://acme.atlassian.net/wiki", False),
        ("https://acme.atlassian.net:22/wiki", False),
        ("https://atlassian.net/", False),
        ("https://evilatlassian.net/", False),
        ("https://acme.atlassian.net.evil.test/", False),
        ("https://acme.atlassian.net./", False),
        ("https://127.0.0.1/", False),
        ("https://[::1]/", False),
        ("https://2130706433/", False),
        ("ftp://keys.example.com/", False),
        ("/relative", False),
    ],
)
def test_a_list_is_of_origins_and_of_hosts_below_a_domain(url: str, admitted: bool) -> None:
    assert SITES.admits(httpx2.URL(url)) is admitted


def test_an_address_that_cannot_be_read_is_no_list() -> None:
    for url in ("http://[", "http://a\x00b/", "http://", "http:///path", "ftp://a/", "keys/jwks"):
        with pytest.raises(ValueError, match="cannot be read") as refused:
            Egress.to(url)
        assert url not in str(refused.value)


@pytest.mark.parametrize("follows", [True, False])
async def test_a_redirect_leads_to_nobody_else(
    servers: tuple[Server, Server], follows: bool
) -> None:
    named, other = servers
    named.leads_to = f"{other.url}/stolen"
    async with Egress.to(named.url).client() as http:
        if follows:
            with pytest.raises(NotAllowed):
                await http.get(named.url, follow_redirects=True)
        else:
            assert (await http.get(named.url)).status_code == 307
    assert len(named.asked) == 1
    assert other.asked == []


async def test_no_cookie_comes_back_and_no_proxy_of_the_environment_is_used(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    named, proxy = servers
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with Egress.to(named.url).client() as http:
        for _ in range(2):
            await http.get(named.url)
    assert [request.cookies for request in named.asked] == [{}, {}]
    assert proxy.asked == []


# -- where a customer's host may be ---------------------------------------------------------------


class Reached(httpcore2.AsyncNetworkBackend):
    """Notes which address is connected to; some do not answer."""

    def __init__(self, *silent: str) -> None:
        self.addresses: list[str] = []
        self.silent = silent

    async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        self.addresses.append(host)
        if host in self.silent:
            raise httpcore2.ConnectError
        return httpcore2.AsyncMockStream([])


class Names:
    """A resolver that gives one list of addresses after another."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, *_: object) -> list[str]:
        return self.answers.pop(0)


async def connect(names: Names, reached: Reached, host: str = "acme.atlassian.net") -> None:
    await Network(SITES, names, reached).connect_tcp(host, 443, timeout=5)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.7",
        "172.16.3.4",
        "192.168.0.1",
        "100.64.0.1",
        METADATA,
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "2002:7f00:1::",
        "64:ff9b::10.0.0.7",
        "64:ff9b:1::1",
    ],
)
async def test_a_customers_host_at_an_address_of_ours_is_not_reached(address: str) -> None:
    for found in ([address], [PUBLIC, address], [address, PUBLIC]):
        reached = Reached()
        with pytest.raises(NotAllowed):
            await connect(Names(found), reached)
        assert reached.addresses == []


@pytest.mark.parametrize(
    "address", [PUBLIC, OTHER_PUBLIC, "::ffff:93.184.216.34", "64:ff9b::93.184.216.34"]
)
def test_the_open_internet_is_public_however_it_is_written(address: str) -> None:
    assert is_public(address)


async def test_a_name_that_changes_after_the_look_leads_nowhere_else() -> None:
    names, reached = Names([PUBLIC], ["127.0.0.1"]), Reached()
    await connect(names, reached)
    # The connection was to what was looked at, and nobody asked for the name again.
    assert reached.addresses == [PUBLIC]
    assert names.answers == [["127.0.0.1"]]
    with pytest.raises(NotAllowed):
        await connect(names, reached)
    assert reached.addresses == [PUBLIC]


async def test_where_an_address_does_not_answer_the_next_one_is_tried() -> None:
    reached = Reached(OTHER_PUBLIC)
    await connect(Names([OTHER_PUBLIC, PUBLIC]), reached)
    assert reached.addresses == [OTHER_PUBLIC, PUBLIC]
    with pytest.raises(httpcore2.ConnectError):
        await connect(Names([OTHER_PUBLIC]), reached)


async def test_whom_the_operator_names_is_reached_wherever_it_is() -> None:
    reached = Reached()
    await connect(Names(), reached, "keys.example.com")
    assert reached.addresses == ["keys.example.com"]


async def test_a_name_without_address_is_a_failed_connection_that_does_not_repeat_it() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        raise OSError(host)

    async def empty(host: str, port: int) -> list[str]:
        return []

    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    for resolve in (nothing, empty):
        with pytest.raises(httpcore2.ConnectError) as failed:
            await Network(SITES, resolve, Reached()).connect_tcp("acme.atlassian.net", 443)
        assert "acme" not in str(failed.value)
    with pytest.raises(httpcore2.ConnectTimeout):
        await Network(SITES, never, Reached()).connect_tcp("acme.atlassian.net", 443, timeout=0.01)


async def test_a_site_that_lies_within_our_network_says_nothing_about_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def here(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", (METADATA, 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", here)
    with structlog.testing.capture_logs() as logged:
        async with SITES.client() as http:
            answer = await ProductClient(http).licence("https://acme.atlassian.net", "a", "secret")
    assert answer == Unclear(Unknown.NO_CONNECTION)
    assert [each["why"] for each in logged] == ["an address that is not public"]


# -- no other way ---------------------------------------------------------------------------------

_CLIENTS = {
    *("httpx2.AsyncClient", "httpx2.Client", "httpx2.AsyncHTTPTransport", "httpx2.HTTPTransport"),
    *(f"httpx2.{verb}" for verb in ("get", "post", "put", "patch", "delete", "head", "options")),
    *("httpx2.request", "httpx2.stream", "asyncio.open_connection", "socket.create_connection"),
}
_LIBRARIES = {
    *("aiohttp", "http.client", "httpcore2", "httpx", "requests", "urllib.request", "urllib3"),
    *("websockets", "smtplib", "ftplib", "aiosmtplib", "authlib"),
    "opentelemetry.exporter",
}
_OTHER_WAYS = {
    ("chassis/egress.py", "httpcore2"): "the maker itself",
    ("chassis/egress.py", "httpx2.AsyncClient"): "the maker itself",
    ("chassis/egress.py", "httpx2.AsyncHTTPTransport"): "the maker itself",
    ("chassis/tracing.py", "opentelemetry.exporter"): (
        "spans go to the operator's collector alone, and no redirect is followed"
    ),
    ("services/notifier/clients.py", "aiosmtplib"): "mail goes to the operator's server alone",
}


def ways_out(text: str) -> Iterator[str]:
    """Name what in a module can talk to others: libraries that it imports, clients that it makes.

    A client's class in an annotation makes none, and is passed over.
    """
    tree = ast.parse(text)
    annotations = {id(node) for each in _annotations(tree) for node in ast.walk(each)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from _known(each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from _known([module, *(f"{module}.{each.name}" for each in names)])
            case ast.Attribute(value=ast.Name(id=module), attr=name) if id(node) not in annotations:
                yield from {f"{module}.{name}"} & _CLIENTS


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case (
                ast.AnnAssign(annotation=annotation) | ast.arg(annotation=ast.expr() as annotation)
            ):
                yield annotation
            case (
                ast.FunctionDef(returns=ast.expr() as returns)
                | ast.AsyncFunctionDef(returns=ast.expr() as returns)
            ):
                yield returns


def _known(imported: Iterable[str]) -> Iterator[str]:
    for name in imported:
        yield from {
            each for each in _LIBRARIES | _CLIENTS if name == each or name.startswith(f"{each}.")
        }


def test_no_service_has_another_way_to_talk() -> None:
    found = {
        (str(path.relative_to(ROOT)), way)
        for folder in ("chassis", "connect", "services")
        for path in (ROOT / folder).rglob("*.py")
        for way in ways_out(path.read_text("utf-8"))
    }
    assert found == _OTHER_WAYS.keys()


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("import requests", "requests"),
        ("import urllib.request as u", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("from http import client", "http.client"),
        ("from httpx2 import AsyncClient as C", "httpx2.AsyncClient"),
        ("import httpx2\nasync def f():\n async with httpx2.AsyncClient() as c: ...", "httpx2.AsyncClient"),
        ("import httpx2\nmake: object = httpx2.AsyncClient", "httpx2.AsyncClient"),
        ("import httpx2\nhttpx2.get('https://a')", "httpx2.get"),
        ("def f():\n from aiohttp import ClientSession", "aiohttp"),
        ("import asyncio\nasyncio.open_connection('a', 1)", "asyncio.open_connection"),
    ],
)  # fmt: skip
def test_each_other_way_would_be_seen(text: str, way: str) -> None:
    assert way in set(ways_out(text))


def test_a_client_that_is_given_is_none_that_is_made() -> None:
    text = "import httpx2\nasync def f(http: httpx2.AsyncClient) -> httpx2.AsyncClient: ..."
    assert list(ways_out(text)) == []
