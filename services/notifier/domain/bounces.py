"""What comes back of our mail: to which address, and what bounces and complaints say."""

import hmac
from base64 import b32decode, b32encode
from binascii import Error
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from typing import Final
from uuid import UUID

from services.notifier.domain.deliveries import is_a_dead_mailbox

_PREFIX: Final = "bounces+"
_COMPLAINTS: Final = "complaints"
_ID_BYTES: Final = 16
_CODE_BYTES: Final = 9
_PERSONS_DO_NOT_WANT_IT: Final = frozenset({"abuse", "fraud", "opt-out"})


@dataclass(frozen=True, slots=True)
class ReturnPaths:
    """The addresses at which mail comes back: one for each delivery (VERP), one for complaints.

    A delivery's address carries a code that nobody can make who lacks the key, so that nobody can
    report a message of ours as undeliverable that was not sent to them.
    """

    keyed_hash: Callable[[str, bytes], bytes] = field(repr=False)
    domain: str

    def of(self, delivery_id: UUID) -> str:
        """The envelope's sender of a delivery; 40 letters and digits in it are its own."""
        told = b32encode(delivery_id.bytes + self._code(delivery_id.bytes)).decode().lower()
        return f"{_PREFIX}{told}@{self.domain}"

    def is_for_complaints(self, address: str) -> bool:
        """Whether complaints are sent here."""
        return address.lower() == f"{_COMPLAINTS}@{self.domain}".lower()

    def read(self, address: str) -> UUID | None:
        """Name the delivery whose address this is; None for anything else, however alike."""
        local, _, domain = address.rpartition("@")
        if domain.lower() != self.domain.lower() or not local.lower().startswith(_PREFIX):
            return None
        try:
            told = b32decode(local[len(_PREFIX) :].upper())
        except (Error, ValueError):
            return None
        if len(told) != _ID_BYTES + _CODE_BYTES:
            return None
        delivery, code = told[:_ID_BYTES], told[_ID_BYTES:]
        return UUID(bytes=delivery) if hmac.compare_digest(code, self._code(delivery)) else None

    def _code(self, delivery: bytes) -> bytes:
        return self.keyed_hash("return-path", delivery)[:_CODE_BYTES]


@dataclass(frozen=True, slots=True)
class Bounce:
    """A server says that a message it had taken was not delivered (RFC 3464)."""

    for_good: bool
    """It will not be tried again; else it is late, and may still arrive."""
    nobody_is_there: bool
    """No message can reach the address any more."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A person told their provider that they do not want a message (RFC 5965)."""

    return_path: str = field(repr=False)
    """Where the message would have come back to, by which it is known; may be anybody's word."""


def read_report(raw: bytes) -> Bounce | Complaint | None:
    """Say what a message reports; None where it is no report of the two, or says too little.

    Nothing else of it is looked at: neither its words, nor the message that it may repeat.
    """
    message = BytesParser(policy=policy.default).parsebytes(raw)
    if message.get_content_type() != "multipart/report":
        return None
    parts = {part.get_content_type(): part for part in _parts(message)}
    if status := parts.get("message/delivery-status"):
        return _bounce(status)
    if feedback := parts.get("message/feedback-report"):
        return _complaint(feedback, parts.get("message/rfc822"))
    return None


def _parts(message: Message) -> Iterator[EmailMessage]:
    return (part for part in message.walk() if isinstance(part, EmailMessage))


def _bounce(status: EmailMessage) -> Bounce | None:
    """Read the fields of the recipient, of whom there is one: we send to each by itself."""
    for fields in _groups(status):
        action, code = _field(fields, "action"), _field(fields, "status").split(" ")[0]
        if action == "failed":
            return Bounce(for_good=True, nobody_is_there=is_a_dead_mailbox(code))
        if action == "delayed":
            return Bounce(for_good=False, nobody_is_there=False)
    return None


def _complaint(feedback: EmailMessage, original: EmailMessage | None) -> Complaint | None:
    [fields, *_] = [*_groups(feedback), EmailMessage()]
    if _field(fields, "feedback-type") not in _PERSONS_DO_NOT_WANT_IT:
        return None
    named = _field(fields, "original-mail-from").strip("<>")
    if not named and original is not None:
        [repeated, *_] = [*_groups(original), EmailMessage()]
        named = _field(repeated, "return-path").strip("<>")
    return Complaint(named) if named else None


def _groups(part: Message) -> list[Message]:
    payload = part.get_payload()
    return (
        [each for each in payload if isinstance(each, Message)] if isinstance(payload, list) else []
    )


def _field(fields: Message, name: str) -> str:
    return str(fields.get(name, "")).strip().lower()
