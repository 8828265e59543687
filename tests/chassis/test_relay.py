"""The relay publishes all that was committed, in order, whatever is killed around it."""

import asyncio
import json
import os
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord

from chassis.broker import KafkaAccess
from chassis.epochs import ensure_epoch
from chassis.outbox import OutboxRow, write_rows
from chassis.relay import Relay
from contracts.messages import Kind
from devstack.kafka import start_kafka
from devstack.postgres import (
    Roles,
    RunningPostgres,
    dump,
    provision,
    restore,
    start_postgres,
)
from tests.support.chassis import Sample, sample_of
from tests.support.stack import Databases
from tests.support.topics import a_topic, read_until


def a_row(topic: str, *, key: str = "k", text: str = "", kind: Kind = Kind.EVENT) -> OutboxRow:
    return OutboxRow(
        topic=topic,
        kind=kind,
        record_key=key,
        tenant_id=None,
        ce_id=uuid4(),
        type="keepword.tested.v1",
        headers=json.dumps([["ce_id", str(uuid4())]]),
        payload=text.encode(),
        data_class="plumbing",
    )


async def say(sample: Sample, *rows: OutboxRow) -> None:
    async with sample.runtime.acquire() as connection, connection.transaction():
        await write_rows(connection, rows, wall=datetime.now(UTC))


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await asyncio.wait_for(task, 20)


def texts(records: list[ConsumerRecord]) -> list[str]:
    return [record.value.decode() for record in records]


async def test_what_is_committed_is_published_and_what_is_rolled_back_is_not(
    sample: Sample, access: KafkaAccess
) -> None:
    topic = await a_topic(access)
    async with running(sample.relay(access)):
        async with sample.runtime.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await write_rows(connection, [a_row(topic, text="lost")], wall=datetime.now(UTC))
            await transaction.rollback()
        await say(sample, a_row(topic, text="kept"))
        records = await read_until(access, topic, 1)
    assert texts(records) == ["kept"]
    assert records[0].key == b"k"
    assert dict(records[0].headers).keys() == {"ce_id"}


async def test_no_row_is_passed_over_while_transactions_of_any_length_overlap(
    sample: Sample, access: KafkaAccess
) -> None:
    """A sequence is handed out at insert, a row appears at commit: position alone loses rows."""
    topic = await a_topic(access)
    seeded = random.Random(7)
    committed: dict[str, list[str]] = defaultdict(list)

    async def writer(name: str) -> None:
        for n in range(60):
            pause, fails = seeded.uniform(0, 0.02), seeded.random() < 0.2
            try:
                async with sample.runtime.acquire() as connection, connection.transaction():
                    rows = [a_row(topic, key=name, text=f"{name}-{n}-{i}") for i in range(2)]
                    await write_rows(connection, rows, wall=datetime.now(UTC))
                    await asyncio.sleep(pause)
                    if fails:
                        raise ZeroDivisionError  # noqa: TRY301 - a rollback is the subject
            except ZeroDivisionError:
                continue
            committed[name] += [f"{name}-{n}-0", f"{name}-{n}-1"]

    async with running(sample.relay(access)):
        await asyncio.gather(*(writer(f"w{i}") for i in range(8)))
        expected = sum(map(len, committed.values()))
        records = await read_until(access, topic, expected)
    published: dict[str, list[str]] = defaultdict(list)
    for record in records:
        published[record.key.decode()].append(record.value.decode())
    assert published == committed


async def two_states_in_the_wrong_order(sample: Sample, topic: str, tenant: UUID | None) -> None:
    """Let a transaction get its id first, wait for the tenant's lock, and write last."""
    first, second = (
        replace(a_row(topic, text=text, kind=Kind.STATE), tenant_id=tenant)
        for text in ("first", "second")
    )
    async with sample.runtime.acquire() as early, sample.runtime.acquire() as late:
        waits_for_the_lock = early.transaction()
        await waits_for_the_lock.start()
        await early.execute("SELECT pg_current_xact_id()")
        async with late.transaction():
            await write_rows(late, [first], wall=datetime.now(UTC))
        await write_rows(early, [second], wall=datetime.now(UTC))
        await waits_for_the_lock.commit()


async def test_an_older_state_of_a_key_that_is_no_tenants_never_follows_a_newer_one(
    sample: Sample, access: KafkaAccess
) -> None:
    topic = await a_topic(access)
    await two_states_in_the_wrong_order(sample, topic, None)
    async with running(sample.relay(access)):
        await say(sample, a_row(topic, text="third", kind=Kind.STATE))
        records = await read_until(access, topic, 2)
    assert texts(records) == ["second", "third"]


@pytest.mark.parametrize("batch", [500, 1])
async def test_an_older_state_never_follows_a_newer_one(
    sample: Sample, access: KafkaAccess, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("chassis.relay._BATCH", batch)
    topic, tenant = await a_topic(access), uuid4()
    await two_states_in_the_wrong_order(sample, topic, tenant)
    async with running(sample.relay(access)):
        last = a_row(topic, text="third", kind=Kind.STATE)
        await say(sample, replace(last, tenant_id=tenant))
        records = await read_until(access, topic, 2)
    assert texts(records) == ["second", "third"]


async def test_an_older_state_does_not_follow_a_newer_one_under_another_leader(
    sample: Sample, access: KafkaAccess
) -> None:
    topic = await a_topic(access)
    await two_states_in_the_wrong_order(sample, topic, uuid4())
    await sample.worker.execute(
        "UPDATE relay_cursor SET (xid, position) ="
        " (SELECT xid, position FROM outbox ORDER BY outbox.xid LIMIT 1)"
    )
    async with running(sample.relay(access)):
        await say(sample, a_row(topic, text="later"))
        records = await read_until(access, topic, 1)
    assert texts(records) == ["later"]


async def test_a_relay_that_dies_before_it_saves_its_cursor_repeats_the_same_ids(
    sample: Sample, access: KafkaAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await a_topic(access)
    await say(sample, *(a_row(topic, text=str(i)) for i in range(3)))
    settle = Relay._settle
    deaths = iter([True])

    async def dies_once(self: Relay, connection: object, sent: object) -> object:
        if next(deaths, False):
            await asyncio.gather(*sent.acknowledgements)  # type: ignore[attr-defined]
            raise ConnectionResetError
        return await settle(self, connection, sent)  # type: ignore[arg-type]

    monkeypatch.setattr(Relay, "_settle", dies_once)
    async with running(sample.relay(access)):
        records = await read_until(access, topic, 6)
    ids = [dict(record.headers)["ce_id"] for record in records]
    assert ids[:3] == ids[3:]
    assert texts(records) == ["0", "1", "2"] * 2


async def test_of_two_relays_one_leads_and_the_other_takes_over(
    sample: Sample, access: KafkaAccess
) -> None:
    topic = await a_topic(access)
    first, second = sample.relay(access), sample.relay(access)
    async with running(second), running(first):
        await asyncio.wait(
            [asyncio.create_task(r.leading.wait()) for r in (first, second)],
            return_when=asyncio.FIRST_COMPLETED,
            timeout=10,
        )
        assert first.leading.is_set() != second.leading.is_set()
        leader, other = (first, second) if first.leading.is_set() else (second, first)
        await say(sample, *(a_row(topic, text=str(i)) for i in range(20)))
        await read_until(access, topic, 20)
        leader.stop()
        await asyncio.wait_for(other.leading.wait(), 10)
        await say(sample, a_row(topic, text="after"))
        records = await read_until(access, topic, 21)
    assert texts(records) == [*map(str, range(20)), "after"]


async def test_a_leader_whose_connection_is_cut_leads_again_and_loses_nothing(
    sample: Sample, access: KafkaAccess
) -> None:
    topic = await a_topic(access)
    relay = sample.relay(access)
    async with running(relay):
        await asyncio.wait_for(relay.leading.wait(), 10)
        await say(sample, a_row(topic, text="before"))
        await read_until(access, topic, 1)
        async with sample.worker.acquire() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE locktype = 'advisory' AND objid = 7301 AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        await say(sample, a_row(topic, text="after"))
        records = await read_until(access, topic, 2)
    assert texts(records) == ["before", "after"]


async def test_a_broker_that_is_killed_and_comes_back_gets_everything(
    sample: Sample, tmp_path: Path
) -> None:
    kafka = start_kafka(tmp_path / "kafka")
    try:
        access = KafkaAccess(kafka.bootstrap_servers, "sample", request_timeout_ms=5_000)
        topic = await a_topic(access)
        async with running(sample.relay(access, acknowledged_within=timedelta(seconds=2))):
            await say(sample, a_row(topic, text="0"))
            await read_until(access, topic, 1)
            kafka.kill()
            await say(sample, *(a_row(topic, text=str(i)) for i in range(1, 50)))
            await asyncio.to_thread(kafka.restart)
            records = await read_until(access, topic, 50, distinct="ce_id")
        assert sorted(map(int, set(texts(records)))) == list(range(50))
    finally:
        kafka.stop()


async def test_a_publish_that_timed_out_and_was_delivered_is_repeated_under_its_id(
    sample: Sample, tmp_path: Path
) -> None:
    kafka = start_kafka(tmp_path / "kafka")
    try:
        access = KafkaAccess(kafka.bootstrap_servers, "sample", request_timeout_ms=1_500)
        topic = await a_topic(access)
        relay = sample.relay(access, acknowledged_within=timedelta(seconds=1))
        async with running(relay):
            await asyncio.wait_for(relay.leading.wait(), 15)
            await say(sample, a_row(topic, text="first"))
            await read_until(access, topic, 1)
            os.kill(kafka.pid, signal.SIGSTOP)
            await say(sample, a_row(topic, text="unsure"))
            while relay.leading.is_set():  # it gives up, not knowing
                await asyncio.sleep(0.05)
            os.kill(kafka.pid, signal.SIGCONT)
            await say(sample, a_row(topic, text="last"))
            records = await read_until(access, topic, 3, distinct="ce_id")
        seen = dict.fromkeys(texts(records))
        assert list(seen) == ["first", "unsure", "last"]
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
        kafka.stop()


async def test_a_relay_started_without_kafka_waits_and_then_publishes(
    sample: Sample, tmp_path: Path
) -> None:
    kafka = start_kafka(tmp_path / "kafka")
    try:
        access = KafkaAccess(kafka.bootstrap_servers, "sample")
        topic = await a_topic(access)
        kafka.stop()
        relay = sample.relay(access)
        await say(sample, a_row(topic, text="patient"))
        async with running(relay):
            await asyncio.sleep(0.5)
            assert not relay.leading.is_set()
            await asyncio.to_thread(kafka.restart)
            records = await read_until(access, topic, 1)
        assert texts(records) == ["patient"]
    finally:
        kafka.stop()


async def test_a_database_restored_into_a_fresh_cluster_goes_on_relaying(
    sample: Sample, access: KafkaAccess, tmp_path: Path, databases: Databases
) -> None:
    """Transaction ids start anew there: a relay that trusts the old ones falls silent."""
    topic = await a_topic(access)
    async with running(sample.relay(access)):
        # Spend transaction ids, so that the fresh cluster's are surely lower.
        for n in range(300):
            await say(sample, a_row(topic, text=f"old-{n}"))
        await read_until(access, topic, 300)
    await say(
        sample,
        a_row(topic, text="unsent event"),
        a_row(topic, text="unsent state", kind=Kind.STATE),
    )
    backup = await dump(sample.roles.backup_url)

    fresh = await asyncio.to_thread(start_postgres, tmp_path / "fresh")
    try:
        roles = await restored_into(fresh, backup, tmp_path)
        async with sample_of(roles) as again:
            restated: list[UUID] = []

            async def restate() -> None:
                row = a_row(topic, text="restated", kind=Kind.STATE)
                restated.append(row.ce_id)
                await say(again, row)

            async with running(again.relay(access, restate=restate)):
                await say(again, a_row(topic, text="new"))
                records = await read_until(access, topic, 303)
            async with running(again.relay(access, restate=restate)) as relay:
                await asyncio.wait_for(relay.leading.wait(), 10)
        after = texts(records)[300:]
        assert sorted(after) == ["new", "restated", "unsent event"]
        assert len(restated) == 1
    finally:
        fresh.stop()


async def restored_into(fresh: RunningPostgres, backup: bytes, folder: Path) -> Roles:
    roles = await provision(fresh.superuser_url(), ["sample"], folder=folder)
    await restore(fresh.superuser_url("sample"), backup)
    return roles["sample"]


async def test_in_another_kafka_cluster_events_are_said_again_and_state_anew(
    sample: Sample, access: KafkaAccess, tmp_path: Path
) -> None:
    topic = await a_topic(access)
    async with running(sample.relay(access)):
        await say(
            sample,
            a_row(topic, text="event"),
            a_row(topic, text="old state", kind=Kind.STATE),
            a_row(topic, text="log", kind=Kind.LOG),
        )
        await read_until(access, topic, 3)
    other = await asyncio.to_thread(start_kafka, tmp_path / "other")
    try:
        there = replace(access, bootstrap_servers=other.bootstrap_servers)
        await a_topic(there, name=topic)

        async def restate() -> None:
            await say(sample, a_row(topic, text="state", kind=Kind.STATE))

        async with running(sample.relay(there, restate=restate)):
            records = await read_until(there, topic, 2)
        assert sorted(texts(records)) == ["event", "state"]
    finally:
        other.stop()


async def test_an_epoch_is_opened_once_and_by_hand(sample: Sample) -> None:
    wall = datetime.now(UTC) + timedelta(seconds=5)
    async with sample.worker.acquire() as connection:
        first = await ensure_epoch(connection, wall=wall)
        assert (await ensure_epoch(connection, wall=wall)).number == first.number
        by_hand = await ensure_epoch(connection, wall=wall, force=True)
    assert by_hand.number > first.number
    assert not by_hand.restated
