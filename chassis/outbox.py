"""Collects what a transaction has to say, and writes it down with the rest of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from chassis.identifiers import uuid7
from chassis.tracing import current_traceparent
from contracts.envelope import Envelope, to_text_headers
from contracts.messages import Kind, Message
from contracts.registry import MessageType, by_name, ce_source, key_of, topic_of, types_of
from contracts.topics import Topic

# Kafka's default limit for one record is 1 MiB with headers. A larger one would block its
# partition in the relay for ever, so it is refused where it is written.
MAX_PAYLOAD_BYTES = 900_000

_INSERT = """
    INSERT INTO outbox (written_at, epoch, topic, kind, record_key, tenant_id, ce_id, type,
                        headers, payload, data_class)
    SELECT $1, (SELECT max(epoch) FROM relay_epochs), row.topic, row.kind, row.record_key,
           row.tenant_id, row.ce_id, row.type, row.headers::jsonb, row.payload, row.data_class
      FROM unnest($2::text[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::text[],
                  $8::text[], $9::bytea[], $10::text[])
           WITH ORDINALITY AS row(topic, kind, record_key, tenant_id, ce_id, type, headers,
                                  payload, data_class, nth)
     ORDER BY row.nth
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message as it will lie in the outbox."""

    topic: str
    kind: Kind
    record_key: str
    tenant_id: UUID | None
    ce_id: UUID
    type: str
    headers: str
    payload: bytes | None
    data_class: str


@dataclass(frozen=True, slots=True)
class Cause:
    """The message because of which something is said, and the trace that goes on with it."""

    causation: UUID | None = None
    correlation: str | None = None
    traceparent: str | None = None


def _only_type(model: type[Message]) -> MessageType:
    found = types_of(model)
    if len(found) != 1:
        raise ValueError(f"{model.__name__} is the body of {len(found)} types: name the one meant")
    return found[0]


@dataclass(slots=True)
class Outbox:
    """What one transaction says; the rows are written in one statement at its end."""

    service: str
    now: datetime
    wall: datetime
    causation: UUID | None = None
    correlation: str | None = None
    rows: list[OutboxRow] = field(default_factory=list)
    # Where messages about many tenants are dealt with at once: why something is said of each.
    causes: Mapping[UUID | None, Cause] = field(default_factory=dict)

    def cause_of(self, tenant_id: UUID | None) -> Cause:
        """Tell because of what something is done about a tenant now, and in which trace."""
        return self.causes.get(tenant_id) or Cause(
            self.causation, self.correlation, current_traceparent()
        )

    def add(self, message: Message, *, type_name: str | None = None) -> UUID:
        """Say a message when the transaction commits; return its CloudEvents id.

        ``type_name`` is needed where one model is the body of several types. Raises ValueError
        for a message that Kafka would refuse for its size.
        """
        kind_of = by_name(type_name) if type_name else _only_type(type(message))
        topic = topic_of(type(message), self.service)
        payload = message.encode()
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(
                f"a {kind_of.name} of {len(payload)} bytes is over the limit of "
                f"{MAX_PAYLOAD_BYTES}: split it before it is said"
            )
        tenant_id: UUID | None = getattr(message, "tenant_id", None)
        return self._append(kind_of, topic, key_of(message, topic), tenant_id, payload)

    def tombstone(self, state: type[Message], key: UUID | str) -> UUID:
        """Say on a state's topic that there is nothing left to know of a tenant, or of another key."""
        kind_of = types_of(state)[0]
        tenant_id = key if isinstance(key, UUID) else None
        return self._append(kind_of, kind_of.topics[0], str(key), tenant_id, None)

    def _append(
        self,
        kind_of: MessageType,
        topic: Topic,
        key: str,
        tenant_id: UUID | None,
        payload: bytes | None,
    ) -> UUID:
        ce_id = uuid7(self.wall)
        cause = self.cause_of(tenant_id)
        envelope = Envelope(
            id=ce_id,
            source=ce_source(self.service),
            type=kind_of.ce_type,
            time=self.now,
            subject=str(tenant_id) if tenant_id else None,
            partitionkey=key,
            dataschema=kind_of.dataschema,
            traceparent=cause.traceparent,
            causationid=str(cause.causation) if cause.causation else None,
            correlationid=cause.correlation,
        )
        self.rows.append(
            OutboxRow(
                topic=topic.name,
                kind=topic.kind,
                record_key=key,
                tenant_id=tenant_id,
                ce_id=ce_id,
                type=kind_of.ce_type,
                headers=json.dumps(to_text_headers(envelope)),
                payload=payload,
                data_class=topic.erases_as,
            )
        )
        return ce_id

    async def flush(self, connection: Connection) -> bool:
        """Write the collected rows in the order in which they were said; True if there were any."""
        if not self.rows:
            return False
        await write_rows(connection, self.rows, wall=self.wall)
        self.rows.clear()
        return True


async def write_rows(connection: Connection, rows: Sequence[OutboxRow], *, wall: datetime) -> None:
    """Insert outbox rows under the present epoch, partitioned by the wall clock's day."""
    await connection.execute(
        _INSERT,
        wall,
        [row.topic for row in rows],
        [row.kind for row in rows],
        [row.record_key for row in rows],
        [row.tenant_id for row in rows],
        [row.ce_id for row in rows],
        [row.type for row in rows],
        [row.headers for row in rows],
        [row.payload for row in rows],
        [row.data_class for row in rows],
    )
