"""Signs tokens with Ed25519, and publishes the keys by which others check them offline."""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import OKPKey
from starlette.requests import Request
from starlette.responses import Response

log = structlog.get_logger(__name__)

JWKS_PATH: Final = "/.well-known/jwks.json"

_NO_KEY: Final = "is not a private key in PEM without a password, nor several"
_BEGIN: Final = b"-----BEGIN "
# Between the keys anything may stand, such as a note of when each was made.
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class BadSigningKeys(Exception):  # noqa: N818 - names what is so
    """The file of the keys cannot be used; never carries what is in it."""


class TokenSigner:
    """Signs tokens with Ed25519 (RFC 8037), and publishes the keys to check them by.

    The file holds one or more private keys in PEM without a password. The
    first one signs, all are published, so that a token signed by the one
    before is still known while another has taken over. The file is read again
    whenever it changes; one that turns bad while the service runs is logged,
    and the keys read before stay in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _identity(path)
        self._keys = _read(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; raise ``BadSigningKeys`` which says what is wrong with it."""
        return cls(path)

    @property
    def key_id(self) -> str:
        """The id of the key that signs: its thumbprint (RFC 7638)."""
        return self._fresh().signing.key_id

    @property
    def public_keys(self) -> list[OKPKey]:
        """The public keys, to check by what was signed here."""
        told = json.loads(self._fresh().jwks)["keys"]
        return [OKPKey.import_key(each) for each in told]

    @property
    def jwks(self) -> bytes:
        """The public keys (RFC 7517), in the order of the file."""
        return self._fresh().jwks

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Give a token that claims this; the same claims give the same token."""
        return self._fresh().signing.sign(claims)

    async def publish(self, _: Request) -> Response:
        """Show the public keys, at ``JWKS_PATH``."""
        return Response(
            self.jwks,
            media_type="application/jwk-set+json",
            headers={"cache-control": "public, max-age=300"},
        )

    def _fresh(self) -> "_Keys":
        try:
            identity = _identity(self._path)
            if identity != self._seen:
                self._seen = identity
                self._keys = _read(self._path)
                log.info("signing keys read again", key_ids=self._keys.key_ids)
        except BadSigningKeys as bad:
            log.error("signing keys not read again", reason=str(bad))  # noqa: TRY400 - its frames say nothing
        return self._keys


class _SigningKey:
    """One private key, with what is published of it."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        public = encoded(private_key.public_key().public_bytes_raw())
        # The members and their order are those of RFC 7638, so the id follows from the key.
        members = {"crv": "Ed25519", "kty": "OKP", "x": public}
        self.key_id = encoded(sha256(_json(members)).digest())
        self.jwk = {**members, "kid": self.key_id, "use": "sig", "alg": "EdDSA"}
        self._header = encoded(_json({"alg": "EdDSA", "kid": self.key_id, "typ": "JWT"}))

    def sign(self, claims: Mapping[str, Any]) -> str:
        signing_input = f"{self._header}.{encoded(_json(dict(claims)))}"
        signature = self._private_key.sign(signing_input.encode("ascii"))
        return f"{signing_input}.{encoded(signature)}"


@dataclass(frozen=True, slots=True)
class _Keys:
    """What a file holds."""

    signing: _SigningKey = field(repr=False)
    key_ids: list[str]
    jwks: bytes


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as failure:
        raise BadSigningKeys(f"cannot be read: {failure.strerror}") from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> _Keys:
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise BadSigningKeys(f"cannot be read: {failure.strerror}") from None
    blocks = [match[0] for match in _PEM.finditer(content)]
    if not blocks or len(blocks) != content.count(_BEGIN):
        # Half a key, as of a file that is still being written, must not pass for none.
        raise BadSigningKeys(_NO_KEY)
    keys = [_SigningKey(_private_key(block)) for block in blocks]
    key_ids = [key.key_id for key in keys]
    if len(set(key_ids)) != len(key_ids):
        raise BadSigningKeys("holds a key twice")
    return _Keys(keys[0], key_ids, _json({"keys": [key.jwk for key in keys]}))


def _private_key(block: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(block, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadSigningKeys(_NO_KEY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSigningKeys("is not an Ed25519 key")
    return key


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def encoded(raw: bytes) -> str:
    """Write bytes as base64url without padding (RFC 4648, section 5), as JOSE and PKCE do."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
