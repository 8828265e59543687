"""Session tokens: what a customer's browser shows to the other services, checked by them offline."""

import json
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ISSUER: Final = "keepword-installer"
AUDIENCE: Final = "config"
LIFETIME: Final = timedelta(minutes=15)


class BadSessionKey(Exception):  # noqa: N818 - names what is so
    """The file of the session key cannot be used; never carries what is in it."""


class SessionSigner:
    """Signs session tokens with Ed25519 (RFC 8037), and publishes the key to check them by."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        public = _encoded(private_key.public_key().public_bytes_raw())
        # The members and their order are those of RFC 7638, so the id follows from the key.
        members = {"crv": "Ed25519", "kty": "OKP", "x": public}
        self.key_id = _encoded(sha256(_json(members)).digest())
        self._header = _encoded(_json({"alg": "EdDSA", "kid": self.key_id, "typ": "JWT"}))
        self.jwks = _json({"keys": [{**members, "kid": self.key_id, "use": "sig", "alg": "EdDSA"}]})

    @classmethod
    def load(cls, path: Path) -> "SessionSigner":
        """Read the private key, PEM without a password; raises ``BadSessionKey``."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as failure:
            raise BadSessionKey(f"cannot be read: {failure.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise BadSessionKey("is not a private key in PEM without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise BadSessionKey("is not an Ed25519 key")
        return cls(key)

    def token_for(self, tenant_id: UUID, *, wall: datetime) -> str:
        """Give a token by which its bearer acts for a tenant for a quarter of an hour."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(tenant_id),
            "iat": int(wall.timestamp()),
            "exp": int((wall + LIFETIME).timestamp()),
        }
        signing_input = f"{self._header}.{_encoded(_json(claims))}"
        signature = self._private_key.sign(signing_input.encode("ascii"))
        return f"{signing_input}.{_encoded(signature)}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
