"""Session tokens are verified offline; keys are fetched when needed, never at the pace of whoever knocks."""

import base64
import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from joserfc.jwk import OKPKey

from chassis.sessions import Session, session_of_token
from chassis.tokens import (
    FETCHED_AT_MOST_EVERY_SECONDS,
    KEPT_SECONDS,
    KeysAway,
    PublishedKeys,
    TokenOver,
    TokenRefused,
    claims_of,
    key_id_of,
)
from devstack.key_files import ensure_signing_key
from services.installer.sessions import SessionSigner
from tests.support.sessions import ISSUER, JWKS_URL, NOW, Installer, answering


class Published:
    """An installer's JWKS address, with what it answers and how often it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0
        self.seconds = 0.0

    def __call__(self, _: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, httpx2.Response):
            return self.answer
        return httpx2.Response(200, json=self.answer)

    def keys(self) -> PublishedKeys:
        return PublishedKeys(JWKS_URL, answering(self), monotonic=lambda: self.seconds)


async def test_a_known_key_is_fetched_once() -> None:
    published = Published(Installer.new().jwks())
    keys = published.keys()
    for _ in range(3):
        assert await keys.find("one") is not None
    assert published.asked == 1


async def test_an_unknown_key_makes_it_ask_again_but_not_often() -> None:
    published = Published(Installer.new("one").jwks())
    keys = published.keys()
    for number in range(50):
        assert await keys.find(f"unknown-{number}") is None
    assert published.asked == 1

    published.answer = Installer.new("two").jwks()
    published.seconds += FETCHED_AT_MOST_EVERY_SECONDS
    assert await keys.find("two") is not None
    assert await keys.find("one") is None
    assert published.asked == 2


async def test_a_key_that_is_no_longer_published_ends_within_the_hour() -> None:
    published = Published(Installer.new("one").jwks())
    keys = published.keys()
    assert await keys.find("one") is not None
    published.answer = Installer.new("two").jwks()
    published.seconds += KEPT_SECONDS
    assert await keys.find("one") is None


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError("away"),
        httpx2.Response(500),
        httpx2.Response(302, headers={"location": "http://elsewhere.test/"}),
        httpx2.Response(200, content=b"not json"),
        httpx2.Response(200, content=b'{"keys": "none"}'),
        httpx2.Response(200, content=b"[]"),
        httpx2.Response(200, content=b" " * 70_000 + b'{"keys": []}'),
    ],
)
async def test_while_the_installer_is_away_old_keys_stay_in_use(answer: Any) -> None:
    published = Published(Installer.new().jwks())
    keys = published.keys()
    assert await keys.find("one") is not None
    published.answer = answer
    published.seconds += KEPT_SECONDS
    assert await keys.find("one") is not None

    with pytest.raises(KeysAway):
        await Published(answer).keys().find("one")


async def test_only_public_ed25519_keys_for_signatures_are_taken() -> None:
    installer = Installer.new("one")
    other = OKPKey.generate_key("X25519", {"kid": "x"}).as_dict(private=False)
    encryption = installer.jwks()["keys"][0] | {"kid": "e", "use": "enc"}
    told: list[Any] = [
        None,
        7,
        {},
        {"kty": "oct", "kid": "s", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": "!"},
        {"kty": "OKP", "crv": "Ed25519", "kid": 7, "x": "AA"},
        other | {"kid": "x"},
        encryption,
        installer.key.as_dict(private=True) | {"kid": "one"},
    ]
    keys = Published({"keys": told}).keys()
    found = await keys.find("one")
    assert found is not None
    assert not found.is_private
    for key_id in ("s", "b", "x", "e", ""):
        assert await keys.find(key_id) is None


async def test_a_token_as_the_installer_signs_it_is_known_here(tmp_path: Path) -> None:
    signer = SessionSigner.load(ensure_signing_key(tmp_path / "session.pem"))
    tenant_id = uuid4()
    token = signer.token_for(tenant_id, wall=NOW)
    keys = Published(json.loads(signer.jwks)).keys()
    key = await keys.find(key_id_of(token))
    session = session_of_token(token, key, issuer=ISSUER, audience="config", at=NOW)
    assert session == Session(tenant_id)
    token = signer.token_for(tenant_id, wall=NOW, administers=True)
    session = session_of_token(token, key, issuer=ISSUER, audience="config", at=NOW)
    assert session == Session(tenant_id, administers=True)


# -- tokens ---------------------------------------------------------------------------------------


def part(told: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


@pytest.fixture
def installer() -> Installer:
    return Installer.new()


def read(installer: Installer, token: str) -> Any:
    key_id_of(token)
    return session_of_token(token, installer.key, issuer=ISSUER, audience="config", at=NOW)


def test_a_session_token_names_its_tenant(installer: Installer) -> None:
    tenant_id = uuid4()
    token = installer.token(tenant_id)
    assert key_id_of(token) == "one"
    assert read(installer, token) == Session(tenant_id, administers=True)
    # Nobody administers a site by a word that we do not know.
    for role in ("admin", "", True, ["administrator"], None):
        token = installer.sign(installer.claims(tenant_id) | {"role": role})
        assert read(installer, token) == Session(tenant_id)


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "sub"])
def test_a_token_without_one_of_the_four_claims_is_refused(
    installer: Installer, claim: str
) -> None:
    claims = installer.claims(uuid4())
    del claims[claim]
    with pytest.raises(TokenRefused):
        read(installer, installer.sign(claims))


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "another"},
        {"aud": "installer"},
        {"aud": ["installer", "purger"]},
        {"exp": int((NOW - timedelta(minutes=1)).timestamp())},
        {"exp": "tomorrow"},
        {"exp": None},
        {"iat": int((NOW + timedelta(hours=1)).timestamp())},
        {"nbf": int((NOW + timedelta(hours=1)).timestamp())},
        {"sub": "nobody"},
        {"sub": 7},
        {"sub": ""},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(installer: Installer, wrong: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        read(installer, installer.sign(installer.claims(uuid4()) | wrong))


def test_a_token_is_over_only_for_whom_it_was_meant(installer: Installer) -> None:
    over = installer.claims(uuid4(), NOW - timedelta(hours=1))
    with pytest.raises(TokenOver):
        read(installer, installer.sign(over))
    for wrong in ({"aud": "purger"}, {"iss": "another"}, {"sub": 7}):
        # Whatever the order in which they stand.
        for claims in ({**over, **wrong}, {**wrong, **over, **wrong}):
            with pytest.raises(TokenRefused) as refused:
                read(installer, installer.sign(claims))
            assert not isinstance(refused.value, TokenOver)


def test_what_else_is_claimed_is_given(installer: Installer) -> None:
    token = installer.sign(installer.claims(uuid4()) | {"purge": "p"})
    claims = claims_of(token, installer.key, issuer=ISSUER, audience="config", at=NOW)
    assert claims["purge"] == "p"


def test_another_key_under_the_same_id_is_refused(installer: Installer) -> None:
    with pytest.raises(TokenRefused):
        read(installer, Installer.new("one").token(uuid4()))


def test_a_token_whose_key_nobody_has_is_refused(installer: Installer) -> None:
    with pytest.raises(TokenRefused):
        session_of_token(installer.token(uuid4()), None, issuer=ISSUER, audience="config", at=NOW)


def test_only_eddsa_is_an_algorithm(installer: Installer) -> None:
    claims = part(installer.claims(uuid4()))
    unsigned = f"{part({'alg': 'none', 'kid': 'one'})}.{claims}."
    head = f"{part({'alg': 'HS256', 'kid': 'one'})}.{claims}"
    # The classic: the public key, which everyone has, as the secret of an HMAC.
    public = installer.key.as_bytes(private=False)
    mac = hmac.digest(public, head.encode(), "sha256")
    confused = f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    for token in (unsigned, confused, "", "a.b.c", "é.e.e", "x" * 5000):
        with pytest.raises(TokenRefused):
            key_id_of(token)
        with pytest.raises(TokenRefused):
            session_of_token(token, installer.key, issuer=ISSUER, audience="config", at=NOW)


def test_a_key_of_another_curve_verifies_nothing(installer: Installer) -> None:
    with pytest.raises(TokenRefused):
        session_of_token(
            installer.token(uuid4()),
            OKPKey.generate_key("Ed448"),
            issuer=ISSUER,
            audience="config",
            at=NOW,
        )
