"""The envelope: CloudEvents 1.0 attributes as Kafka headers, in binary mode."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

Headers = Sequence[tuple[str, bytes]]

_SPECVERSION = "1.0"
_CONTENT_TYPE = "application/json"
_REQUIRED = ("specversion", "id", "source", "type", "time")
_OPTIONAL = (
    "subject",
    "partitionkey",
    "dataschema",
    "traceparent",
    "causationid",
    "correlationid",
)
_OPTIONAL_HEADERS = tuple((f"ce_{name}", name) for name in _OPTIONAL)
_WANTED = {f"ce_{name}": name for name in (*_REQUIRED, *_OPTIONAL)}
# CloudEvents 1.0.2, "Type System": a String holds no control characters,
# no lone surrogates and no Unicode noncharacters.
_NOT_ALLOWED = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + low) for plane in range(0, 0x110000, 0x10000) for low in (0xFFFE, 0xFFFF))
    + "]"
)


class MalformedEnvelope(ValueError):  # noqa: N818 - named for what it found
    """The headers are not those of a CloudEvent of ours; ``reason`` holds no header's value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who said what kind of thing, when, about whom; the body is not in it.

    ``subject`` is the tenant's id, ``partitionkey`` the Kafka key. Raises
    ``ValueError`` for what CloudEvents does not allow: an empty text, a control
    character, a time without a zone.
    """

    id: UUID
    source: str
    type: str
    time: datetime
    subject: str | None = None
    partitionkey: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    causationid: str | None = None
    correlationid: str | None = None

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError("time has no zone")
        for name in ("source", "type", *_OPTIONAL):
            value = getattr(self, name)
            if value is not None and not _is_text(value):
                raise ValueError(f"{name} is empty or holds a character that is not allowed")


def to_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Write an envelope as the headers of a Kafka record whose value is JSON.

    Kafka protocol binding 1.0.2, section 3.2: every attribute under ``ce_``,
    the data's type under ``content-type``. Attributes that are None are left
    out.
    """
    return [(name, value.encode()) for name, value in to_text_headers(envelope)]


def to_text_headers(envelope: Envelope) -> list[tuple[str, str]]:
    """Give what `to_headers` does before it is encoded, as an outbox keeps it."""
    headers = [
        ("ce_specversion", _SPECVERSION),
        ("ce_id", str(envelope.id)),
        ("ce_source", envelope.source),
        ("ce_type", envelope.type),
        ("ce_time", envelope.time.astimezone(UTC).isoformat().replace("+00:00", "Z")),
    ]
    headers += [
        (header, value)
        for header, name in _OPTIONAL_HEADERS
        if (value := getattr(envelope, name)) is not None
    ]
    headers.append(("content-type", _CONTENT_TYPE))
    return headers


def from_headers(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """Read an envelope from a record's headers; raises ``MalformedEnvelope``.

    Headers of others may be null, repeated or no text at all. An optional
    attribute that cannot be read counts as absent. A required one that is
    missing, unreadable or given twice with different values is refused, since
    to guess would be to act on somebody else's word.
    """
    found: dict[str, bytes | None] = {}
    for header, value in headers:
        lowered = header.lower()
        name = _WANTED.get(lowered, lowered if lowered == "content-type" else None)
        if name is None:
            continue
        if name in found and found[name] != value:
            if name not in _OPTIONAL:
                raise MalformedEnvelope(f"{name} is given twice")
            value = None  # noqa: PLW2901 - neither of the two can be believed
        found[name] = value
    _require_json(found.get("content-type"))
    specversion, identity, source, type_, time = (_required(found, name) for name in _REQUIRED)
    if specversion != _SPECVERSION:
        raise MalformedEnvelope("specversion is not 1.0")
    return Envelope(
        id=_uuid(identity),
        source=source,
        type=type_,
        time=_instant(time),
        **{name: _text(found.get(name)) for name in _OPTIONAL},
    )


def _is_text(value: str) -> bool:
    if value.isascii():
        return bool(value) and value.isprintable()
    return _NOT_ALLOWED.search(value) is None


def _text(value: bytes | None) -> str | None:
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if _is_text(text) else None


def _required(found: dict[str, bytes | None], name: str) -> str:
    if name not in found:
        raise MalformedEnvelope(f"{name} is missing")
    text = _text(found[name])
    if text is None:
        raise MalformedEnvelope(f"{name} is empty or no text")
    return text


def _require_json(content_type: bytes | None) -> None:
    """Accept JSON with or without parameters; a record without a value names no type."""
    media_type = (content_type or b"application/json").split(b";")[0].strip().lower()
    if media_type != _CONTENT_TYPE.encode():
        raise MalformedEnvelope("content-type is not application/json")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise MalformedEnvelope("id is no UUID") from None


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise MalformedEnvelope("time has no zone")
        return instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        if isinstance(error, MalformedEnvelope):
            raise
        raise MalformedEnvelope("time is no RFC 3339 instant") from None
