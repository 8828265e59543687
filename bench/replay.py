"""Measures how fast a replay is heard: 1,000,000 events that were handled, and 100,000 that were not.

Purger hears them, with its own handlers. What was handled its inbox drops: compared with a bare
consumer that reads the same topic in batches of the same size and commits each. What was not is
compared with as many events that come live.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any, Final
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.figures import Also, Benchmark, Better, Round
from bench.stack import Stack
from chassis.broker import KafkaAccess
from chassis.clock import SystemClock
from chassis.consumer import Consumer, main_group
from chassis.database import Pool, open_pool
from chassis.identifiers import uuid7
from chassis.metrics import Metrics
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from contracts.envelope import Envelope, to_headers
from contracts.purges import DataErased
from contracts.registry import by_name, ce_source
from contracts.replays import Mark, marked
from contracts.topics import INSTALLER_ERASURES, REPLAYS, Topic, is_replays
from services.purger.context import Context
from services.purger.data_map import DATA_MAP
from services.purger.domain.dates import Retention
from services.purger.handlers import handlers

SEEN: Final = 1_000_000
UNSEEN: Final = 100_000
ROUNDS: Final = 3
BATCH: Final = 500

_MAP_HASH: Final = DATA_MAP.hash()
_GROUP: Final = main_group("purger")
_AT_ONCE: Final = 10_000
_TOPIC: Final = REPLAYS["purger"]


async def measure(stack: Stack, *, seen: int = SEEN, unseen: int = UNSEEN) -> list[Round]:
    """Let purger hear all of it, round by round; see `_unseen_of` for the second figure.

    Raises:
        RuntimeError: an event that was not handled was dropped, or one that was handled was not.
    """
    await stack.make_topics()
    roles = await stack.make_database(DATA_MAP, "_replay")
    async with await open_pool(roles.runtime_url, name="bench", max_size=4) as pool:
        purger = _Purger(stack.access, pool)
        rounds = []
        for _ in range(ROUNDS):
            # Live, again, again, live: what comes later finds a larger inbox.
            rounds.append(
                {
                    "live": [await purger.hear(INSTALLER_ERASURES, unseen, handled=unseen)],
                    "again": [
                        await purger.hear(_TOPIC, unseen, handled=unseen),
                        await purger.hear(_TOPIC, unseen, handled=unseen),
                    ],
                }
            )
            rounds[-1]["live"] += [await purger.hear(INSTALLER_ERASURES, unseen, handled=unseen)]
        begins = await purger.end_of(_TOPIC)
        await _say(stack.access, _TOPIC, seen, note=purger.know)
        measured = []
        for samples in rounds:
            await purger.go_back(begins)
            ours = await purger.read_on(_TOPIC, seen, handled=0)
            peer = await _read_bare(stack.access, begins, seen)
            measured.append(Round(ours, peer, samples))
            sys.stderr.write(
                f"replay: seen {ours:,.0f}/s, bare {peer:,.0f}/s; unseen"
                f" {fmean(samples['again']):,.0f}/s, live {fmean(samples['live']):,.0f}/s\n"
            )
    return measured


def _unseen_of(one: Round) -> Round:
    return Round(fmean(one.samples["again"]), fmean(one.samples["live"]))


@dataclass(frozen=True)
class _Purger:
    """Purger's consumer on a database of its own, and what it has heard."""

    access: KafkaAccess
    pool: Pool

    async def hear(self, topic: Topic, count: int, *, handled: int) -> float:
        """Say so many new events and return how many a second were heard."""
        await _say(self.access, topic, count)
        return await self.read_on(topic, count, handled=handled)

    async def read_on(self, topic: Topic, count: int, *, handled: int) -> float:
        """Read so many records from where purger is; return how many a second that were."""
        metrics = Metrics()
        context = Context(Retention(), _no_key, timedelta(minutes=1))
        units = Units("purger", self.pool, SystemClock(), context, lambda: None, metrics)
        consumer = Consumer(
            name=_GROUP,
            topics=[topic],
            handlers=handlers,
            units=units,
            metrics=metrics,
            cluster_id="bench",
            max_records=BATCH,
        )
        broker = self.access.consuming_broker()
        consumer.subscribe(broker)
        goal = sum((await self.end_of(topic)).values())
        gc.collect()
        gc.freeze()
        await broker.start()
        try:
            while not consumer.assigned():
                await asyncio.sleep(0.002)
            began = time.perf_counter()
            while await self._position(topic) < goal:
                await asyncio.sleep(0.05)
            took = time.perf_counter() - began
        finally:
            await broker.stop()
            gc.unfreeze()
        done = sum(
            sample.value
            for family in metrics.events_handled_total.collect()
            for sample in family.samples
        )
        if done != handled:
            raise RuntimeError(f"{done:.0f} events were handled, not {handled}")
        return count / took

    async def _position(self, topic: Topic) -> int:
        found: int = await self.pool.fetchval(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM positions WHERE topic = $1",
            topic.name,
        )
        return found

    async def end_of(self, topic: Topic) -> dict[int, int]:
        """Say how long each partition of a topic is."""
        async with _reader(self.access) as consumer:
            partitions = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
            ends = await consumer.end_offsets(partitions)
        return {partition.partition: offset for partition, offset in ends.items()}

    async def go_back(self, begins: dict[int, int]) -> None:
        """Read the topic of replays from there again."""
        await self.pool.executemany(
            "UPDATE positions SET next_offset = $2 WHERE topic = $3 AND partition = $1",
            [(number, offset, _TOPIC.name) for number, offset in begins.items()],
        )

    async def know(self, ids: Sequence[UUID]) -> None:
        """Have handled these events."""
        now = datetime.now(UTC)
        async with self.pool.acquire() as connection:
            await connection.copy_records_to_table(
                "inbox",
                records=((_GROUP, each, None, now) for each in ids),
                columns=("consumer", "ce_id", "tenant_id", "received_at"),
            )


@asynccontextmanager
async def _reader(access: KafkaAccess, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**access.client_options(), enable_auto_commit=False, **options)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _read_bare(access: KafkaAccess, begins: dict[int, int], count: int) -> float:
    """Read the topic of replays without doing anything, as a member of a group that commits."""
    async with _reader(access, group_id=f"bench.{uuid4()}") as consumer:
        consumer.subscribe([_TOPIC.name])
        while len(consumer.assignment()) < _TOPIC.partitions:
            await consumer.getmany(timeout_ms=10, max_records=1)
        for number, offset in begins.items():
            consumer.seek(TopicPartition(_TOPIC.name, number), offset)
        began, left = time.perf_counter(), count
        while left:
            batch = await consumer.getmany(timeout_ms=50, max_records=BATCH)
            left -= sum(map(len, batch.values()))
            await consumer.commit()
        return count / (time.perf_counter() - began)


async def _say(
    access: KafkaAccess,
    topic: Topic,
    count: int,
    *,
    note: Callable[[Sequence[UUID]], Awaitable[None]] | None = None,
) -> None:
    """Put so many answers of owners on a topic, each about a tenant of its own."""
    mark = Mark(uuid4()) if is_replays(topic) else None
    async with access.producer() as producer:
        for first in range(0, count, _AT_ONCE):
            said = [_an_answer() for _ in range(min(_AT_ONCE, count - first))]
            if note is not None:
                await note([envelope.id for envelope, _ in said])
            sent = [
                await producer.send(
                    topic.name,
                    answer.encode(),
                    key=str(answer.tenant_id).encode(),
                    headers=marked(to_headers(envelope), mark) if mark else to_headers(envelope),
                )
                for envelope, answer in said
            ]
            for each in sent:
                await each


def _an_answer() -> tuple[Envelope, DataErased]:
    """Make an owner's answer about a purge that purger has forgotten."""
    now = datetime.now(UTC)
    tenant_id = uuid4()
    answer = DataErased(
        purge_id=uuid4(),
        step="erase-installer",
        tenant_id=tenant_id,
        owner="installer",
        ledger_number=1,
        counts={DataClass.INSTALLATION: 1},
        remaining=0,
        data_map_hash=_MAP_HASH,
        erased_at=now,
    )
    message_type = by_name("data-erased")
    envelope = Envelope(
        id=uuid7(now),
        source=ce_source("installer"),
        type=message_type.ce_type,
        time=now,
        subject=str(tenant_id),
        partitionkey=str(tenant_id),
        dataschema=message_type.dataschema,
        traceparent=f"00-{uuid4().hex}-{uuid4().hex[:16]}-01",
        causationid=str(uuid4()),
        correlationid=str(uuid4()),
    )
    return envelope, answer


def _no_key() -> Any:
    raise RuntimeError("nothing is signed here")


UNSEEN_ONES: Final = Also(
    name="replay-unseen",
    question="How fast are 100,000 events heard that a replay brings and nobody has handled?",
    ours="brought by a replay",
    peer="the same, live",
    unit="/s",
    goal=1.0,
    better=Better.HIGHER,
    of=_unseen_of,
)

BENCHMARK: Final = Benchmark(
    name="replay",
    question="How fast is a replay of 1,000,000 events passed by that were all handled?",
    ours="purger, its inbox drops all",
    peer="bare consumer, commits batches",
    unit="/s",
    goal=0.5,
    better=Better.HIGHER,
    measure=measure,
    also=(UNSEEN_ONES,),
)
