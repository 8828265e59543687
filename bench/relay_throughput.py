"""Measures how fast the relay drains a full outbox, against a bare producer of the same records."""

import asyncio
import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.figures import Benchmark, Better, Round
from bench.records import Record, record_of, rows
from bench.stack import Stack, relaying
from chassis.broker import KafkaAccess
from chassis.database import Pool, open_pool
from chassis.metrics import Metrics
from chassis.outbox import OutboxRow, write_rows
from devstack.postgres import Roles
from services.installer.data_map import DATA_MAP

_RECORDS = 30_000
_ROUNDS = 5
_ROWS_OF_A_TRANSACTION = 1_000


async def measure(stack: Stack) -> list[Round]:
    """Drain an outbox and send its records again without one, round by round."""
    await stack.make_topics()
    roles = await stack.make_database(DATA_MAP, "_throughput")
    measured = []
    # The broker, too, is faster when it is warm.
    await _send(stack.access, [record_of(row) for row in rows(_RECORDS)])
    async with await open_pool(roles.runtime_url, name="bench") as runtime:
        for _ in range(_ROUNDS):
            said = rows(_RECORDS)
            records = [record_of(row) for row in said]
            # What lies here for both sides must not be searched for garbage over and over.
            gc.collect()
            gc.freeze()
            await _fill(runtime, said)
            ours = _RECORDS / await _drain(stack.access, roles)
            peer = _RECORDS / await _send(stack.access, records)
            measured.append(Round(ours=ours, peer=peer))
            gc.unfreeze()
    return measured


async def _fill(runtime: Pool, said: Sequence[OutboxRow]) -> None:
    for first in range(0, len(said), _ROWS_OF_A_TRANSACTION):
        async with runtime.acquire() as connection, connection.transaction():
            await write_rows(
                connection, said[first : first + _ROWS_OF_A_TRANSACTION], wall=datetime.now(UTC)
            )


async def _drain(access: KafkaAccess, roles: Roles) -> float:
    """Return the seconds from the relay's leadership until Kafka has acknowledged all."""
    metrics = Metrics()
    async with relaying(access, roles, metrics) as relay:
        await relay.leading.wait()
        began = time.perf_counter()
        while _sent(metrics) < _RECORDS:
            await asyncio.sleep(0.002)
        return time.perf_counter() - began


def _sent(metrics: Metrics) -> float:
    (family,) = metrics.relay_sent_total.collect()
    return family.samples[0].value


async def _send(access: KafkaAccess, records: Sequence[Record]) -> float:
    """Return the seconds in which the relay's own kind of producer has sent all by itself."""
    producer = access.producer()
    await producer.start()
    try:
        await producer.partitions_for(records[0].topic)  # as the relay's: known before it counts
        began = time.perf_counter()
        acknowledgements = [
            await producer.send(each.topic, value=each.payload, key=each.key, headers=each.headers)
            for each in records
        ]
        for each in acknowledgements:  # the cheapest way to wait for all, and the relay's too
            await each
        return time.perf_counter() - began
    finally:
        await producer.stop()


BENCHMARK = Benchmark(
    name="relay-throughput",
    question="How much of a producer's speed is left when it sends from an outbox?",
    ours="relay, full outbox",
    peer="bare producer",
    unit="/s",
    goal=0.60,
    better=Better.HIGHER,
    measure=measure,
)
