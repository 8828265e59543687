"""Measures how long a committed message takes to its reader, against one that is just produced.

The relay runs where it really runs: in the process that writes. The reader is a process of its
own. Messages come at a steady pace, late ones included: each is due at a time of its own, and
what one waits for because of another is part of the figure.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from bench.figures import Benchmark, Better, Round, percentile
from bench.receiver import receiving
from bench.records import a_tenant, record_of, rows
from bench.stack import Stack, relaying
from chassis.database import Pool, open_pool
from chassis.metrics import Metrics
from chassis.outbox import Outbox
from chassis.relay import Relay
from contracts.topics import INSTALLER_TENANTS
from services.installer.data_map import DATA_MAP

_PER_SECOND = 100
# The sides take turns of half a second, so that what else this machine does meets both.
_TURN = 50
_TURNS = 12
_ROUNDS = 5

Departures = dict[str, int]
Send = Callable[[], Coroutine[None, None, tuple[str, int]]]


async def measure(stack: Stack) -> list[Round]:
    """Send at a steady pace with and without an outbox, in turn."""
    await stack.make_topics()
    roles = await stack.make_database(DATA_MAP, "_latency")
    measured = []
    async with (
        await open_pool(roles.runtime_url, name="bench") as pool,
        relaying(stack.access, roles, Metrics()) as relay,
        stack.access.producer() as producer,
    ):
        await relay.leading.wait()
        for _ in range(_ROUNDS):
            relayed, produced = await _latencies(
                stack, _committing(pool, relay), _producing(producer)
            )
            measured.append(
                Round(
                    ours=percentile(relayed, 99),
                    peer=percentile(produced, 99),
                    samples={"relayed_ms": relayed, "produced_ms": produced},
                )
            )
    return measured


async def _latencies(stack: Stack, *sides: Send) -> list[list[float]]:
    """Let the sides send in turn; answer the milliseconds of each side's messages.

    The first turn of each is not counted: it finds everything cold.
    """
    topic, count = INSTALLER_TENANTS.name, len(sides) * (1 + _TURNS) * _TURN
    departures: list[Departures] = [{} for _ in sides]
    async with receiving(stack.kafka.bootstrap_servers, topic, count) as receiver:
        gc.collect()
        for turn in range(1 + _TURNS):
            for send, departed in zip(sides, departures, strict=True):
                sent = await _at_a_steady_pace(send, _TURN)
                departed.update(sent if turn else {})
        arrivals = await receiver.arrivals()
    return [
        [(arrivals[ce_id] - at) / 1e6 for ce_id, at in departed.items()] for departed in departures
    ]


async def _at_a_steady_pace(send: Send, count: int) -> Departures:
    """Send each when it is due, whatever has become of those before it."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.TaskGroup() as under_way:
        tasks = []
        for number in range(count):
            await asyncio.sleep(begin + number / _PER_SECOND - loop.time())
            tasks.append(under_way.create_task(send()))
    return dict(task.result() for task in tasks)


def _committing(pool: Pool, relay: Relay) -> Send:
    async def commit() -> tuple[str, int]:
        """Do as a unit of work does, but look at the clock in the moment of the commit."""
        now = datetime.now(UTC)
        outbox = Outbox("installer", now, now)
        ce_id = outbox.add(a_tenant(), type_name="tenant-installed")
        async with pool.acquire() as connection:
            async with connection.transaction():
                await outbox.flush(connection)
            departed = time.monotonic_ns()
        relay.wake()
        return str(ce_id), departed

    return commit


def _producing(producer: AIOKafkaProducer) -> Send:
    records = iter([record_of(row) for row in rows((1 + _TURNS) * _TURN)])

    async def produce() -> tuple[str, int]:
        record = next(records)
        departed = time.monotonic_ns()
        await producer.send(
            record.topic, value=record.payload, key=record.key, headers=record.headers
        )
        return dict(record.headers)["ce_id"].decode(), departed

    return produce


BENCHMARK = Benchmark(
    name="relay-latency",
    question="How much later does a message arrive that goes through an outbox?",
    ours="p99 by outbox and relay",
    peer="p99 by a bare producer",
    unit=" ms",
    goal=3.00,
    better=Better.LOWER,
    measure=measure,
)
