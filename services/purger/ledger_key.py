"""The keys of the ledger, read from a file that the database never holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from chassis.settings import BadSettings
from contracts.ledger import key_id_of

log = structlog.get_logger(__name__)

_VARIABLE: Final = "KEEPWORD_LEDGER_KEY_FILE"
_NO_KEY: Final = (
    "give an Ed25519 private key in PEM without a password, as `openssl genpkey -algorithm"
    " ed25519` makes it, and after it, where the key was changed, the public keys of before"
)
_BEGIN: Final = b"-----BEGIN "
# Between the keys anything may stand, such as a note of when each was made.
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class BadLedgerKey(BadSettings):
    """The file holds no key that could sign the ledger; never carries what it holds."""

    def __init__(self, complaint: str) -> None:
        super().__init__([f"{_VARIABLE}: {complaint}"])


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """The Ed25519 key that signs, and the public keys of those that signed before it."""

    private_key: Ed25519PrivateKey = field(repr=False)
    earlier: tuple[Ed25519PublicKey, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file whose first key signs; raises ``BadLedgerKey``.

        Of those before it the public half is enough, so that the private one can be destroyed.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadLedgerKey(f"cannot be read ({type(error).__name__})") from None
        blocks = [match[0] for match in _PEM.finditer(content)]
        if not blocks or len(blocks) != content.count(_BEGIN):
            # Half a key, as of a file that is still being written, must not pass for none.
            raise BadLedgerKey(_NO_KEY)
        signing, *others = [_key(block) for block in blocks]
        if not isinstance(signing, Ed25519PrivateKey):
            raise BadLedgerKey(f"its first key cannot sign; {_NO_KEY}")
        key = cls(signing, tuple(map(_public_half, others)))
        if len(key.public_keys) != len(blocks):
            raise BadLedgerKey("holds a key twice")
        return key

    @property
    def key_id(self) -> str:
        """What each new entry names its key by."""
        return key_id_of(self.private_key.public_key())

    @property
    def public_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """All public keys by their ids, that of the key that signs first."""
        keys = (self.private_key.public_key(), *self.earlier)
        return {key_id_of(key): key for key in keys}

    @property
    def public_pem(self) -> str:
        """The same in PEM, for whoever verifies."""
        return "".join(
            key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            for key in self.public_keys.values()
        )


class LedgerKeyFile:
    """The file of the keys, read again whenever it changes.

    One that turns bad while the service runs is logged, and the keys read before stay in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _identity(path)
        self._key = LedgerKey.load(path)

    def current(self) -> LedgerKey:
        """Return the key that signs now, with those before it."""
        try:
            identity = _identity(self._path)
            if identity != self._seen:
                self._seen = identity
                self._key = LedgerKey.load(self._path)
                log.info("ledger keys read again", key_ids=list(self._key.public_keys))
        except BadLedgerKey as bad:
            log.error("ledger keys not read again", reason=str(bad))  # noqa: TRY400 - its frames say nothing
        return self._key


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise BadLedgerKey(f"cannot be read ({type(error).__name__})") from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _key(block: bytes) -> Ed25519PrivateKey | Ed25519PublicKey:
    try:
        if block.startswith(b"-----BEGIN PUBLIC KEY"):
            key: object = load_pem_public_key(block)
        else:
            key = load_pem_private_key(block, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadLedgerKey(_NO_KEY) from None
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise BadLedgerKey(_NO_KEY)
    return key


def _public_half(key: Ed25519PrivateKey | Ed25519PublicKey) -> Ed25519PublicKey:
    return key.public_key() if isinstance(key, Ed25519PrivateKey) else key
