"""Applies the ledger of erasures before anything else runs, so that a restore brings nobody back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.broker import KafkaAccess
from chassis.database import TRANSIENT_ERRORS, Pool
from chassis.epochs import behind_since
from chassis.erasure import ErasureOrder, accept_erasures
from chassis.handlers import Handlers, Together, together
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    LedgerHead,
    RestoredEntry,
    entry_hash,
)
from contracts.topics import PURGER_LEDGER

log = structlog.get_logger(__name__)

C = TypeVar("C")

Step = Mapping[DataClass, str]
OnEntry = Callable[[LedgerEntry, UnitOfWork[C]], Awaitable[object]]


class LedgerBrokenError(Exception):
    """The ledger as it arrived cannot be the one that purger wrote; the service must stop."""


def ledger_handlers(service: str, steps: Step, on_entry: OnEntry[C] | None = None) -> Handlers[C]:
    """Return what a service does about the ledger.

    ``steps`` names the owner's step for each class that it owns: the names under which purger
    asks for the same erasure, so that log and command are one order. ``on_entry`` is what the
    service does besides.
    """
    handlers: Handlers[C] = Handlers(service)

    @handlers.reads(RestoredEntry)
    @handlers.reads(LedgerEntry)
    @together
    async def apply_entries(entries: Sequence[LedgerEntry], uow: UnitOfWork[C]) -> None:
        """Set the guards and queue the erasures of entries that are next; others are known."""
        applied = await uow.connection.fetchrow(
            "SELECT applied_number, applied_hash FROM ledger_reader FOR UPDATE"
        )
        following = _following(entries, tuple(applied) if applied is not None else None)
        if not following:
            return
        orders = [order for entry in following for order in _orders_of(entry, steps)]
        if orders:
            restored_at = await behind_since(uow.connection)
            orders = [replace(order, restored_at=restored_at) for order in orders]
            await accept_erasures(uow, orders, answer_again=False)
        if isinstance(on_entry, Together):
            await on_entry.all(following, uow)
        elif on_entry is not None:
            for entry in following:
                await on_entry(entry, uow)
        await uow.connection.execute(
            """
            INSERT INTO ledger_reader (applied_number, applied_hash, cluster_id, head_number)
            VALUES ($1, $2, '', 0)
            ON CONFLICT (id) DO UPDATE
               SET applied_number = excluded.applied_number, applied_hash = excluded.applied_hash
            """,
            following[-1].number,
            following[-1].hash,
        )

    @handlers.reads(LedgerHead)
    async def note_head(head: LedgerHead, uow: UnitOfWork[C]) -> None:
        """Remember how long the ledger is in which Kafka cluster."""
        await uow.connection.execute(
            """
            INSERT INTO ledger_reader (applied_number, applied_hash, cluster_id, head_number)
            VALUES (0, $3, $1, $2)
            ON CONFLICT (id) DO UPDATE
               SET cluster_id = excluded.cluster_id, head_number = excluded.head_number
            """,
            head.cluster_id,
            head.number,
            GENESIS,
        )

    return handlers


def _following(
    entries: Sequence[LedgerEntry], applied: tuple[int, str] | None
) -> list[LedgerEntry]:
    """List the entries that follow what was applied; what was applied already is left out."""
    following: list[LedgerEntry] = []
    for entry in entries:
        if applied is None or entry.number > applied[0]:
            _require_next(entry, applied)
            following.append(entry)
            applied = (entry.number, entry.hash)
    return following


def _require_next(entry: LedgerEntry, applied: tuple[int, str] | None) -> None:
    """Refuse a gap, a fork and a changed entry.

    A database that has applied nothing may begin in the middle: what the topic no longer holds
    is older than anything that it can contain.
    """
    if entry.hash != entry_hash(entry):
        raise LedgerBrokenError(f"ledger entry {entry.number} is not what its hash says")
    if applied is None or applied[0] == 0:
        return
    number, previous_hash = applied
    if entry.number != number + 1:
        raise LedgerBrokenError(
            f"ledger entry {number + 1} is missing, {entry.number} came: this database is older"
            " than the topic's retention, restore a younger one"
        )
    if entry.previous_hash != previous_hash:
        raise LedgerBrokenError(f"ledger entry {entry.number} does not follow the one applied")


def _orders_of(entry: LedgerEntry, steps: Step) -> list[ErasureOrder]:
    if entry.kind is not EntryKind.TENANT_ERASED:
        return []
    assert entry.tenant_id is not None
    by_step: dict[str, list[DataClass]] = {}
    for data_class in entry.classes:
        if data_class in steps:
            by_step.setdefault(steps[data_class], []).append(data_class)
    return [
        ErasureOrder(
            purge_id=entry.purge_id,
            step=step,
            tenant_id=entry.tenant_id,
            classes=tuple(classes),
            ledger_number=entry.number,
            receipt_code=entry.receipt_code,
        )
        for step, classes in by_step.items()
    ]


async def wait_until_applied(
    pool: Pool, kafka: KafkaAccess, *, consumer: str, cluster_id: str, pause_seconds: float = 0.05
) -> int:
    """Return the applied number once all that the ledger held at our start has been applied.

    That is: our position has reached the end that the topic had when we came, and a head of this
    very cluster is among it and covered. Until then nothing else of the service may run.
    """
    end = await _end_of_ledger(kafka)
    said = False
    while True:
        try:
            row = await pool.fetchrow(
                """
                SELECT r.applied_number
                  FROM ledger_reader r
                  JOIN positions p ON p.consumer = $1 AND p.topic = $2 AND p.partition = 0
                                  AND p.cluster_id = $3
                 WHERE r.cluster_id = $3
                   AND r.applied_number >= r.head_number
                   AND p.next_offset >= $4
                """,
                consumer,
                PURGER_LEDGER.name,
                cluster_id,
                end,
            )
        except TRANSIENT_ERRORS:
            row = None
        if row is not None:
            return int(row["applied_number"])
        if not said:
            log.info("waiting for the head of the ledger", end_offset=end)
            said = True
        await asyncio.sleep(pause_seconds)


async def _end_of_ledger(kafka: KafkaAccess) -> int:
    partition = TopicPartition(PURGER_LEDGER.name, 0)
    consumer = AIOKafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([partition])
        return int(ends[partition])
    finally:
        await consumer.stop()
