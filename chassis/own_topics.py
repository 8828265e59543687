"""Reads what a service itself has said: after a restore its topics know more than its database."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.broker import KafkaAccess
from contracts.envelope import from_headers
from contracts.messages import Message
from contracts.topics import Topic

M = TypeVar("M", bound=Message)
Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"

_RECORDS_A_PAGE = 500


@dataclass(frozen=True, slots=True)
class Said(Generic[M]):
    """A state as it stands on its topic, and the business time at which it was said."""

    state: M
    said_at: datetime


async def pages_of(
    kafka: KafkaAccess, topic: Topic
) -> AsyncGenerator[tuple[int, Sequence[Record]], None]:
    """Yield what a topic holds now in pages, each with its partition, from the beginning on.

    Joins no group and moves no position: what is read is not done by that.
    """
    consumer = AIOKafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        for number in range(topic.partitions):
            partition = TopicPartition(topic.name, number)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            # Its own seek to the beginning loses a race against where it begins by itself.
            consumer.seek(partition, (await consumer.beginning_offsets([partition]))[partition])
            while await consumer.position(partition) < end:
                page = await consumer.getmany(timeout_ms=500, max_records=_RECORDS_A_PAGE)
                yield number, page.get(partition, [])
    finally:
        await consumer.stop()


async def last_said(
    kafka: KafkaAccess, topic: Topic, model: type[M]
) -> AsyncGenerator[Sequence[Said[M]], None]:
    """Yield, partition by partition, the last state of each key that has no tombstone.

    One partition is held in memory at a time, each state as the bytes that it came in.
    """
    present, last = 0, dict[bytes | None, Record]()
    async with aclosing(pages_of(kafka, topic)) as pages:
        async for number, page in pages:
            if number != present:
                yield _read(last, model)
                present, last = number, {}
            for record in page:
                if record.value is None:
                    last.pop(record.key, None)
                else:
                    last[record.key] = record
    yield _read(last, model)


def _read(records: dict[bytes | None, Record], model: type[M]) -> list[Said[M]]:
    return [
        Said(model.decode(record.value), from_headers(record.headers).time)
        for record in records.values()
        if record.value is not None
    ]
