"""Public keys over real HTTP: asked for once, kept, and honest about a host that is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from connect.install_keys import MAX_KEY_BYTES, InstallKeys
from connect.keys import KeyHostAway, UnknownKey
from tests.connect.serving import serving


def _pem(
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


STRANGE_IDS = (
    "",
    "../secrets",
    "a/b",
    "a%2fb",
    "a.b",
    "a?x",
    "a#x",
    "a b",
    "a\n",
    "a\0",
    "é",
    "http://evil.example/key",
    "//evil.example",
    "@evil.example",
    "a" * 129,
)


class KeyHost:
    """A key host that can be told what to answer."""

    def __init__(self, pem: bytes) -> None:
        self.pem = pem
        self.asked: list[str] = []
        self.url = ""
        self.answer: Callable[[], Awaitable[Response]] = self.publish

    async def publish(self) -> Response:
        return PlainTextResponse(self.pem)

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request.path_params["kid"])
        return await self.answer()

    def answers(self, *responses: Response) -> None:
        """Give these answers in turn, and the last one from then on."""
        remaining = list(responses)

        async def next_answer() -> Response:
            return remaining.pop(0) if len(remaining) > 1 else remaining[0]

        self.answer = next_answer


@pytest.fixture
async def host(private_key: rsa.RSAPrivateKey) -> AsyncIterator[KeyHost]:
    key_host = KeyHost(_pem(private_key))
    async with serving(Starlette(routes=[Route("/keys/{kid:path}", key_host.__call__)])) as url:
        key_host.url = f"{url}/keys"
        yield key_host


async def test_a_key_is_asked_for_once_and_kept(
    host: KeyHost, http: httpx2.AsyncClient, private_key: rsa.RSAPrivateKey
) -> None:
    keys = InstallKeys(http, host.url)

    first, second = await keys.key("kid-1"), await keys.key("kid-1")

    assert first is second
    assert first.public_numbers() == private_key.public_key().public_numbers()
    assert host.asked == ["kid-1"]


@pytest.mark.parametrize(
    "written",
    [
        lambda pem: b"\r\n " + pem.replace(b"\n", b"\r\n") + b" \r\n\r\n",
        lambda pem: pem.replace(b"\n", b"\r"),
        lambda pem: pem.strip(),
        lambda pem: pem + b"\n\n",
        lambda pem: b"\xef\xbb\xbf" + pem,
    ],
    ids=["Windows", "old Macs", "no line end", "blank lines", "byte order mark"],
)
async def test_a_key_is_read_whatever_ends_its_lines_and_stands_around_it(
    written: Callable[[bytes], bytes], host: KeyHost, http: httpx2.AsyncClient
) -> None:
    host.pem = written(host.pem)

    assert await InstallKeys(http, host.url + "/").key("kid-1")


async def test_a_known_key_serves_while_the_host_is_away(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys = InstallKeys(http, host.url)
    known = await keys.key("known")
    host.answers(Response(status_code=503))

    assert await keys.key("known") is known
    with pytest.raises(KeyHostAway):
        await keys.key("new")

    host.answer = host.publish
    assert await keys.key("new")


async def test_a_host_that_nobody_answers_at_is_away(http: httpx2.AsyncClient) -> None:
    async with serving(Starlette()) as url:
        gone = url

    with pytest.raises(KeyHostAway):
        await InstallKeys(http, gone).key("kid-1")


async def test_a_short_failure_is_survived(host: KeyHost, http: httpx2.AsyncClient) -> None:
    host.answers(Response(status_code=503), Response(status_code=429), PlainTextResponse(host.pem))

    assert await InstallKeys(http, host.url).key("kid-1")
    assert len(host.asked) == 3


async def test_requests_at_the_same_time_share_one_fetch(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys, asked, go = InstallKeys(http, host.url), asyncio.Event(), asyncio.Event()

    async def held_answer() -> Response:
        asked.set()
        await go.wait()
        return await host.publish()

    host.answer = held_answer
    waiting = [asyncio.create_task(keys.key("kid-1")) for _ in range(50)]
    await asked.wait()
    waiting[0].cancel()  # the one whose request began the fetch
    go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert len({id(result) for result in results[1:]}) == 1
    assert isinstance(results[1], rsa.RSAPublicKey)
    assert host.asked == ["kid-1"]


async def test_a_failed_fetch_that_nobody_waits_for_troubles_nobody(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys, asked, go = InstallKeys(http, host.url), asyncio.Event(), asyncio.Event()

    async def held_refusal() -> Response:
        asked.set()
        await go.wait()
        return Response(status_code=404)

    host.answer = held_refusal
    waiting = asyncio.create_task(keys.key("kid-1"))
    await asked.wait()
    (fetch,) = keys._fetches.values()
    waiting.cancel()
    go.set()
    await asyncio.wait([fetch])

    with pytest.raises(UnknownKey):
        await keys.key("kid-1")
    assert keys._fetches == {}


async def test_an_unknown_key_is_asked_for_again_only_after_a_while(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    now = 1000.0
    keys = InstallKeys(http, host.url, monotonic=lambda: now)
    host.answers(Response(status_code=404))

    for _ in range(3):
        with pytest.raises(UnknownKey):
            await keys.key("kid-1")
    assert len(host.asked) == 1

    host.answer = host.publish
    now += 29.9
    with pytest.raises(UnknownKey):
        await keys.key("kid-1")
    now += 0.2
    assert await keys.key("kid-1")


async def test_nobody_is_asked_for_an_id_of_another_shape(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys = InstallKeys(http, host.url)

    for key_id in STRANGE_IDS:
        with pytest.raises(UnknownKey):
            await keys.key(key_id)

    assert host.asked == []
    assert await keys.key("A-z_9" + "a" * 123)


async def test_a_redirect_is_not_followed(host: KeyHost, http: httpx2.AsyncClient) -> None:
    host.answers(RedirectResponse("/keys/elsewhere"))
    http.follow_redirects = True

    with pytest.raises(KeyHostAway):
        await InstallKeys(http, host.url).key("kid-1")

    assert "elsewhere" not in host.asked


def _rsa_pem(bits: int = 2048) -> bytes:
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=bits))


UNUSABLE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a page": lambda: b"<html>Please log in</html>",
    "half a key": lambda: _rsa_pem()[:200],
    "another kind of key": lambda: _pem(ec.generate_private_key(ec.SECP256R1())),
    "a key without a size": lambda: _pem(ed25519.Ed25519PrivateKey.generate()),
    "a weak key": lambda: _rsa_pem(1024),
    "an endless body": lambda: _rsa_pem() + b"\n" * MAX_KEY_BYTES,
}


@pytest.mark.parametrize("what", UNUSABLE)
async def test_an_answer_without_a_usable_key_is_not_kept(
    what: str, host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys, good = InstallKeys(http, host.url), host.pem
    host.pem = UNUSABLE[what]()

    with pytest.raises(KeyHostAway):
        await keys.key("kid-1")

    host.pem = good
    assert await keys.key("kid-1")


async def test_a_host_that_is_too_slow_is_away(host: KeyHost, http: httpx2.AsyncClient) -> None:
    never = asyncio.Event()

    async def no_answer() -> Response:
        await never.wait()
        return Response()

    host.answer = no_answer
    keys = InstallKeys(http, host.url, timeout_seconds=0.1)
    async with asyncio.timeout(2):
        with pytest.raises(KeyHostAway):
            await keys.key("kid-1")
    never.set()


async def test_the_key_used_least_recently_makes_room(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys = InstallKeys(http, host.url, capacity=2)

    for key_id in ("a", "b", "a", "c", "a", "b"):
        await keys.key(key_id)

    assert host.asked == ["a", "b", "c", "b"]


async def test_made_up_ids_are_asked_for_a_few_at_a_time_and_forgotten(
    host: KeyHost, http: httpx2.AsyncClient
) -> None:
    keys = InstallKeys(http, host.url, concurrent_fetches=2, capacity=5)
    running = most = 0

    async def counted_refusal() -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Response(status_code=404)

    host.answer = counted_refusal
    answers = await asyncio.gather(
        *(keys.key(f"made-up-{n}") for n in range(40)), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {UnknownKey}
    assert most <= 2
    assert len(host.asked) == 40
    assert len(keys._unknown_until) == 5


@pytest.mark.parametrize(
    "url", ["http://keys.example", "ftp://keys.example", "keys.example", "", "https://a@b"]
)
def test_keys_travel_by_https_or_within_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        InstallKeys(httpx2.AsyncClient(), url)
