"""Understands records, whatever they hold: which handler takes them, or why nobody can."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from chassis.dead_letters.written import Failure, command_in, uuid_in
from chassis.handlers import Handler, Handlers
from contracts.envelope import Envelope, MalformedEnvelope, from_headers
from contracts.messages import Kind, Message
from contracts.registry import by_ce_type
from contracts.replays import FORCED_HEADER, REPLAYED, Mark, mark_of
from contracts.topics import SERVICES, Topic, is_replays

C = TypeVar("C")
Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"

_STEP = re.compile(r"[a-z][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Arrived(Generic[C]):
    """A record that one of our handlers takes."""

    record: Record
    envelope: Envelope
    handler: Handler[C]
    message: Message | None  # None is a tombstone
    tenant_id: UUID | None
    mark: Mark | None = None  # of a replay

    @property
    def argument(self) -> Any:
        """What its handler is given: the message, or of a tombstone whose it is."""
        return self.message if self.message is not None else self.tenant_id

    @property
    def command(self) -> tuple[UUID, str] | None:
        """Its purge and step, for a command behind which later ones of the purge wait."""
        if self.handler.kind is not Kind.COMMAND or self.handler.nothing_waits:
            return None
        purge_id, step = getattr(self.message, "purge_id", None), getattr(self.message, "step", "")
        return (purge_id, step) if purge_id and step else None

    def failure(self, reason: str, error_type: str | None = None, attempts: int = 1) -> Failure:
        """Say why it was given up, as it is written down."""
        purge_id, step = self.command or (getattr(self.message, "purge_id", None), None)
        return Failure(
            handler=self.handler.name,
            reason=reason,
            error_type=error_type,
            attempts=attempts,
            tenant_id=self.tenant_id,
            ce_id=self.envelope.id,
            type=self.envelope.type,
            purge_id=purge_id,
            step=step,
            kind=self.handler.kind,
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that nobody can take; it becomes a dead letter."""

    record: Record
    failure: Failure


@dataclass(frozen=True, slots=True)
class NotOurs:
    """A record that is fine and not for this service."""

    record: Record


Reading: TypeAlias = Arrived[C] | Unreadable | NotOurs


class Reader(Generic[C]):
    """Reads what comes on these topics for one service's handlers."""

    def __init__(self, topics: Iterable[Topic], handlers: Handlers[C]) -> None:
        self._handlers = handlers
        topics = tuple(topics)
        self._kinds = {topic.name: topic.kind for topic in topics}
        self._keyed_by_tenant = {topic.name for topic in topics if topic.key == "tenant_id"}
        self._replays = frozenset(topic.name for topic in topics if is_replays(topic))

    def unforced_id(self, record: Record) -> UUID | None:
        """Find the id of a replayed record that an inbox may drop, without reading the rest of it."""
        headers = dict(record.headers)
        if record.topic not in self._replays or FORCED_HEADER in headers:
            return None
        try:
            return UUID((headers.get("ce_id") or b"").decode())
        except ValueError:
            return None

    def read(self, record: Record) -> Reading[C]:
        """Understand one record, whatever it holds; nothing in it can raise."""
        try:
            envelope = from_headers(record.headers)
        except MalformedEnvelope as error:
            return self._unreadable(record, None, f"headers: {error}")
        known = by_ce_type(envelope.type)
        if known is None:
            return NotOurs(record)
        if record.topic in self._replays:
            return self._read_again(record, envelope, known.model)
        if record.value is None:
            return self._read_tombstone(record, envelope, known.model)
        handler = self._handlers.by_model.get(known.model)
        return self._read_body(record, envelope, handler) if handler else NotOurs(record)

    def _read_again(self, record: Record, envelope: Envelope, model: type[Message]) -> Reading[C]:
        """Take what is replayed: nothing old is followed, and a log is read in its own place."""
        handler, mark = self._handlers.by_model.get(model), mark_of(record.headers)
        if record.value is None or mark is None or handler is None or handler.kind not in REPLAYED:
            return NotOurs(record)
        return self._read_body(record, envelope, handler, mark)

    def _read_body(
        self, record: Record, envelope: Envelope, handler: Handler[C], mark: Mark | None = None
    ) -> Reading[C]:
        assert record.value is not None
        try:
            message = handler.model.decode(record.value)
        except ValidationError as error:
            places = sorted({".".join(map(str, e["loc"])) or "(body)" for e in error.errors()})
            reason = f"body does not fit: {', '.join(places)}"
            if handler.kind is Kind.COMMAND:
                return self._unreadable_command(record, envelope, handler, reason)
            return self._unreadable(record, envelope, reason)
        owner = getattr(message, "owner", None)
        if handler.kind is Kind.COMMAND and owner != self._handlers.service:
            return NotOurs(record)
        tenant_id = getattr(message, "tenant_id", None)
        return Arrived(record, envelope, handler, message, tenant_id, mark)

    def _read_tombstone(
        self, record: Record, envelope: Envelope, model: type[Message]
    ) -> Reading[C]:
        handler = self._handlers.forgetting.get(model)
        if handler is None:
            return NotOurs(record)
        try:
            tenant_id = UUID((record.key or b"").decode("ascii"))
        except ValueError:
            return self._unreadable(record, envelope, "tombstone without a tenant's key")
        return Arrived(record, envelope, handler, None, tenant_id)

    def _unreadable(self, record: Record, envelope: Envelope | None, reason: str) -> Unreadable:
        """Give a record up; whose it is its key still tells, so that it is erased with the tenant."""
        return Unreadable(
            record,
            Failure(
                "parser",
                reason,
                tenant_id=uuid_in(record.key) if record.topic in self._keyed_by_tenant else None,
                ce_id=envelope.id if envelope else None,
                type=envelope.type if envelope else None,
                kind=self._kinds.get(record.topic, Kind.EVENT),
            ),
        )

    def _unreadable_command(
        self, record: Record, envelope: Envelope, handler: Handler[C], reason: str
    ) -> Unreadable | NotOurs:
        told = command_in(record.value or b"")
        owner, purge_id, step = told.get("owner"), uuid_in(told.get("purge_id")), told.get("step")
        if owner in SERVICES and owner != self._handlers.service:
            return NotOurs(record)
        found = self._unreadable(record, envelope, reason)
        holds = isinstance(step, str) and _STEP.fullmatch(step) and not handler.nothing_waits
        return Unreadable(
            record,
            replace(found.failure, purge_id=purge_id, step=str(step) if holds else None),
        )


def command_of(reading: Reading[C]) -> tuple[UUID, str] | None:
    """Name the purge and step of a command behind which others wait, as far as it can be read."""
    match reading:
        case Arrived():
            return reading.command
        case Unreadable():
            return reading.failure.command
    return None
