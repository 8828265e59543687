"""The key that signs the ledger, read from a file that the database never holds."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from chassis.settings import BadSettings

_ID_CHARACTERS = 16


class BadLedgerKey(BadSettings):
    """The file holds no key that could sign the ledger; never carries what it holds."""

    def __init__(self, complaint: str) -> None:
        super().__init__([complaint])


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """An Ed25519 key; its id is the start of the SHA-256 of the public key's 32 bytes."""

    private_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a private key in PEM without a password; raises ``BadLedgerKey``."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise BadLedgerKey(
                f"KEEPWORD_LEDGER_KEY_FILE: cannot be read ({type(error).__name__})"
            ) from None
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise BadLedgerKey(
                "KEEPWORD_LEDGER_KEY_FILE: give an Ed25519 private key in PEM without a password,"
                " as `openssl genpkey -algorithm ed25519` makes it"
            )
        return cls(key)

    @property
    def key_id(self) -> str:
        """What each entry names its key by."""
        raw = self.private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return sha256(raw).hexdigest()[:_ID_CHARACTERS]

    @property
    def public_pem(self) -> str:
        """The public key, for whoever verifies."""
        pem = self.private_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()
