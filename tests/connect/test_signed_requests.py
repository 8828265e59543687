"""Calls signed with a site's secret: found by a claim, believed by a signature, bound to a request."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st

from connect.calls import Refusal, Refused, VerifiedCall
from connect.jwt import MAX_TOKEN_BYTES, Reason, sign
from connect.qsh import CONTEXT_QSH, query_string_hash
from connect.signed_requests import SignedRequests

VECTORS = json.loads((Path(__file__).parent / "vectors" / "signed-requests.json").read_text())
NOW, BASE_PATH, ISSUER = VECTORS["now"], VECTORS["base_path"], VECTORS["issuer"]
PRESENT, REPLACED = VECTORS["secrets"][ISSUER]
PATH = f"{BASE_PATH}/lifecycle/enabled"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "iat": NOW,
    "exp": NOW + 180,
    "qsh": query_string_hash("POST", "/lifecycle/enabled", ""),
}


class Sites:
    """The secrets of the sites, and what was asked."""

    def __init__(self, secrets: dict[str, list[str]]) -> None:
        self.secrets = secrets
        self.asked: list[str] = []

    async def __call__(self, client_key: str) -> Sequence[bytes]:
        self.asked.append(client_key)
        return [secret.encode() for secret in self.secrets.get(client_key, [])]


@pytest.fixture
def sites() -> Sites:
    return Sites({name: list(secrets) for name, secrets in VECTORS["secrets"].items()})


@pytest.fixture
def gate(sites: Sites) -> SignedRequests:
    return SignedRequests(sites, now=lambda: NOW)


async def _knock(gate: SignedRequests, token: str, **changes: Any) -> VerifiedCall:
    request = {
        "method": "POST",
        "raw_path": PATH,
        "raw_query": "",
        "authorization": f"JWT {token}",
        "base_path": BASE_PATH,
    }
    return await gate.verify(**(request | changes))


async def _refused(gate: SignedRequests, token: str, **changes: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        await _knock(gate, token, **changes)
    return refusal.value


async def _answer(gate: SignedRequests, case: dict[str, Any]) -> VerifiedCall:
    if case["gate"] == "context":
        return await gate.verify_context(authorization=f"JWT {case['token']}")
    fields = ("method", "raw_path", "raw_query", "raw_form")
    return await _knock(gate, case["token"], **{field: case[field] for field in fields})


@pytest.mark.parametrize(
    "case", VECTORS["tokens"], ids=lambda case: f"{case['gate']}: {case['name']}"
)
async def test_every_vector_gets_in_or_is_refused_for_its_reason(
    case: dict[str, Any], gate: SignedRequests
) -> None:
    if case["refused"] is None:
        assert (await _answer(gate, case)).client_key == ISSUER
        return
    with pytest.raises(Refused) as refusal:
        await _answer(gate, case)

    assert (refusal.value.refusal, refusal.value.status) == (Refusal.INVALID_TOKEN, 401)
    assert refusal.value.reason == case["refused"]


async def test_a_token_comes_in_the_header_the_query_or_the_form(gate: SignedRequests) -> None:
    token = sign(CLAIMS, PRESENT.encode())

    assert await _knock(gate, token, authorization=None, raw_query=f"jwt={token}")
    assert await _knock(gate, token, authorization=None, raw_form=f"jwt={token}".encode())
    assert await _knock(gate, token, raw_path=PATH.encode(), raw_query=b"", raw_form=b"a=1")


async def test_a_token_in_two_places_is_refused(gate: SignedRequests) -> None:
    token = sign(CLAIMS, PRESENT.encode())

    for places in (
        {"raw_query": f"jwt={token}"},
        {"raw_form": f"jwt={token}"},
        {"authorization": [f"JWT {token}", f"JWT {token}"]},
        {"authorization": None, "raw_query": f"jwt={token}", "raw_form": f"jwt={token}"},
    ):
        assert (await _refused(gate, token, **places)).reason is Reason.TWO_TOKENS
    assert (await _refused(gate, token, authorization=None)).reason is Reason.NO_TOKEN


async def test_a_context_token_is_taken_from_the_header_alone(gate: SignedRequests) -> None:
    token = sign(CLAIMS | {"qsh": CONTEXT_QSH}, PRESENT.encode())

    assert (await gate.verify_context(authorization=[f"JWT {token}"])).client_key == ISSUER
    for authorization, reason in (
        (None, Reason.NO_TOKEN),
        (f"Bearer {token}", Reason.NO_TOKEN),
        ([f"JWT {token}", f"JWT {token}"], Reason.TWO_TOKENS),
    ):
        with pytest.raises(Refused) as refusal:
            await gate.verify_context(authorization=authorization)
        assert refusal.value.reason is reason


@given(
    method=st.sampled_from(["GET", "POST", ""]),
    path=st.text(max_size=20),
    query=st.text(max_size=20),
)
def test_no_request_has_the_hash_that_a_context_token_carries(
    method: str, path: str, query: str
) -> None:
    assert query_string_hash(method, path, query) != CONTEXT_QSH


async def test_an_unknown_site_is_refused_in_the_same_words_as_a_wrong_signature(
    gate: SignedRequests,
) -> None:
    unknown = await _refused(gate, sign(CLAIMS | {"iss": "nobody"}, PRESENT.encode()))
    wrong = await _refused(gate, sign(CLAIMS, b"a guess"))

    assert (unknown.refusal, unknown.reason, str(unknown)) == (
        wrong.refusal,
        wrong.reason,
        str(wrong),
    )
    assert unknown.headers("com.example.app") == wrong.headers("com.example.app")
    assert unknown.headers("com.example.app") == {"WWW-Authenticate": 'JWT realm="com.example.app"'}


async def test_a_replaced_secret_is_dead_once_it_is_no_longer_given(
    gate: SignedRequests, sites: Sites
) -> None:
    old, new = sign(CLAIMS, REPLACED.encode()), sign(CLAIMS, PRESENT.encode())
    assert await _knock(gate, old)

    sites.secrets[ISSUER].remove(REPLACED)

    assert (await _refused(gate, old)).reason is Reason.SIGNATURE
    assert await _knock(gate, new)


async def test_a_site_whose_secrets_are_gone_is_unknown(gate: SignedRequests, sites: Sites) -> None:
    sites.secrets[ISSUER].clear()

    assert (await _refused(gate, sign(CLAIMS, PRESENT.encode()))).reason is Reason.SIGNATURE


async def test_no_secret_is_looked_up_before_the_token_has_its_form(
    gate: SignedRequests, sites: Sites, private_key: RSAPrivateKey
) -> None:
    for token in (
        "a.b.c",
        sign(CLAIMS, private_key),
        sign(CLAIMS | {"x": "x" * MAX_TOKEN_BYTES}, PRESENT.encode()),
        sign(CLAIMS | {"iss": "x" * 256}, PRESENT.encode()),
        sign(CLAIMS | {"iss": "a\0b"}, PRESENT.encode()),
        sign(CLAIMS | {"iss": [ISSUER]}, PRESENT.encode()),
    ):
        await _refused(gate, token)

    assert sites.asked == []


async def test_a_site_that_cannot_be_looked_up_now_is_not_a_refusal() -> None:
    async def unreachable(_: str) -> Sequence[bytes]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await _knock(SignedRequests(unreachable), sign(CLAIMS, PRESENT.encode()))


async def test_a_call_and_a_refusal_show_neither_site_nor_person(gate: SignedRequests) -> None:
    person = "5be24ad8b1653240376955d2"
    named = CLAIMS | {"sub": person, "context": {"user": {"accountId": person}}}
    call = await _knock(gate, sign(named, PRESENT.encode()))
    refused = await _refused(gate, sign(named, b"a guess"))

    for shown in (f"{call!r} {call.claims!r}", f"{refused!r} {refused}"):
        assert ISSUER not in shown
        assert person not in shown
    assert person not in str([getattr(call.claims, name) for name in call.claims.__slots__])
