"""Signed installs under attack: only Atlassian's call, to this app, for this customer, gets in."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connect.calls import Refusal, Refused
from connect.jwt import MAX_TOKEN_BYTES, Reason, sign
from connect.keys import KeyHostAway, UnknownKey
from connect.lifecycle import Installed, Uninstalled, read_body
from connect.qsh import query_string_hash
from connect.signed_install import SignedInstalls

NOW = 1_795_000_000
APP = "com.example.app"
BASE_URL = "https://apps.example.com/connect/com.example.app"
BASE_PATH = "/connect/com.example.app"
PATH = "/lifecycle/installed"
KEY_ID = "d2466692-d9b3-4245-8208-a601568541ae"
CLIENT_KEY = "customer-7"

CLAIMS: dict[str, Any] = {
    "iss": CLIENT_KEY,
    "aud": [BASE_URL],
    "iat": NOW,
    "exp": NOW + 180,
    "qsh": query_string_hash("POST", PATH, ""),
}


class Keys:
    """Keys by id, and a host that can be away."""

    def __init__(self, **keys: RSAPublicKey) -> None:
        self.keys = keys
        self.away = False
        self.asked: list[str] = []

    async def key(self, key_id: str) -> RSAPublicKey:
        self.asked.append(key_id)
        if self.away:
            raise KeyHostAway
        if key_id not in self.keys:
            raise UnknownKey
        return self.keys[key_id]


@pytest.fixture
def keys(private_key: RSAPrivateKey, other_private_key: RSAPrivateKey) -> Keys:
    return Keys(**{KEY_ID: private_key.public_key(), "another-kid": other_private_key.public_key()})


@pytest.fixture
def gate(keys: Keys) -> SignedInstalls:
    return SignedInstalls(keys, APP, [BASE_URL], now=lambda: NOW)


async def _knock(gate: SignedInstalls, token: str | None, **changes: Any) -> str:
    request = {
        "method": "POST",
        "raw_path": f"{BASE_PATH}{PATH}",
        "raw_query": "",
        "authorization": None if token is None else f"JWT {token}",
        "base_path": BASE_PATH,
    }
    return (await gate.verify(**(request | changes))).client_key


async def _refused(gate: SignedInstalls, token: str | None, **changes: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        await _knock(gate, token, **changes)
    return refusal.value


def _body(**changes: Any) -> bytes:
    return json.dumps(
        {
            "key": APP,
            "clientKey": CLIENT_KEY,
            "sharedSecret": "a-secret-key-not-to-be-lost",
            "baseUrl": "https://acme.atlassian.net",
            "productType": "jira",
            "eventType": "installed",
        }
        | changes
    ).encode()


async def test_a_signed_call_gets_in(gate: SignedInstalls, private_key: RSAPrivateKey) -> None:
    token = sign(CLAIMS, private_key, key_id=KEY_ID)

    assert await _knock(gate, token) == CLIENT_KEY
    assert await _knock(gate, None, raw_query=f"jwt={token}") == CLIENT_KEY
    assert await _knock(gate, token, base_path="", raw_path=PATH.encode()) == CLIENT_KEY


async def test_legacy_parameters_count(gate: SignedInstalls, private_key: RSAPrivateKey) -> None:
    query = "user_key=admin&user_id=admin"
    claims = CLAIMS | {"qsh": query_string_hash("POST", PATH, query)}
    token = sign(claims, private_key, key_id=KEY_ID)

    assert await _knock(gate, token, raw_query=query) == CLIENT_KEY
    assert (await _refused(gate, token)).reason is Reason.QSH


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": ["https://apps.example.com/connect/com.example.other"]}, Reason.AUDIENCE),
        ({"aud": ["https://apps.example.com"]}, Reason.AUDIENCE),
        ({"aud": []}, Reason.AUDIENCE),
        ({"aud": None}, Reason.AUDIENCE),
        ({"iss": None}, Reason.MISSING_CLAIM),
        ({"iat": None}, Reason.MISSING_CLAIM),
        ({"exp": None}, Reason.MISSING_CLAIM),
        ({"qsh": None}, Reason.QSH),
        ({"qsh": "context-qsh"}, Reason.QSH),
        ({"qsh": query_string_hash("POST", "/lifecycle/uninstalled", "")}, Reason.QSH),
        ({"qsh": query_string_hash("GET", PATH, "")}, Reason.QSH),
        ({"qsh": query_string_hash("POST", PATH, "x=1")}, Reason.QSH),
        ({"qsh": query_string_hash("POST", BASE_PATH + PATH, "")}, Reason.QSH),
        ({"iat": NOW - 300, "exp": NOW - 120}, Reason.EXPIRED),
        ({"nbf": NOW + 60}, Reason.NOT_YET_VALID),
        ({"iat": NOW + 60, "exp": NOW + 240}, Reason.ISSUED_IN_THE_FUTURE),
        ({"iat": 0}, Reason.LIFETIME),
        ({"iss": "customer\0"}, Reason.CLAIM_SHAPE),
    ],
)
async def test_a_call_that_claims_something_else_is_refused(
    changes: dict[str, Any], reason: Reason, gate: SignedInstalls, private_key: RSAPrivateKey
) -> None:
    refused = await _refused(gate, sign(CLAIMS | changes, private_key, key_id=KEY_ID))

    assert (refused.refusal, refused.reason) == (Refusal.INVALID_TOKEN, reason)
    assert refused.status == 401
    assert refused.headers(APP) == {"WWW-Authenticate": f'JWT realm="{APP}"'}


def _unsigned(alg: str) -> str:
    def segment(part: dict[str, Any]) -> str:
        return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

    return f"{segment({'alg': alg, 'kid': KEY_ID})}.{segment(CLAIMS)}."


def _public(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda _, __: _unsigned("none"), Reason.ALGORITHM),
        (lambda _, __: _unsigned("NONE"), Reason.ALGORITHM),
        (lambda _, __: _unsigned("RS256"), Reason.SIGNATURE),
        (lambda ours, _: sign(CLAIMS, _public(ours), key_id=KEY_ID), Reason.ALGORITHM),
        (lambda ours, _: sign(CLAIMS, _public(ours).strip(), key_id=KEY_ID), Reason.ALGORITHM),
        (lambda _, __: sign(CLAIMS, b"the customer's own secret"), Reason.ALGORITHM),
        (lambda _, other: sign(CLAIMS, other, key_id=KEY_ID), Reason.SIGNATURE),
        (lambda ours, _: sign(CLAIMS, ours, key_id="another-kid"), Reason.SIGNATURE),
        (lambda ours, _: sign(CLAIMS, ours), Reason.KEY_ID),
        (lambda ours, _: sign(CLAIMS, ours, key_id=KEY_ID)[:-342] + "A" * 342, Reason.SIGNATURE),
        (lambda ours, _: sign(CLAIMS, ours, key_id=KEY_ID) + ".x", Reason.MALFORMED),
        (
            lambda ours, _: sign(CLAIMS | {"x": "x" * MAX_TOKEN_BYTES}, ours, key_id=KEY_ID),
            Reason.TOO_LARGE,
        ),
    ],
)
async def test_a_forged_token_is_refused(
    forge: Callable[[RSAPrivateKey, RSAPrivateKey], str],
    reason: Reason,
    gate: SignedInstalls,
    private_key: RSAPrivateKey,
    other_private_key: RSAPrivateKey,
) -> None:
    refused = await _refused(gate, forge(private_key, other_private_key))

    assert (refused.status, refused.reason) == (401, reason)


async def test_no_token_and_two_tokens_are_refused(
    gate: SignedInstalls, private_key: RSAPrivateKey
) -> None:
    token = sign(CLAIMS, private_key, key_id=KEY_ID)

    assert (await _refused(gate, None)).reason is Reason.NO_TOKEN
    assert (await _refused(gate, token, raw_query=f"jwt={token}")).reason is Reason.TWO_TOKENS
    both = [f"JWT {token}", f"JWT {token}"]
    assert (await _refused(gate, None, authorization=both)).reason is Reason.TWO_TOKENS


async def test_an_unknown_key_is_a_foreign_signer(
    gate: SignedInstalls, private_key: RSAPrivateKey
) -> None:
    refused = await _refused(gate, sign(CLAIMS, private_key, key_id="made-up"))

    assert (refused.refusal, refused.status) == (Refusal.UNKNOWN_KEY, 401)
    assert "WWW-Authenticate" in refused.headers(APP)


async def test_a_key_that_cannot_be_had_now_asks_to_come_back(
    gate: SignedInstalls, keys: Keys, private_key: RSAPrivateKey
) -> None:
    keys.away = True

    refused = await _refused(gate, sign(CLAIMS, private_key, key_id=KEY_ID))

    assert (refused.refusal, refused.status) == (Refusal.KEY_HOST_AWAY, 503)
    assert set(refused.headers(APP)) == {"Retry-After"}


async def test_no_key_is_asked_for_before_the_token_has_its_form(
    gate: SignedInstalls, keys: Keys
) -> None:
    await _refused(gate, _unsigned("none"))
    await _refused(gate, sign(CLAIMS, b"secret", key_id=KEY_ID))

    assert keys.asked == []


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"clientKey": "customer-8"}, Refusal.FOREIGN_CLIENT_KEY),
        ({"clientKey": "CUSTOMER-7"}, Refusal.FOREIGN_CLIENT_KEY),
        ({"clientKey": "customer-7 "}, Refusal.FOREIGN_CLIENT_KEY),
        ({"key": "com.example.other"}, Refusal.FOREIGN_APP),
        ({"key": "COM.example.app"}, Refusal.FOREIGN_APP),
    ],
)
@pytest.mark.parametrize(
    ("model", "event"), [(Installed, "installed"), (Uninstalled, "uninstalled")]
)
async def test_a_body_that_is_not_the_signers_is_refused(
    body: dict[str, str],
    refusal: Refusal,
    *,
    model: type[Installed | Uninstalled],
    event: str,
    gate: SignedInstalls,
    private_key: RSAPrivateKey,
) -> None:
    token = sign(CLAIMS, private_key, key_id=KEY_ID)
    call = await gate.verify(
        method="POST", raw_path=PATH, raw_query="", authorization=f"JWT {token}"
    )

    gate.check_body(call, read_body(model, _body(eventType=event)))
    with pytest.raises(Refused) as refused:
        gate.check_body(call, read_body(model, _body(eventType=event, **body)))

    assert refused.value.refusal is refusal
    assert refused.value.status == {"foreign-client-key": 403, "foreign-app": 400}[refusal.slug]
    assert refused.value.headers(APP) == {}


async def test_a_call_to_one_app_is_not_a_call_to_another_on_the_same_backend(
    keys: Keys, private_key: RSAPrivateKey
) -> None:
    other_base = "https://apps.example.com/connect/com.example.other"
    other = SignedInstalls(keys, "com.example.other", [other_base], now=lambda: NOW)
    token = sign(CLAIMS, private_key, key_id=KEY_ID)

    refused = await _refused(
        other,
        token,
        raw_path=f"/connect/com.example.other{PATH}",
        base_path="/connect/com.example.other",
    )

    assert refused.reason is Reason.AUDIENCE


def test_a_gate_without_an_audience_is_not_built(keys: Keys) -> None:
    with pytest.raises(ValueError, match="base URLs"):
        SignedInstalls(keys, APP, [])
    with pytest.raises(ValueError, match="base URLs"):
        SignedInstalls(keys, APP, "https://apps.example.com")


async def test_a_refusal_and_a_call_show_nothing_of_the_customer(
    gate: SignedInstalls, private_key: RSAPrivateKey
) -> None:
    token = sign(CLAIMS, private_key, key_id=KEY_ID)
    call = await gate.verify(
        method="POST", raw_path=PATH, raw_query="", authorization=f"JWT {token}"
    )
    refused = await _refused(gate, token, raw_path="/elsewhere")

    for shown in (f"{call!r}", f"{refused!r} {refused}"):
        assert CLIENT_KEY not in shown
        assert token[-20:] not in shown
