"""The ledger is applied before anything runs, in order, whole, or the service stops."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.epochs import ensure_epoch, mark_restated
from chassis.handlers import Handlers
from chassis.ledger import LedgerBrokenError, OnEntry, ledger_handlers
from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    LedgerHead,
    Restoration,
    RestoredEntry,
    UnsealedEntry,
    seal,
)
from tests.support.chassis import Sample

STEPS = {DataClass.CONTENT: "erase-sample", DataClass.ERRORS: "erase-sample"}
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass
class Chain:
    """A ledger as purger would write it."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    entries: list[LedgerEntry] = field(default_factory=list)

    def erased(self, tenant_id: UUID, *classes: DataClass) -> LedgerEntry:
        entry = seal(
            UnsealedEntry(
                number=len(self.entries) + 1,
                kind=EntryKind.TENANT_ERASED,
                at=NOW,
                purge_id=uuid4(),
                tenant_id=tenant_id,
                classes=classes or (DataClass.CONTENT, DataClass.ERRORS),
                previous_hash=self.entries[-1].hash if self.entries else GENESIS,
            ),
            self.key,
            "k",
        )
        self.entries.append(entry)
        return entry

    def restored(self) -> RestoredEntry:
        entry = seal(
            UnsealedEntry(
                number=len(self.entries) + 1,
                kind=EntryKind.RESTORED,
                at=NOW,
                purge_id=uuid4(),
                classes=(),
                previous_hash=self.entries[-1].hash,
                restoration=Restoration(service="purger", restored_at=NOW, counts={}),
            ),
            self.key,
            "k",
        )
        self.entries.append(entry)
        return RestoredEntry.decode(entry.encode())


def a_reader(on_entry: OnEntry[None] | None = None) -> Handlers[None]:
    return ledger_handlers("sample", STEPS, on_entry)


async def apply(sample: Sample, handlers: Handlers[None], entry: LedgerEntry | LedgerHead) -> None:
    async with sample.units().begin() as uow:
        await handlers.by_model[type(entry)].function(entry, uow)


async def guards(sample: Sample) -> set[tuple[UUID, str, int]]:
    rows = await sample.worker.fetch(
        "SELECT tenant_id, data_class, ledger_number FROM erased_tenants"
    )
    return {(row["tenant_id"], row["data_class"], row["ledger_number"]) for row in rows}


async def test_an_entry_sets_the_guard_for_own_classes_and_queues_one_erasure(
    sample: Sample,
) -> None:
    handlers, chain, tenant = a_reader(), Chain(), uuid4()
    entry = chain.erased(tenant, DataClass.CONTENT, DataClass.ERRORS, DataClass.TICKETS)
    await apply(sample, handlers, entry)
    assert await guards(sample) == {(tenant, "content", 1), (tenant, "errors", 1)}
    queued = await sample.worker.fetch("SELECT purge_id, step, classes FROM erasures")
    assert [tuple(row) for row in queued] == [
        (entry.purge_id, "erase-sample", ["content", "errors"])
    ]


async def test_an_entry_that_comes_again_changes_nothing(sample: Sample) -> None:
    handlers, chain = a_reader(), Chain()
    entry = chain.erased(uuid4())
    await apply(sample, handlers, entry)
    before = await sample.worker.fetch("SELECT * FROM erasures")
    await apply(sample, handlers, entry)
    assert await sample.worker.fetch("SELECT * FROM erasures") == before


async def test_a_gap_a_fork_and_a_changed_entry_are_refused(sample: Sample) -> None:
    handlers, chain = a_reader(), Chain()
    first, second, third = (chain.erased(uuid4()) for _ in range(3))
    await apply(sample, handlers, first)
    with pytest.raises(LedgerBrokenError, match="entry 2 is missing"):
        await apply(sample, handlers, third)
    fork = Chain(entries=[Chain().erased(uuid4())]).erased(uuid4())
    with pytest.raises(LedgerBrokenError, match="does not follow"):
        await apply(sample, handlers, fork)
    changed = second.model_copy(update={"tenant_id": uuid4()})
    with pytest.raises(LedgerBrokenError, match="not what its hash says"):
        await apply(sample, handlers, changed)
    await apply(sample, handlers, second)
    await apply(sample, handlers, third)
    assert await sample.worker.fetchval("SELECT applied_number FROM ledger_reader") == 3


async def test_a_new_database_may_begin_where_the_topic_begins(sample: Sample) -> None:
    handlers, chain = a_reader(), Chain()
    chain.erased(uuid4())
    await apply(sample, handlers, LedgerHead(number=2, hash=GENESIS, cluster_id="c", at=NOW))
    await apply(sample, handlers, chain.erased(uuid4()))
    assert await sample.worker.fetchval("SELECT applied_number FROM ledger_reader") == 2


async def test_what_a_service_does_besides_is_in_the_same_transaction(sample: Sample) -> None:
    async def fail(entry: LedgerEntry, uow: object) -> None:
        raise RuntimeError

    handlers = a_reader(fail)
    with pytest.raises(RuntimeError):
        await apply(sample, handlers, Chain().erased(uuid4()))
    assert await guards(sample) == set()
    assert await sample.worker.fetchval("SELECT count(*) FROM ledger_reader") == 0


async def test_two_readers_at_once_apply_an_entry_once(sample: Sample) -> None:
    handlers, entry = a_reader(), Chain().erased(uuid4())
    await asyncio.gather(*(apply(sample, handlers, entry) for _ in range(4)))
    assert await sample.worker.fetchval("SELECT count(*) FROM erasures") == 1


async def test_what_is_erased_after_a_restore_is_told_as_brought_back(sample: Sample) -> None:
    handlers, chain = a_reader(), Chain()
    await apply(sample, handlers, chain.erased(uuid4()))
    async with sample.worker.acquire() as connection:
        opened = await ensure_epoch(connection, wall=NOW, force=True)
    await apply(sample, handlers, chain.erased(uuid4()))
    async with sample.worker.acquire() as connection:
        await mark_restated(connection, opened, wall=NOW)
    await apply(sample, handlers, chain.erased(uuid4()))
    rows = await sample.worker.fetch("SELECT restored_at FROM erasures ORDER BY ledger_number")
    assert [row["restored_at"] for row in rows] == [None, NOW, None]


async def test_that_a_database_was_restored_erases_nobody(sample: Sample) -> None:
    handlers, chain = a_reader(), Chain()
    await apply(sample, handlers, chain.erased(uuid4()))
    await apply(sample, handlers, chain.restored())
    await apply(sample, handlers, chain.erased(uuid4()))
    assert await sample.worker.fetchval("SELECT count(*) FROM erasures") == 2
    assert await sample.worker.fetchval("SELECT applied_number FROM ledger_reader") == 3
