"""Session keys: several in a file, one signs, and config follows their rotation."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from fastapi import FastAPI

from chassis import logs
from chassis.sessions import session_of_token
from chassis.signing import BadSigningKeys
from chassis.tokens import (
    FETCHED_AT_MOST_EVERY_SECONDS,
    KEPT_SECONDS,
    PublishedKeys,
    TokenRefused,
    key_id_of,
)
from services.installer.routes.sessions import sessions_router
from services.installer.sessions import ISSUER, SessionSigner
from tests.installer.conftest import APP, START


def a_key(encryption: KeySerializationEncryption | None = None) -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def a_key_of_another_kind() -> bytes:
    key = new_ec_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_ids(signer: SessionSigner) -> list[str]:
    return [key["kid"] for key in json.loads(signer.jwks)["keys"]]


class Rotation:
    """A key file in the hands of an operator, and a config that reads the keys over HTTP."""

    def __init__(self, path: Path, *keys: bytes) -> None:
        self._path = path
        self.write(*keys)
        self.signer = SessionSigner.load(path)
        app = FastAPI()
        app.include_router(sessions_router({APP}, self.signer))
        self.seconds = 0.0
        self._config = PublishedKeys(
            "http://installer.test/.well-known/jwks.json",
            lambda: httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)),
            monotonic=lambda: self.seconds,
        )

    def write(self, *keys: bytes) -> None:
        _file(self._path, b"".join(keys))

    async def accepted(self, token: str) -> UUID | None:
        try:
            key = await self._config.find(key_id_of(token))
            return session_of_token(
                token, key, issuer=ISSUER, audience="config", at=START
            ).tenant_id
        except TokenRefused:
            return None


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "session.pem"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("installer", "debug", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_while_keys_overlap_tokens_of_both_are_known_and_later_the_old_one_is_not(
    key_file: Path,
) -> None:
    tenant_id, old, new = uuid4(), a_key(), a_key()
    rotation = Rotation(key_file, old)
    by_old = rotation.signer.token_for(tenant_id, wall=START)
    assert await rotation.accepted(by_old) == tenant_id

    rotation.write(old, new)
    still_by_old = rotation.signer.token_for(tenant_id, wall=START)
    assert key_id_of(still_by_old) == key_id_of(by_old)

    rotation.seconds += FETCHED_AT_MOST_EVERY_SECONDS
    rotation.write(new, old)
    by_new = rotation.signer.token_for(tenant_id, wall=START)
    assert key_id_of(by_new) != key_id_of(by_old)
    assert await rotation.accepted(by_new) == tenant_id
    assert await rotation.accepted(by_old) == tenant_id

    rotation.write(new)
    rotation.seconds += KEPT_SECONDS
    assert await rotation.accepted(by_old) is None
    assert await rotation.accepted(by_new) == tenant_id


async def test_a_removed_key_ends_with_the_next_fetch_and_a_made_up_id_is_no_way_to_keep_it(
    key_file: Path,
) -> None:
    tenant_id, old, new = uuid4(), a_key(), a_key()
    rotation = Rotation(key_file, old, new)
    by_old = rotation.signer.token_for(tenant_id, wall=START)
    assert await rotation.accepted(by_old) == tenant_id

    rotation.write(new, a_key())
    rotation.seconds += FETCHED_AT_MOST_EVERY_SECONDS
    stranger = SessionSigner.load(_file(key_file.with_name("stranger.pem"), a_key()))
    by_unknown = stranger.token_for(tenant_id, wall=START)
    assert await rotation.accepted(by_unknown) is None
    assert await rotation.accepted(by_old) is None


def test_all_keys_are_published_in_the_order_of_the_file_and_no_private_part_is(
    key_file: Path,
) -> None:
    first, second = a_key(), a_key()
    one = SessionSigner.load(_file(key_file, first + b"# the next one\n" + second))
    other = SessionSigner.load(_file(key_file.with_name("other.pem"), second + first))

    assert len(set(key_ids(one))) == 2
    assert key_ids(one) == key_ids(other)[::-1]
    assert one.key_id == key_ids(one)[0]
    for key in json.loads(one.jwks)["keys"]:
        assert set(key) == {"crv", "kty", "x", "kid", "use", "alg"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        a_key()[:-20],
        a_key() + a_key()[:60],
        a_key() + a_key_of_another_kind(),
        a_key() * 2,
        a_key(BestAvailableEncryption(b"password")),
    ],
    # Keys are new each time, and would be names of tests.
    ids=["empty", "no key", "half", "one and a half", "another kind", "twice", "with a password"],
)
def test_a_file_that_turns_bad_is_logged_and_the_keys_before_stay(
    key_file: Path, content: bytes, log: io.StringIO
) -> None:
    with pytest.raises(BadSigningKeys):
        SessionSigner.load(_file(key_file, content))

    signer = SessionSigner.load(_file(key_file, a_key()))
    key_id, jwks = signer.key_id, signer.jwks
    _file(key_file, content)
    assert (signer.key_id, signer.jwks) == (key_id, jwks)
    assert log.getvalue().count("signing keys not read again") == 1
    assert "PRIVATE" not in log.getvalue()

    _file(key_file, a_key())
    assert signer.key_id != key_id


def test_a_file_that_is_gone_for_a_moment_takes_no_key_away(
    key_file: Path, log: io.StringIO
) -> None:
    signer = SessionSigner.load(_file(key_file, a_key()))
    key_id = signer.key_id
    key_file.unlink()
    assert signer.key_id == key_id
    assert "signing keys not read again" in log.getvalue()


def _file(path: Path, content: bytes) -> Path:
    # Another file takes its place, so the change is seen however fast the test is.
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)
    return path
