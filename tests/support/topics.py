"""Topics and bare readers for tests."""

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from chassis.broker import KafkaAccess
from devstack.kafka import create_topics


@dataclass(frozen=True)
class _Wanted:
    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


async def a_topic(
    access: KafkaAccess,
    *,
    name: str | None = None,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
) -> str:
    """Create a topic that nobody else uses; return its name."""
    wanted = _Wanted(name or f"tests.{uuid4().hex}", partitions, config or {})
    await create_topics([wanted], **access.client_options())
    return wanted.name


async def read_until(
    access: KafkaAccess,
    topic: str,
    count: int,
    *,
    seconds: float = 30,
    distinct: str | None = None,
    tombstones: bool = True,
) -> list[ConsumerRecord]:
    """Read a topic from its beginning until there are so many records; fail when they do not come.

    ``distinct`` counts different values of a header instead of records; without ``tombstones``
    records that have no value are passed by.
    """
    consumer = AIOKafkaConsumer(**access.client_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        await _begin(consumer, await _partitions_of(consumer, topic))
        records: list[ConsumerRecord] = []

        async def read(timeout_ms: int) -> None:
            batch = await consumer.getmany(timeout_ms=timeout_ms)
            came = itertools.chain(*batch.values())
            records.extend(each for each in came if tombstones or each.value is not None)

        def enough() -> bool:
            if distinct is None:
                return len(records) >= count
            return len({dict(record.headers)[distinct] for record in records}) >= count

        async with asyncio.timeout(seconds):
            while not enough():
                await read(100)
        await read(200)  # what comes too much, comes soon
    except TimeoutError:
        raise AssertionError(f"{len(records)} of {count} records came") from None
    else:
        return records
    finally:
        await consumer.stop()


async def _begin(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
    """Assign partitions and put them at their beginnings.

    Not by seek_to_beginning: until that is carried out a partition may stand at its end.
    """
    consumer.assign(partitions)
    for partition, offset in (await consumer.beginning_offsets(partitions)).items():
        consumer.seek(partition, offset)


async def _partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Ask until the topic's partitions are known.

    The first answer may lack them, and a broker that comes back from a pause first names nobody.
    """
    async with asyncio.timeout(20):
        while True:
            with suppress(KafkaError):
                found = await consumer._client.fetch_all_metadata()
                if numbers := found.partitions_for_topic(topic):
                    return [TopicPartition(topic, number) for number in sorted(numbers)]
            await asyncio.sleep(0.05)


async def read_all(access: KafkaAccess, topic: str) -> list[ConsumerRecord]:
    """Read every record that a topic holds now."""
    consumer = AIOKafkaConsumer(**access.client_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = await _partitions_of(consumer, topic)
        await _begin(consumer, partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(60):
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                batch = await consumer.getmany(timeout_ms=100)
                records += itertools.chain(*batch.values())
        return records
    finally:
        await consumer.stop()
