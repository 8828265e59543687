"""Reads topics for a person: from a time on, up to where they end now, or on and on."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner

from chassis.broker import KafkaAccess
from contracts.topics import ALL_TOPICS, SERVICES, Topic, subscriptions

Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"
Offsets: TypeAlias = Mapping[TopicPartition, int]

SILENT_SECONDS: Final = 20.0
_RECORDS_A_PAGE: Final = 1_000


def readable(access: KafkaAccess) -> tuple[Topic, ...]:
    """List the topics that we may read: a service its subscriptions, an administrator all."""
    name = access.username
    return subscriptions(name) if name in SERVICES else ALL_TOPICS


def partitions_of(topics: Iterable[Topic], key: str | None) -> list[TopicPartition]:
    """List the partitions of topics, or those alone in which records of this key lie."""
    choose = DefaultPartitioner()
    found = []
    for topic in topics:
        numbers = list(range(topic.partitions))
        if key is not None and topic.key == "tenant_id":
            numbers = [choose(key.encode(), numbers, numbers)]
        found += [TopicPartition(topic.name, number) for number in numbers]
    return found


@asynccontextmanager
async def reader(access: KafkaAccess) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that joins no group, so that looking moves nobody's position."""
    consumer = AIOKafkaConsumer(**access.client_options(), enable_auto_commit=False)
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def bounds(
    consumer: AIOKafkaConsumer,
    partitions: Sequence[TopicPartition],
    *,
    since: datetime | None,
    until: datetime | None,
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Say where in each partition a time begins, and before which offset it ends."""
    first = dict(await consumer.beginning_offsets(partitions))
    end = dict(await consumer.end_offsets(partitions))
    begins = await _offsets_at(consumer, partitions, since) if since is not None else {}
    ends = await _offsets_at(consumer, partitions, until) if until is not None else {}
    for partition in partitions:
        if since is not None:
            first[partition] = begins.get(partition, end[partition])
        end[partition] = ends.get(partition, end[partition])
    return first, end


async def _offsets_at(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], moment: datetime
) -> dict[TopicPartition, int]:
    milliseconds = int(moment.timestamp() * 1000)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds))
    return {partition: each.offset for partition, each in found.items() if each is not None}


async def pages(
    consumer: AIOKafkaConsumer, first: Offsets, end: Offsets | None = None
) -> AsyncGenerator[list[Record], None]:
    """Yield what lies from ``first`` up to before ``end``, or without one whatever comes.

    Raises:
        KafkaTimeoutError: nothing came for a while although there is more.
    """
    left = {p for p in first if end is None or first[p] < end[p]}
    if not left:
        return
    consumer.assign(list(left))
    for partition in left:
        consumer.seek(partition, first[partition])
    heard_at = time.monotonic()
    while left:
        fetched = await consumer.getmany(timeout_ms=500, max_records=_RECORDS_A_PAGE)
        page = [r for records in fetched.values() for r in records if _is_before(r, end)]
        if fetched:
            heard_at = time.monotonic()
            yield page
        if end is None:
            continue
        # What compaction took away leaves a position behind and no record.
        passed = {p for p in left if await consumer.position(p) >= end[p]}
        if passed:
            left -= passed
            consumer.pause(*passed)
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > SILENT_SECONDS:
            raise KafkaTimeoutError("Kafka has not answered for a while")


def _is_before(record: Record, end: Offsets | None) -> bool:
    return end is None or record.offset < end[TopicPartition(record.topic, record.partition)]


def said_at(record: Any) -> datetime:
    """Say when a record was written, by the wall clock."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
