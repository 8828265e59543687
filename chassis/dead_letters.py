"""Writes down what could not be dealt with, so that the rest can go on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from aiokafka import ConsumerRecord

from chassis.identifiers import uuid7
from chassis.unit_of_work import C, UnitOfWork

_INSERT = """
    INSERT INTO dead_letters (dead_letter_id, consumer, handler, topic, partition, record_offset,
                              tenant_id, ce_id, type, purge_id, record_key, headers, payload,
                              reason, error_type, fingerprint, attempts, first_failed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record is given up; never holds what the record says."""

    handler: str
    reason: str
    error_type: str | None = None
    attempts: int = 1
    tenant_id: UUID | None = None
    ce_id: UUID | None = None
    type: str | None = None
    purge_id: UUID | None = None

    def fingerprint(self) -> str:
        """Return what failures of one cause have in common."""
        parts = (self.handler, self.type or "", self.error_type or self.reason)
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _printable(headers: Sequence[tuple[str, bytes | None]]) -> list[list[str | None]]:
    # JSON keeps no raw bytes: latin-1 maps each to one character, and back. PostgreSQL's jsonb
    # refuses NUL, so that one is kept as its picture.
    return [
        [
            name.replace("\x00", "\u2400"),
            None if value is None else value.decode("latin-1").replace("\x00", "\u2400"),
        ]
        for name, value in headers
    ]


async def write(
    uow: UnitOfWork[C],
    consumer: str,
    record: "ConsumerRecord[bytes | None, bytes | None]",
    failure: Failure,
) -> None:
    """Keep a record with the reason for its failure, in the transaction that passes it by."""
    await uow.connection.execute(
        _INSERT,
        uuid7(uow.wall),
        consumer,
        failure.handler,
        record.topic,
        record.partition,
        record.offset,
        failure.tenant_id,
        failure.ce_id,
        failure.type,
        failure.purge_id,
        record.key,
        _printable(record.headers),
        record.value,
        failure.reason[:500],
        failure.error_type,
        failure.fingerprint(),
        failure.attempts,
        uow.now,
    )
