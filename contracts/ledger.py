"""The ledger of erasures: a signed chain of numbered entries that anyone can verify."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, model_validator

from contracts.classes import FieldClass
from contracts.messages import Count, Instant, Message, Pseudonym, Sha256, TenantClass, Word
from contracts.purges import ReceiptCode

GENESIS = "0" * 64
"""The hash before the first entry."""

_KEY_ID_CHARACTERS = 16

_SEAL = {"hash", "signature", "key_id"}


class _Kept(Message, extra="allow"):
    """Keeps fields that it does not know, because the hash covers them."""


class EntryKind(StrEnum):
    """What an entry records."""

    TENANT_ERASED = "tenant-erased"
    RECEIPT = "receipt"
    RESTORED = "restored"
    """A database came back from an older copy; said as a message of its own, ``RestoredEntry``."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Publish the kinds that the messages of this enum were born with: it cannot grow there."""
        schema = handler(core_schema)
        return {**schema, "enum": [each for each in schema["enum"] if each != cls.RESTORED]}


class ReceiptStage(StrEnum):
    """Which of a purge's two entries a receipt is."""

    ERASED = "erased"
    CLOSED = "closed"


class StepProof(_Kept):
    """What one owner answered, or that its step is still open; ``by`` a ``person``, or by itself."""

    step: Word
    owner: Word
    counts: dict[TenantClass, Count]
    data_map_hash: Sha256 | None = None
    erased_at: Instant | None = None
    open: Annotated[bool, FieldClass.PROCESS]
    by: Word | None = None


class Receipt(_Kept):
    """The proof of a purge: its dates and every step. No personal data."""

    stage: Annotated[ReceiptStage, FieldClass.PROCESS]
    receipt_code: ReceiptCode
    steps: tuple[StepProof, ...]
    deadline: Instant
    erase_by: Instant


class UnsealedEntry(_Kept):
    """An entry before it is hashed and signed.

    Numbers start at 1 and have no gaps. ``tenant-erased`` names the tenant, so
    that a restored database can erase it again; a receipt does not. With
    contacts it carries the ``receipt_code`` that is mailed before they go,
    and ``merged_into`` where people move to another tenant instead.
    """

    number: Annotated[int, Field(ge=1, le=2**53 - 1), FieldClass.PROCESS]
    kind: Annotated[EntryKind, FieldClass.PROCESS]
    at: Instant
    purge_id: Pseudonym
    tenant_id: Pseudonym | None = None
    classes: tuple[TenantClass, ...]
    receipt: Receipt | None = None
    receipt_code: ReceiptCode | None = None
    merged_into: Pseudonym | None = None
    previous_hash: Sha256

    @model_validator(mode="after")
    def _each_kind_has_its_fields(self) -> Self:
        names_a_tenant = self.kind is EntryKind.TENANT_ERASED
        if names_a_tenant != (self.tenant_id is not None):
            raise ValueError("tenant_id belongs to tenant-erased, and to nothing else")
        if (self.kind is EntryKind.RECEIPT) != (self.receipt is not None):
            raise ValueError("receipt belongs to the kind receipt, and to nothing else")
        if self.merged_into is not None and not names_a_tenant:
            raise ValueError("merged_into belongs to tenant-erased, and to nothing else")
        return self

    @property
    def type_name(self) -> str:
        """The message type under which this entry is published."""
        match self.kind:
            case EntryKind.TENANT_ERASED:
                return "tenant-erased"
            case EntryKind.RECEIPT:
                return "erasure-receipted"
            case EntryKind.RESTORED:
                return "database-restored"


class LedgerEntry(UnsealedEntry):
    """A sealed entry: ``signature`` is unpadded base64url Ed25519 over the 32 bytes of ``hash``."""

    hash: Sha256
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{86}$"), FieldClass.EVIDENCE]
    key_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$"), FieldClass.EVIDENCE]


class Restoration(_Kept):
    """Whose database was restored, and when; ``counts`` is what came back and was erased again."""

    service: Word
    restored_at: Instant
    counts: dict[TenantClass, Count]


class RestoredEntry(LedgerEntry):
    """The entry that a database came back from an older copy.

    Purger's own begins its ledger's next life, and ``purge_id`` names the
    restore; an owner's is about one purge, which took again what had come back.
    """

    kind: Annotated[Literal[EntryKind.RESTORED], FieldClass.PROCESS]
    restoration: Restoration


class LedgerHead(Message):
    """How long the ledger is, said at start and daily in each Kafka cluster.

    A reader that has not seen a head of its own cluster cannot know that it
    has seen every entry. An empty ledger has number 0 and the hash ``GENESIS``.
    """

    number: Count
    hash: Sha256
    cluster_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$"), FieldClass.PROCESS]
    at: Instant


class BrokenChain(Exception):  # noqa: N818 - it says what was found, as its callers do
    """The ledger is not what was written."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"ledger entry {number}: {reason}")
        self.number = number
        self.reason = reason


def entry_hash(entry: UnsealedEntry) -> str:
    """Hash an entry's canonical JSON: SHA-256, in lower-case hexadecimal.

    Canonical is the body without ``hash``, ``signature``, ``key_id`` and
    without nulls, keys sorted, no spaces, UTF-8, times in UTC with a ``Z``.
    Fields of a later version count, and an optional field that came later does
    not disturb older entries, so every version of us computes the same hash.
    """
    body = entry.model_dump(mode="json", exclude=_SEAL, exclude_none=True)
    canonical = json.dumps(
        body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return sha256(canonical.encode()).hexdigest()


def key_id_of(key: Ed25519PublicKey) -> str:
    """Name a key by itself: the start of the SHA-256 of its 32 bytes, in hexadecimal."""
    return sha256(key.public_bytes_raw()).hexdigest()[:_KEY_ID_CHARACTERS]


def seal(unsealed: UnsealedEntry, private_key: Ed25519PrivateKey, key_id: str) -> LedgerEntry:
    """Hash and sign an entry; ``key_id`` tells verifiers which public key to take."""
    digest = entry_hash(unsealed)
    signature = urlsafe_b64encode(private_key.sign(bytes.fromhex(digest)))
    return LedgerEntry.model_validate(
        {
            **unsealed.model_dump(exclude=_SEAL),
            "hash": digest,
            "signature": signature.rstrip(b"=").decode(),
            "key_id": key_id,
        }
    )


def verify_chain(
    entries: Iterable[LedgerEntry],
    public_keys: Mapping[str, Ed25519PublicKey],
    *,
    start_hash: str = GENESIS,
    head: LedgerHead | None = None,
) -> None:
    """Return when every entry follows the one before it and none was changed.

    ``start_hash`` is the hash of the entry before the first one given; from
    ``GENESIS`` numbers start at 1. With a ``head`` the chain must also reach
    that entry, which is the only way to see that the end was cut off. Raises
    ``BrokenChain`` at the first entry that is wrong.
    """
    number, previous_hash = 0, start_hash
    hash_at_head = start_hash if head is not None and head.number == 0 else None
    for entry in entries:
        if start_hash == GENESIS or number > 0:
            _require(entry.number == number + 1, number + 1, f"found number {entry.number}")
        number = entry.number
        _require(entry.previous_hash == previous_hash, number, "does not follow the one before")
        _require(entry.hash == entry_hash(entry), number, "its content was changed")
        _require_signature(entry, public_keys)
        previous_hash = entry.hash
        if head is not None and number == head.number:
            hash_at_head = entry.hash
    if head is not None:
        _require(hash_at_head is not None, head.number, "missing, but the head names it")
        _require(hash_at_head == head.hash, head.number, "is not the one that the head names")


def _require_signature(entry: LedgerEntry, public_keys: Mapping[str, Ed25519PublicKey]) -> None:
    public_key = public_keys.get(entry.key_id)
    if public_key is None:
        raise BrokenChain(entry.number, "signed by a key that is not known")
    try:
        public_key.verify(urlsafe_b64decode(entry.signature + "=="), bytes.fromhex(entry.hash))
    except InvalidSignature:
        raise BrokenChain(entry.number, "its signature is not of the named key") from None


def _require(holds: bool, number: int, reason: str) -> None:
    if not holds:
        raise BrokenChain(number, reason)
