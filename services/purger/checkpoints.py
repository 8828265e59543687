"""Checkpoints: how far the ledger had come, signed, in a file that the database cannot rewrite."""

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from contracts.ledger import BrokenChain
from services.purger.ledger_key import LedgerKey

_MODE: Final = 0o640


class UnreadableCheckpoint(Exception):  # noqa: N818 - reads as the fact it states
    """A line of the file is no checkpoint, so what it proved is lost."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} of the checkpoints cannot be read")


class MissingCheckpoint(Exception):  # noqa: N818 - likewise
    """The file is gone or was cut off, so what it proved is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the checkpoint of entry {number} is gone from its file, or the file is")


class Checkpoint(BaseModel):
    """The ledger's last entry at a time; one line of JSON each.

    A chain alone does not show that its end was cut off, nor that all of it was
    written anew by somebody who has the key. ``signature`` is unpadded base64url
    Ed25519 over the lines ``keepword-checkpoint``, number, hash and time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    hash: str
    at: AwareDatetime
    key_id: str
    signature: str

    @classmethod
    def of(cls, number: int, entry_hash: str, *, at: datetime, key: LedgerKey) -> Self:
        """Sign a checkpoint."""
        signature = key.private_key.sign(_signed(number, entry_hash, at))
        return cls(
            number=number,
            hash=entry_hash,
            at=at,
            key_id=key.key_id,
            signature=urlsafe_b64encode(signature).rstrip(b"=").decode(),
        )

    def require_signature(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Return when the key that it names has signed it; else raise ``BrokenChain``."""
        key = keys.get(self.key_id)
        if key is None:
            raise BrokenChain(self.number, "its checkpoint is signed by a key that is not known")
        try:
            key.verify(
                urlsafe_b64decode(self.signature + "=="), _signed(self.number, self.hash, self.at)
            )
        except (InvalidSignature, NotBase64, ValueError):
            raise BrokenChain(
                self.number, "its checkpoint's signature is not of the named key"
            ) from None


def read_checkpoints(path: Path) -> list[Checkpoint]:
    """Read all of a file; none where there is no file.

    Raises:
        UnreadableCheckpoint: a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Checkpoint.model_validate_json(line))
        except ValidationError:
            raise UnreadableCheckpoint(number) from None
    return found


def append_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Add a line; when this returns it is on the disk."""
    line = json.dumps(checkpoint.model_dump(mode="json"), separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)
    try:
        # In one write, so that two replicas do not mix their lines.
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_checkpoints(
    checkpoints: Iterable[Checkpoint],
    hashes: Mapping[int, str],
    keys: Mapping[str, Ed25519PublicKey],
) -> None:
    """Return when the ledger still has each entry that a checkpoint names, as it was.

    Raises:
        BrokenChain: an entry is gone or another, or a checkpoint is not ours.
    """
    for checkpoint in checkpoints:
        checkpoint.require_signature(keys)
        found = hashes.get(checkpoint.number)
        if found is None:
            raise BrokenChain(checkpoint.number, "missing, but a checkpoint names it")
        if found != checkpoint.hash:
            raise BrokenChain(checkpoint.number, "is not the one that a checkpoint names")


def _signed(number: int, entry_hash: str, at: datetime) -> bytes:
    return f"keepword-checkpoint\n{number}\n{entry_hash}\n{at.isoformat()}".encode()
