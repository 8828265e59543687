"""Writes down what could not be dealt with, and what waits behind it, so that the rest can go on."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

from aiokafka import ConsumerRecord

from chassis.identifiers import uuid7
from chassis.unit_of_work import C, UnitOfWork
from contracts.messages import Kind

_INSERT = """
    INSERT INTO dead_letters (dead_letter_id, consumer, handler, topic, partition, record_offset,
                              tenant_id, ce_id, type, purge_id, record_key, headers, payload,
                              reason, error_type, fingerprint, attempts, first_failed_at, kind,
                              step, state)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
            $20, $21)
"""
_LONGEST_REASON: Final = 500


class State(StrEnum):
    """What has become of a dead letter."""

    OPEN = "open"
    """Nobody has settled it."""
    PARKED = "parked"
    """It did not fail: it waits behind an earlier command of its purge."""
    REDRIVING = "redriving"
    """It is to be tried again, within seconds."""
    REDRIVEN = "redriven"
    OVERTAKEN = "overtaken"
    """A newer state of its key was followed, or the same command came again and was obeyed."""
    DISCARDED = "discarded"


UNSETTLED: Final = (State.OPEN, State.PARKED, State.REDRIVING)

# Word for word as the index of the unsettled has it, or PostgreSQL would read all letters.
IS_UNSETTLED: Final = "state IN ('open', 'parked', 'redriving')"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record is given up; never holds what the record says.

    ``step`` is there for a command behind which later ones of its purge wait.
    """

    handler: str
    reason: str
    error_type: str | None = None
    attempts: int = 1
    tenant_id: UUID | None = None
    ce_id: UUID | None = None
    type: str | None = None
    purge_id: UUID | None = None
    step: str | None = None
    kind: Kind = Kind.EVENT

    def fingerprint(self) -> str:
        """Return what failures of one cause have in common."""
        parts = (self.handler, self.type or "", self.error_type or self.reason)
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]

    @property
    def command(self) -> tuple[UUID, str] | None:
        """The command behind which others wait, where it is one."""
        return (self.purge_id, self.step) if self.purge_id and self.step else None


@dataclass(slots=True)
class Held:
    """The commands of some purges that are not settled: of each purge the steps, in their order."""

    steps: dict[UUID, list[str]] = field(default_factory=dict)

    def must_wait(self, purge_id: UUID, step: str) -> bool:
        """Whether a command comes behind another; the first itself, issued again, does not."""
        return self.steps.get(purge_id, [step])[0] != step

    def knows(self, command: tuple[UUID, str] | None) -> bool:
        """Whether this command is written down already."""
        return command is not None and command[1] in self.steps.get(command[0], ())

    def add(self, command: tuple[UUID, str]) -> None:
        """Put a command that is being written down behind the others of its purge."""
        self.steps.setdefault(command[0], []).append(command[1])


async def held(uow: UnitOfWork[C], consumer: str, purge_ids: Collection[UUID]) -> Held:
    """Read which commands of these purges wait for a person."""
    if not purge_ids:
        return Held()
    rows = await uow.connection.fetch(
        f"""
        SELECT purge_id, array_agg(step ORDER BY number) AS steps
          FROM dead_letters
         WHERE consumer = $1 AND kind = 'command' AND {IS_UNSETTLED}
           AND step IS NOT NULL AND purge_id = ANY($2::uuid[])
         GROUP BY purge_id
        """,  # noqa: S608 - made of constants
        consumer,
        list(purge_ids),
    )
    return Held({row["purge_id"]: row["steps"] for row in rows})


async def write(
    uow: UnitOfWork[C],
    consumer: str,
    record: "ConsumerRecord[bytes | None, bytes | None]",
    failure: Failure,
    *,
    state: State = State.OPEN,
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
        failure.reason[:_LONGEST_REASON],
        failure.error_type,
        failure.fingerprint(),
        failure.attempts,
        uow.now,
        failure.kind,
        failure.step,
        state,
    )


async def count_again(uow: UnitOfWork[C], consumer: str, failure: Failure) -> None:
    """Note that a command which is written down already came again, and failed once more or waits."""
    await uow.connection.execute(
        f"""
        UPDATE dead_letters
           SET attempts = attempts + $4
         WHERE consumer = $1 AND kind = 'command' AND {IS_UNSETTLED}
           AND purge_id = $2 AND step = $3
        """,  # noqa: S608 - made of constants
        consumer,
        failure.purge_id,
        failure.step,
        failure.attempts,
    )


async def overtake_states(
    uow: UnitOfWork[C], consumer: str, keys: Iterable[tuple[str, bytes | None]]
) -> None:
    """Settle the dead letters of states, by topic and key, of which a newer one was followed."""
    topics, record_keys = zip(*keys, strict=True)
    await uow.connection.execute(
        """
        UPDATE dead_letters d
           SET state = 'overtaken', outcome = 'a newer version was followed', settled_at = $2
          FROM unnest($3::text[], $4::bytea[]) AS k(topic, record_key)
         WHERE d.consumer = $1 AND d.kind = 'state' AND d.state = 'open'
           AND (d.topic, d.record_key) = (k.topic, k.record_key)
        """,
        consumer,
        uow.now,
        list(topics),
        list(record_keys),
    )


async def overtake_commands(
    uow: UnitOfWork[C], consumer: str, commands: Sequence[tuple[UUID, str]]
) -> None:
    """Settle the dead letters of commands that came again and were obeyed."""
    await uow.connection.execute(
        f"""
        UPDATE dead_letters d
           SET state = 'overtaken', outcome = 'came again and was obeyed', settled_at = $2
          FROM unnest($3::uuid[], $4::text[]) AS c(purge_id, step)
         WHERE d.consumer = $1 AND d.kind = 'command' AND d.{IS_UNSETTLED}
           AND (d.purge_id, d.step) = (c.purge_id, c.step)
        """,  # noqa: S608 - made of constants
        consumer,
        uow.now,
        [purge_id for purge_id, _ in commands],
        [step for _, step in commands],
    )


def command_in(body: bytes) -> dict[str, object]:
    """Read what can be read of a command whose body does not fit: purge, step, tenant, owner.

    By them it is known whom it is for, and what has to wait behind it.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def uuid_in(value: object) -> UUID | None:
    """Read an id from a text or from bytes; None for what is none."""
    try:
        text = value.decode("ascii") if isinstance(value, bytes) else value
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _printable(headers: Sequence[tuple[str, bytes | None]]) -> list[list[str | None]]:
    # JSON keeps no raw bytes: latin-1 maps each to one character, and back. PostgreSQL's jsonb
    # refuses NUL, so that one is kept as its picture.
    return [
        [
            name.replace("\x00", _PICTURE_OF_NUL),
            None if value is None else value.decode("latin-1").replace("\x00", _PICTURE_OF_NUL),
        ]
        for name, value in headers
    ]


def headers_of(kept: Sequence[Sequence[str]]) -> list[tuple[str, bytes | None]]:
    """Give a record's headers back as they came."""
    return [
        (
            name.replace(_PICTURE_OF_NUL, "\x00"),
            None if value is None else value.replace(_PICTURE_OF_NUL, "\x00").encode("latin-1"),
        )
        for name, value in kept
    ]


_PICTURE_OF_NUL: Final = "\u2400"
