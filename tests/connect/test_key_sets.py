"""A key set over real HTTP: fetched once, refetched for new ids, and kept while its host is away."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from connect.key_sets import AWAY_SECONDS, FRESH_SECONDS, MAX_SET_BYTES, REFETCH_SECONDS, KeySet
from connect.keys import ATTEMPTS, KeyHostAway, UnknownKey
from tests.connect.serving import serving

KEY_ID = "forge/invocation-token/wf-1"


def _number(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8)
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _jwk(key: rsa.RSAPrivateKey, key_id: str = KEY_ID, **changes: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    jwk: dict[str, Any] = {"kty": "RSA", "kid": key_id, "use": "sig", "alg": "RS256"}
    jwk |= {"n": _number(numbers.n), "e": _number(numbers.e)} | changes
    return {name: value for name, value in jwk.items() if value is not ...}


class SetHost:
    """A host of one key set, and a clock that can be moved."""

    def __init__(self, *members: Any) -> None:
        self.members = list(members)
        self.asked = 0
        self.url = ""
        self.now = 1000.0
        self.answer: Callable[[], Awaitable[Response]] = self.publish

    async def publish(self) -> Response:
        return PlainTextResponse(json.dumps({"keys": self.members}))

    async def __call__(self, _: Request) -> Response:
        self.asked += 1
        return await self.answer()

    def answers(self, response: Response) -> None:
        async def same_answer() -> Response:
            return response

        self.answer = same_answer

    def key_set(self, http: httpx2.AsyncClient, **options: Any) -> KeySet:
        return KeySet(http, self.url, monotonic=lambda: self.now, **options)


@pytest.fixture
async def host(private_key: rsa.RSAPrivateKey) -> AsyncIterator[SetHost]:
    set_host = SetHost(_jwk(private_key))
    async with serving(Starlette(routes=[Route("/jwks.json", set_host.__call__)])) as url:
        set_host.url = f"{url}/jwks.json"
        yield set_host


async def test_a_set_is_fetched_once_and_kept(
    host: SetHost, http: httpx2.AsyncClient, private_key: rsa.RSAPrivateKey
) -> None:
    keys = host.key_set(http)

    first, second = await keys.key(KEY_ID), await keys.key(KEY_ID)

    assert first is second
    assert first.public_numbers() == private_key.public_key().public_numbers()
    assert host.asked == 1


async def test_a_set_that_another_library_wrote_is_read(
    host: SetHost, http: httpx2.AsyncClient, private_key: rsa.RSAPrivateKey
) -> None:
    theirs = RSAKey.import_key(private_key).as_dict(private=False)
    host.members = [theirs | {"kid": KEY_ID}]

    key = await host.key_set(http).key(KEY_ID)

    assert key.public_numbers() == private_key.public_key().public_numbers()


async def test_an_id_that_is_new_brings_a_new_fetch_once_in_a_while(
    host: SetHost, http: httpx2.AsyncClient, other_private_key: rsa.RSAPrivateKey
) -> None:
    keys = host.key_set(http)
    for _ in range(3):
        with pytest.raises(UnknownKey):
            await keys.key("new")
    assert host.asked == 1

    host.members.append(_jwk(other_private_key, "new"))
    host.now += REFETCH_SECONDS - 0.1
    with pytest.raises(UnknownKey):
        await keys.key("new")
    host.now += 0.2

    assert await keys.key("new")
    assert host.asked == 2


async def test_made_up_ids_are_no_flood(host: SetHost, http: httpx2.AsyncClient) -> None:
    keys = host.key_set(http)

    answers = await asyncio.gather(
        *(keys.key(f"made-up-{n}") for n in range(100)), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {UnknownKey}
    assert host.asked == 1
    assert len(keys._known) == 1


async def test_a_key_that_was_withdrawn_ends_with_the_next_fetch(
    host: SetHost, http: httpx2.AsyncClient, other_private_key: rsa.RSAPrivateKey
) -> None:
    keys = host.key_set(http)
    await keys.key(KEY_ID)
    host.members = [_jwk(other_private_key, "new")]
    host.now += REFETCH_SECONDS

    assert await keys.key("new")
    with pytest.raises(UnknownKey):
        await keys.key(KEY_ID)


async def test_a_set_that_grew_old_is_fetched_again_and_nobody_waits(
    host: SetHost, http: httpx2.AsyncClient, other_private_key: rsa.RSAPrivateKey
) -> None:
    keys = host.key_set(http)
    known = await keys.key(KEY_ID)
    host.members = [_jwk(other_private_key, "new")]
    host.now += FRESH_SECONDS

    assert await keys.key(KEY_ID) is known
    assert keys._fetch is not None
    await keys._fetch

    with pytest.raises(UnknownKey):
        await keys.key(KEY_ID)
    assert host.asked == 2


async def test_known_keys_serve_while_the_host_is_away(
    host: SetHost, http: httpx2.AsyncClient
) -> None:
    keys = host.key_set(http)
    known = await keys.key(KEY_ID)
    host.answers(Response(status_code=503))
    host.now += FRESH_SECONDS

    with pytest.raises(KeyHostAway):
        await keys.key("new")
    assert await keys.key(KEY_ID) is known


async def test_a_host_that_failed_is_left_alone_for_a_moment(
    host: SetHost, http: httpx2.AsyncClient
) -> None:
    keys = host.key_set(http)
    host.answers(Response(status_code=503))
    for _ in range(3):
        with pytest.raises(KeyHostAway):
            await keys.key(KEY_ID)
    assert host.asked == ATTEMPTS

    host.answer = host.publish
    host.now += AWAY_SECONDS

    assert await keys.key(KEY_ID)


async def test_a_caller_that_gives_up_takes_the_set_from_nobody(
    host: SetHost, http: httpx2.AsyncClient
) -> None:
    keys, asked, go = host.key_set(http), asyncio.Event(), asyncio.Event()

    async def held_answer() -> Response:
        asked.set()
        await go.wait()
        return await host.publish()

    host.answer = held_answer
    waiting = [asyncio.create_task(keys.key(KEY_ID)) for _ in range(20)]
    await asked.wait()
    waiting[0].cancel()
    go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert len({id(result) for result in results[1:]}) == 1
    assert isinstance(results[1], rsa.RSAPublicKey)
    assert host.asked == 1


async def test_a_host_that_is_too_slow_is_away(host: SetHost, http: httpx2.AsyncClient) -> None:
    never = asyncio.Event()

    async def no_answer() -> Response:
        await never.wait()
        return Response()

    host.answer = no_answer
    async with asyncio.timeout(2):
        with pytest.raises(KeyHostAway):
            await host.key_set(http, timeout_seconds=0.1).key(KEY_ID)
    never.set()


@pytest.mark.parametrize(
    "key_id",
    ["", "a b", "a\n", "a\0", "é", "a" * 256, "https://keys.example/jwks.json", "a?b", "a%2f"],
)
async def test_nobody_is_asked_for_an_id_of_another_shape(
    key_id: str, host: SetHost, http: httpx2.AsyncClient
) -> None:
    with pytest.raises(UnknownKey):
        await host.key_set(http).key(key_id)

    assert host.asked == 0


async def test_an_id_never_gets_into_a_url(host: SetHost, http: httpx2.AsyncClient) -> None:
    with pytest.raises(UnknownKey):
        await host.key_set(http).key("../../secrets")

    assert host.asked == 1


UNUSABLE: dict[str, dict[str, Any]] = {
    "another kind of key": {"kty": "EC"},
    "for encryption": {"use": "enc"},
    "for another algorithm": {"alg": "RS512"},
    "without an id": {"kid": ...},
    "with a strange id": {"kid": "a b"},
    "with an id that is no text": {"kid": 7},
    "without a modulus": {"n": ...},
    "with a modulus that is no text": {"n": 7},
    "with a modulus that is no base64url": {"n": "é"},
    "with an empty modulus": {"n": ""},
    "with an even exponent": {"e": "AAAC"},
    "with an exponent of one": {"e": "AQ"},
}


@pytest.mark.parametrize("fault", UNUSABLE)
async def test_a_member_that_is_of_no_use_is_passed_over(
    fault: str,
    host: SetHost,
    http: httpx2.AsyncClient,
    private_key: rsa.RSAPrivateKey,
    other_private_key: rsa.RSAPrivateKey,
) -> None:
    host.members = [
        _jwk(private_key, "bad", **UNUSABLE[fault]),
        None,
        "key",
        _jwk(other_private_key, use=..., alg=...),
    ]
    keys = host.key_set(http)

    assert await keys.key(KEY_ID)
    assert set(keys._known) == {KEY_ID}


async def test_a_weak_key_is_passed_over(
    host: SetHost, http: httpx2.AsyncClient, private_key: rsa.RSAPrivateKey
) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    host.members = [_jwk(weak, "weak"), _jwk(private_key)]

    with pytest.raises(UnknownKey):
        await host.key_set(http).key("weak")


NO_SETS: dict[str, Response] = {
    "nothing": Response(b""),
    "a page": PlainTextResponse("<html>Please log in</html>"),
    "a list": PlainTextResponse("[]"),
    "no keys": PlainTextResponse("{}"),
    "an empty set": PlainTextResponse('{"keys":[]}'),
    "keys that are no list": PlainTextResponse('{"keys":{"a":1}}'),
    "deep nesting": PlainTextResponse("[" * 60_000),
    "bytes that are no text": Response(b"\xff\xfe\xfd"),
    "too much": Response(b" " * (MAX_SET_BYTES + 1)),
    "not there": Response(status_code=404),
    "elsewhere": RedirectResponse("/elsewhere"),
}


@pytest.mark.parametrize("what", NO_SETS)
async def test_an_answer_without_a_usable_key_replaces_nothing(
    what: str, host: SetHost, http: httpx2.AsyncClient
) -> None:
    http.follow_redirects = True
    keys = host.key_set(http)
    known = await keys.key(KEY_ID)
    host.answers(NO_SETS[what])
    host.now += REFETCH_SECONDS

    with pytest.raises(KeyHostAway):
        await keys.key("new")
    assert await keys.key(KEY_ID) is known


@pytest.mark.parametrize(
    "url", ["http://keys.example/jwks.json", "ftp://keys.example", "", "/keys"]
)
def test_a_set_travels_by_https_or_within_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        KeySet(httpx2.AsyncClient(), url)
