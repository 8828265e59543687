"""The consumer on a real broker: nothing lost, nothing done twice, nothing skipped unwritten."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.handlers import DeadLetter, Handlers, Retry, together
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.envelope import to_headers
from contracts.messages import Kind
from contracts.purges import PurgeAccepted, PurgeRefused, PurgeStarted
from contracts.tenants import TenantState
from contracts.topics import INSTALLER_ERASURES, INSTALLER_TENANTS, PURGER_COMMANDS
from devstack.postgres import dump, provision, restore, start_postgres
from tests.support.bus import (
    QUICK,
    MakeBus,
    a_command,
    an_envelope,
    an_event,
    eventually,
    reached,
)
from tests.support.chassis import Sample, a_tenant, sample_of, suppressed

Do = Callable[[Any, UnitOfWork[None]], Awaitable[Any]]


def recording(seen: list[Any], service: str = "installer") -> Handlers[None]:
    handlers: Handlers[None] = Handlers(service)

    @handlers.hears(PurgeAccepted)
    async def note_event(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        seen.append(message)

    @handlers.obeys(PurgeStarted)
    async def note_command(message: PurgeStarted, uow: UnitOfWork[None]) -> None:
        seen.append(message)

    @handlers.follows(TenantState)
    async def note_state(message: TenantState, uow: UnitOfWork[None]) -> None:
        seen.append(message)

    @handlers.forgets(TenantState)
    async def forget(tenant_id: UUID, uow: UnitOfWork[None]) -> None:
        seen.append(tenant_id)

    return handlers


def hearing(function: Do, *, writes: DataClass | None = None) -> Handlers[None]:
    handlers: Handlers[None] = Handlers("installer")
    handlers.hears(PurgeAccepted, writes=writes)(function)
    return handlers


# -- together ----------------------------------------------------------------------------------


async def test_a_handler_takes_a_batch_together_and_what_it_says_of_each_has_its_own_cause(
    bus_of: MakeBus,
) -> None:
    bus, taken = await bus_of(INSTALLER_ERASURES), list[list[PurgeAccepted]]()
    events = {uuid4(): an_event() for _ in range(3)}
    for ce_id, event in events.items():
        await bus.say(event, "purge-accepted", ce_id=ce_id)

    @together
    async def take(messages: Sequence[PurgeAccepted], uow: UnitOfWork[None]) -> None:
        taken.append(list(messages))
        for message in messages:
            uow.outbox.add(message)

    async with bus.consumer(hearing(take)):
        await reached(bus, 3)
    assert taken == [list(events.values())]
    rows = await bus.sample.worker.fetch("SELECT tenant_id, headers FROM outbox")
    causes = {row["tenant_id"]: row["headers"] for row in rows}
    for ce_id, event in events.items():
        headers = dict(causes[event.tenant_id])
        assert headers["ce_causationid"] == headers["ce_correlationid"] == str(ce_id)


async def test_a_batch_taken_together_fails_for_the_message_that_is_to_blame_alone(
    bus_of: MakeBus,
) -> None:
    bus, done = await bus_of(INSTALLER_ERASURES), list[UUID]()
    good, bad, better = an_event(), an_event(), an_event()
    for event in (good, bad, better):
        await bus.say(event, "purge-accepted")

    @together
    async def take(messages: Sequence[PurgeAccepted], uow: UnitOfWork[None]) -> DeadLetter | None:
        if bad in messages:
            return DeadLetter("bad")
        done.extend(message.tenant_id for message in messages)
        return None

    async with bus.consumer(hearing(take)):
        await reached(bus, 3)
    assert done == [good.tenant_id, better.tenant_id]
    [letter] = await bus.dead_letters()
    assert (letter["tenant_id"], letter["reason"]) == (bad.tenant_id, "bad")


async def test_messages_of_one_tenant_keep_their_order_whichever_are_taken_together(
    bus_of: MakeBus,
) -> None:
    bus, taken = await bus_of(INSTALLER_ERASURES), list[Any]()
    first, again = an_event(), an_event()
    again = again.model_copy(update={"tenant_id": first.tenant_id})
    other = an_event()
    refused = PurgeRefused(
        purge_id=first.purge_id,
        step="accept",
        tenant_id=first.tenant_id,
        tenant_version=first.tenant_version,
        reason="newer-state",
        refused_at=first.accepted_at,
    )
    for message, name in (
        (first, "purge-accepted"),
        (refused, "purge-refused"),
        (again, "purge-accepted"),
        (other, "purge-accepted"),
    ):
        await bus.say(message, name)

    @together
    async def accept(messages: Sequence[PurgeAccepted], uow: UnitOfWork[None]) -> None:
        taken.append(list(messages))

    async def refuse(message: PurgeRefused, uow: UnitOfWork[None]) -> None:
        taken.append(message)

    handlers = hearing(accept)
    handlers.hears(PurgeRefused)(refuse)
    async with bus.consumer(handlers):
        await reached(bus, 4)
    assert taken == [[first], refused, [again, other]]


# -- once, in order, from the right place ------------------------------------------------------


async def test_an_event_that_comes_twice_is_handled_once(bus_of: MakeBus) -> None:
    bus, seen = await bus_of(INSTALLER_ERASURES), list[Any]()
    ce_id, event = uuid4(), an_event()
    await bus.say(event, "purge-accepted", ce_id=ce_id)
    await bus.say(event, "purge-accepted", ce_id=ce_id)
    async with bus.consumer(recording(seen)):
        await reached(bus, 2)
        await bus.say(event, "purge-accepted", ce_id=ce_id)
        await reached(bus, 3)
    assert seen == [event]


async def test_an_answer_to_an_erasure_leaves_no_mark_of_the_tenant(bus_of: MakeBus) -> None:
    """It can come again after the tenant is forgotten, when nobody would take the mark away."""
    bus = await bus_of(INSTALLER_ERASURES)
    ce_id = uuid4()
    await bus.say(an_event(), "purge-accepted", ce_id=ce_id)
    async with bus.consumer(recording([])):
        await reached(bus, 1)
    marks = await bus.sample.worker.fetch("SELECT ce_id, tenant_id FROM inbox")
    assert [tuple(mark) for mark in marks] == [(ce_id, None)]


async def test_a_command_that_comes_twice_is_handled_twice_and_one_for_another_is_not_ours(
    bus_of: MakeBus,
) -> None:
    bus, seen = await bus_of(PURGER_COMMANDS), list[Any]()
    ours, theirs = a_command(), a_command(owner="config")
    for command in (ours, theirs, ours):
        await bus.say(command, "purge-started")
    async with bus.consumer(recording(seen)):
        await reached(bus, 3)
    assert seen == [ours, ours]
    assert await bus.dead_letters() == []


async def test_a_state_that_was_passed_is_ignored_in_a_batch_and_across_batches(
    bus_of: MakeBus,
) -> None:
    bus, seen = await bus_of(INSTALLER_TENANTS), list[Any]()
    tenant = uuid4()
    third, fourth = a_tenant(tenant_id=tenant, n=3), a_tenant(tenant_id=tenant, n=4)
    newer_epoch = a_tenant(tenant_id=tenant, n=1, epoch=2)
    async with bus.consumer(recording(seen)):
        await bus.say(third, "tenant-installed")
        await reached(bus, 1)
        await bus.say(a_tenant(tenant_id=tenant, n=2), "tenant-updated")
        await bus.say(third, "tenant-updated")
        await reached(bus, 3)
        await bus.say(fourth, "tenant-updated")
        await reached(bus, 4)
        await bus.say(newer_epoch, "tenant-updated")
        await reached(bus, 5)
        await bus.say(fourth, "tenant-updated")
        await reached(bus, 6)
    assert seen == [third, fourth, newer_epoch]


async def test_of_the_states_in_one_batch_the_highest_version_counts_whichever_came_last(
    bus_of: MakeBus,
) -> None:
    """A relay in doubt says again what it said, so an older version can follow a newer one."""
    bus, seen, tenant = await bus_of(INSTALLER_TENANTS), list[Any](), uuid4()
    third, fourth = a_tenant(tenant_id=tenant, n=3), a_tenant(tenant_id=tenant, n=4)
    for state in (third, fourth, third):
        await bus.say(state, "tenant-updated")
    async with bus.consumer(recording(seen)):
        await reached(bus, 3)
    assert seen == [fourth]


async def test_a_tombstone_makes_the_tenant_forgotten(bus_of: MakeBus) -> None:
    bus, seen, tenant = await bus_of(INSTALLER_TENANTS), list[Any](), uuid4()
    await bus.sample.worker.execute(
        "INSERT INTO inbox VALUES ('c', $1, $2, $3)", uuid4(), tenant, datetime.now(UTC)
    )
    headers = to_headers(an_envelope("tenant-updated"))
    await bus.raw(None, headers, key=str(tenant).encode())
    await bus.raw(None, headers, key=b"nobody")
    async with bus.consumer(recording(seen)):
        await reached(bus, 2)
    assert seen == [tenant]
    assert await bus.sample.worker.fetchval("SELECT count(*) FROM inbox") == 0
    assert [letter["reason"] for letter in await bus.dead_letters()] == [
        "tombstone without a tenant's key"
    ]


async def test_a_message_of_an_erased_tenant_is_dropped_for_a_handler_that_writes_that_class(
    bus_of: MakeBus, sample: Sample
) -> None:
    bus, seen, erased = await bus_of(INSTALLER_ERASURES), list[Any](), uuid4()
    await sample.worker.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'content', 1, $2, $3)",
        erased,
        uuid4(),
        datetime.now(UTC),
    )

    async def write(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        seen.append(message.tenant_id)

    living = uuid4()
    for tenant in (erased, living):
        await bus.say(an_event(tenant), "purge-accepted")
    async with bus.consumer(hearing(write, writes=DataClass.CONTENT)) as consumer:
        await reached(bus, 2)
        assert suppressed(consumer._units) == {("consumer", "content"): 1}
    assert seen == [living]


async def test_position_rows_and_outbox_commit_together_or_not_at_all(
    bus_of: MakeBus, sample: Sample
) -> None:
    bus, attempts = await bus_of(INSTALLER_ERASURES), list[int]()
    event = an_event()

    async def answer(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        attempts.append(1)
        uow.outbox.add(a_tenant(tenant_id=message.tenant_id), type_name="tenant-updated")
        if len(attempts) == 1:
            raise ConnectionResetError  # as if the database went away in the middle
        assert await bus.position() == 0  # seen from another connection

    await bus.say(event, "purge-accepted")
    async with bus.consumer(hearing(answer)):
        await reached(bus, 1)
    rows = await sample.worker.fetch(
        "SELECT type FROM outbox WHERE tenant_id = $1", event.tenant_id
    )
    assert len(attempts) == 2
    assert [row["type"] for row in rows] == ["keepword.tenant-updated.v1"]


async def test_a_database_restored_into_a_fresh_cluster_reads_again_what_it_lost(
    bus_of: MakeBus, sample: Sample, tmp_path: Path
) -> None:
    """Kafka's own committed offset is ahead; the restored position is the truth."""
    bus, seen = await bus_of(INSTALLER_ERASURES), list[Any]()
    events = [an_event() for _ in range(5)]
    for event in events[:2]:
        await bus.say(event, "purge-accepted")
    async with bus.consumer(recording(seen)):
        await reached(bus, 2)
        backup = await dump(sample.roles.backup_url)
        for event in events[2:]:
            await bus.say(event, "purge-accepted")
        await reached(bus, 5)

    fresh = await asyncio.to_thread(start_postgres, tmp_path / "fresh")
    try:
        roles = await provision(fresh.superuser_url(), ["sample"], folder=tmp_path)
        await restore(fresh.superuser_url("sample"), backup)
        async with sample_of(roles["sample"]) as restored:
            again = replace(bus, sample=restored)
            assert await again.position() == 2
            async with again.consumer(recording(seen)):
                await reached(again, 5)
    finally:
        fresh.stop()
    assert seen == [*events, *events[2:]]


async def test_in_another_kafka_cluster_a_topic_is_read_from_its_beginning(bus_of: MakeBus) -> None:
    bus, seen = await bus_of(INSTALLER_TENANTS), list[Any]()
    await bus.say(a_tenant(n=1), "tenant-installed")
    async with bus.consumer(recording(seen)):
        await reached(bus, 1)
    await bus.say(a_tenant(n=1), "tenant-installed")
    async with bus.consumer(recording(seen), cluster_id="there"):
        await reached(bus, 2)
    assert len(seen) == 2


# -- poison ------------------------------------------------------------------------------------


async def test_bad_null_and_foreign_headers_skip_nothing_without_a_dead_letter(
    bus_of: MakeBus,
) -> None:
    """FastStream's own parser raises on these where nothing rewinds: skipped, committed past."""
    bus, seen, good = await bus_of(INSTALLER_ERASURES), list[Any](), an_event()
    fine = to_headers(an_envelope("purge-accepted"))
    await bus.raw(good.encode(), [*fine, ("foreign", b"\xff\xfe"), ("empty", None)])
    await bus.raw(good.encode(), [("ce_id", None), ("ce_type", b"\xff")])
    await bus.raw(good.encode(), [])
    await bus.raw(b"{not json", to_headers(an_envelope("purge-accepted")))
    await bus.raw(b'{"purge_id": 5}', to_headers(an_envelope("purge-accepted")))
    await bus.raw(b"\x00" * 10, to_headers(an_envelope("purge-accepted")))
    without_type = [h for h in to_headers(an_envelope("purge-accepted")) if h[0] != "content-type"]
    await bus.raw(b"1", without_type)
    await bus.raw(good.encode(), [(n, v) for n, v in without_type])
    async with bus.consumer(recording(seen)):
        await reached(bus, 8)
    assert seen == [good, good]
    letters = await bus.dead_letters()
    assert [letter["record_offset"] for letter in letters] == [1, 2, 3, 4, 5, 6]
    assert letters[2]["payload"] == b"{not json"
    assert json.dumps(letters[0]["headers"])
    assert "{not json" not in "".join(letter["reason"] for letter in letters)


async def test_a_type_that_nobody_knows_is_passed_by(bus_of: MakeBus) -> None:
    bus, seen = await bus_of(INSTALLER_ERASURES), list[Any]()
    headers = [
        (n, b"keepword.invented.v9" if n == "ce_type" else v)
        for n, v in to_headers(an_envelope("purge-accepted"))
    ]
    await bus.raw(b"{}", headers)
    async with bus.consumer(recording(seen)):
        await reached(bus, 1)
    assert seen == []
    assert await bus.dead_letters() == []


async def test_a_handler_that_always_fails_is_tried_a_bounded_number_of_times_and_written_down(
    bus_of: MakeBus,
) -> None:
    """A nack without bounds delivers one record hundreds of times a second, for ever."""
    bus, calls, seen = await bus_of(INSTALLER_ERASURES), list[UUID](), list[UUID]()
    good, bad = an_event(), an_event()

    async def fail(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        if message.purge_id == bad.purge_id:
            calls.append(message.purge_id)
            raise RuntimeError("eve@example.com")
        seen.append(message.purge_id)

    await bus.say(bad, "purge-accepted")
    await bus.say(good, "purge-accepted")
    async with bus.consumer(hearing(fail), retries=replace(QUICK, attempts=3)):
        await reached(bus, 2)
    letters = await bus.dead_letters()
    assert seen[-1:] == [good.purge_id]
    assert len(calls) == 4  # once in the batch, three times alone
    assert [(x["attempts"], x["reason"], x["error_type"]) for x in letters] == [
        (3, "handler raised RuntimeError", "RuntimeError")
    ]
    assert letters[0]["payload"] == bad.encode()
    assert letters[0]["purge_id"] == bad.purge_id


async def test_outcomes_are_values(bus_of: MakeBus) -> None:
    bus, calls = await bus_of(INSTALLER_ERASURES), list[str]()

    async def decide(message: PurgeAccepted, uow: UnitOfWork[None]) -> Retry | DeadLetter:
        calls.append(message.step)
        if message.step == "never":
            return DeadLetter("cannot be")
        return Retry(timedelta(milliseconds=1), "tenant not known yet")

    await bus.say(an_event(step="never"), "purge-accepted")
    await bus.say(an_event(step="later"), "purge-accepted")
    async with bus.consumer(hearing(decide)):
        await reached(bus, 2)
    assert [x["reason"] for x in await bus.dead_letters()] == [
        "cannot be",
        "still not possible: tenant not known yet",
    ]
    assert calls.count("later") == 2


async def test_when_nearly_everything_fails_the_consumer_halts_before_it_passes_more_by(
    bus_of: MakeBus,
) -> None:
    bus = await bus_of(INSTALLER_ERASURES)

    async def fail(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        raise RuntimeError

    for _ in range(60):
        await bus.say(an_event(), "purge-accepted")
    async with bus.consumer(hearing(fail), retries=replace(QUICK, attempts=1)) as consumer:

        async def halted() -> bool:
            return consumer.halted

        await eventually(halted)
        assert await bus.position() < 60
        assert len(await bus.dead_letters()) < 45


# -- crashes and rebalances --------------------------------------------------------------------


async def test_a_member_that_joins_while_a_handler_runs_does_not_repeat_its_work(
    bus_of: MakeBus, sample: Sample
) -> None:
    """A rebalance redelivers what is in hand; the stored position is the fence."""
    bus = await bus_of(INSTALLER_ERASURES, partitions=2)
    effects: list[UUID] = []
    started = asyncio.Event()

    async def work(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        started.set()
        await asyncio.sleep(0.3)
        effects.append(message.purge_id)

    events = [an_event() for _ in range(8)]
    for n, event in enumerate(events):
        await bus.say(event, "purge-accepted", partition=n % 2)
    async with bus.consumer(hearing(work), max_records=1):
        await asyncio.wait_for(started.wait(), 20)
        async with bus.consumer(hearing(work), max_records=1):
            await reached(bus, 4, 0)
            await reached(bus, 4, 1)
    handled = await sample.worker.fetchval("SELECT count(*) FROM inbox")
    assert handled == 8
    assert set(effects) == {event.purge_id for event in events}


async def test_a_consumer_that_is_stopped_before_its_commit_does_the_work_again(
    bus_of: MakeBus, sample: Sample
) -> None:
    """The default policy commits on a timer while the handler still runs, and loses it."""
    bus, entered, seen = await bus_of(INSTALLER_ERASURES), asyncio.Event(), list[Any]()

    async def hang(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        entered.set()
        await asyncio.Event().wait()

    event = an_event()
    await bus.say(event, "purge-accepted")
    async with bus.consumer(hearing(hang)) as consumer:
        await asyncio.wait_for(entered.wait(), 20)
        for task in consumer._subscriber.tasks:  # as a kill would
            task.cancel()
    assert await bus.position() == 0
    async with bus.consumer(recording(seen)):
        await reached(bus, 1)
    assert seen == [event]


async def test_a_database_that_is_away_costs_patience_and_nothing_else(
    bus_of: MakeBus, sample: Sample
) -> None:
    bus, seen = await bus_of(INSTALLER_ERASURES), list[Any]()
    for _ in range(3):
        await bus.say(an_event(), "purge-accepted")
    failures = iter([asyncpg.CannotConnectNowError("x"), asyncpg.DeadlockDetectedError("x")])

    async def busy(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        seen.append(message)

    async with bus.consumer(hearing(busy)):
        await reached(bus, 3)
    assert len(seen) == 3
    assert await bus.dead_letters() == []


async def test_a_thousand_events_cost_a_few_transactions(bus_of: MakeBus, sample: Sample) -> None:
    """One commit per record made a hundred a second; a batch is one transaction."""
    bus, seen = await bus_of(INSTALLER_ERASURES), list[Any]()
    sends = [
        await bus.producer.send(
            bus.topic.name,
            an_event().encode(),
            headers=to_headers(an_envelope("purge-accepted")),
            partition=0,
        )
        for _ in range(1_000)
    ]
    await asyncio.gather(*sends)
    before = await sample.worker.fetchval("SELECT pg_current_xact_id()::text::bigint")
    async with bus.consumer(recording(seen)):
        await reached(bus, 1_000)
    after = await sample.worker.fetchval("SELECT pg_current_xact_id()::text::bigint")
    assert len(seen) == 1_000
    assert after - before < 100


def test_a_message_has_one_handler() -> None:
    handlers = recording([])
    with pytest.raises(ValueError, match="one handler"):
        handlers.hears(PurgeAccepted)(recording([]).by_model[PurgeAccepted].function)
    assert handlers.by_model[PurgeAccepted].kind is Kind.EVENT
