"""What an outsider can check of a receipt: signatures, hashes, and its place in the chain."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import TypeAdapter, ValidationError

from contracts.ledger import BrokenChain, LedgerEntry, key_id_of, verify_chain
from services.purger.checkpoints import (
    Checkpoint,
    UnreadableCheckpoint,
    read_checkpoints,
    require_checkpoints,
)

PublicKeys = Mapping[str, Ed25519PublicKey]
"""Keys by their ids."""

_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_ENTRIES = TypeAdapter(list[LedgerEntry])


class NotVerified(Exception):  # noqa: N818 - reads as the fact it states
    """The receipt proves nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole ledger as purger shows it: its entries and the hash that it ends with."""

    entries: tuple[LedgerEntry, ...]
    head_hash: str


def public_keys_of(pem: bytes) -> PublicKeys:
    """Read the ledger's public keys, one or more; raises ``NotVerified`` for anything else."""
    keys = [_public_key(block) for block in _PEM.findall(pem)]
    if not keys:
        raise NotVerified("the public key is no Ed25519 key in PEM")
    return {key_id_of(key): key for key in keys}


def _public_key(block: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise NotVerified("the public key is no Ed25519 key in PEM")
    return key


def entries_of(text: str) -> list[LedgerEntry]:
    """Read entries from JSON: a list, or an answer of purger that has ``entries``.

    Raises:
        NotVerified: it is neither, or has no entries.
    """
    try:
        told = json.loads(text)
        entries = _ENTRIES.validate_python(told["entries"] if isinstance(told, dict) else told)
    except (ValueError, KeyError, ValidationError):
        raise NotVerified("the file holds no ledger entries in JSON") from None
    if not entries:
        raise NotVerified("the file holds no entry")
    return entries


async def fetch_receipt(http: httpx2.AsyncClient, purger_url: str, code: str) -> list[LedgerEntry]:
    """Fetch the entries of a receipt by its code.

    Raises:
        NotVerified: purger knows no such receipt.
    """
    answer = await http.get(f"{purger_url}/receipts/{code}")
    if answer.status_code == httpx2.codes.NOT_FOUND:
        raise NotVerified("purger knows no receipt under this code")
    return entries_of(answer.raise_for_status().text)


async def fetch_ledger(http: httpx2.AsyncClient, purger_url: str) -> Ledger:
    """Fetch all entries, page by page; what is written meanwhile is fetched too."""
    entries: list[LedgerEntry] = []
    while True:
        after = entries[-1].number if entries else 0
        answer = await http.get(f"{purger_url}/ledger/entries", params={"after": after})
        page = answer.raise_for_status().json()
        if not page["entries"]:
            return Ledger(tuple(entries), page["head_hash"])
        entries += entries_of(answer.text)


async def fetch_public_key(http: httpx2.AsyncClient, purger_url: str) -> bytes:
    """Fetch the keys that purger says it signs and has signed with."""
    answer = await http.get(f"{purger_url}/ledger/public-key")
    return answer.raise_for_status().content


def check_entries(entries: Sequence[LedgerEntry], keys: PublicKeys) -> None:
    """Return when each entry is unchanged and signed, and follows its neighbour where it is there.

    Raises:
        NotVerified: one is not.
    """
    numbered = sorted(entries, key=lambda entry: entry.number)
    # Neighbours have the same distance from their place in the list.
    runs = groupby(enumerate(numbered), key=lambda placed: placed[1].number - placed[0])
    for _, placed in runs:
        run = [entry for _, entry in placed]
        _check_chain(run, keys, start_hash=run[0].previous_hash)


def check_receipt(entries: Sequence[LedgerEntry], ledger: Ledger, keys: PublicKeys) -> None:
    """Return when the ledger is whole from its first entry to its head, and holds these entries.

    Raises:
        NotVerified: it is not, or does not.
    """
    _check_chain(ledger.entries, keys)
    if not ledger.entries or ledger.entries[-1].hash != ledger.head_hash:
        raise NotVerified("the ledger does not end with the entry that purger names as its last")
    by_number = {entry.number: entry for entry in ledger.entries}
    for entry in entries:
        if by_number.get(entry.number) != entry:
            raise NotVerified(f"entry {entry.number} of the receipt is not that of the ledger")


def read_checkpoints_of(path: Path) -> list[Checkpoint]:
    """Read the checkpoints of a file that must be there.

    Raises:
        NotVerified: a line is no checkpoint, or there is none.
        OSError: the file cannot be read.
    """
    path.stat()
    try:
        checkpoints = read_checkpoints(path)
    except UnreadableCheckpoint as unreadable:
        raise NotVerified(str(unreadable)) from None
    if not checkpoints:
        raise NotVerified("the file holds no checkpoint")
    return checkpoints


def check_checkpoints(ledger: Ledger, checkpoints: Sequence[Checkpoint], keys: PublicKeys) -> None:
    """Return when the whole ledger still has each entry that a checkpoint names.

    Raises:
        NotVerified: its end was cut off, or it was written anew.
    """
    hashes = {entry.number: entry.hash for entry in ledger.entries}
    try:
        require_checkpoints(checkpoints, hashes, keys)
    except BrokenChain as broken:
        raise NotVerified(str(broken)) from None


def _check_chain(
    entries: Sequence[LedgerEntry], keys: PublicKeys, *, start_hash: str | None = None
) -> None:
    try:
        if start_hash is None:
            verify_chain(entries, keys)
        else:
            verify_chain(entries, keys, start_hash=start_hash)
    except BrokenChain as broken:
        raise NotVerified(str(broken)) from None
