"""A topic of one of our kinds on a real broker, a bare producer for it, and consumers on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from chassis.broker import KafkaAccess
from chassis.consumer import Consumer, Retries
from chassis.handlers import Handlers
from chassis.metrics import Metrics
from contracts.classes import DataClass
from contracts.envelope import Envelope, to_headers
from contracts.messages import Message
from contracts.purges import PurgeAccepted, PurgeStarted
from contracts.registry import by_name
from contracts.tenants import Version
from contracts.topics import Topic
from tests.support.chassis import Sample
from tests.support.topics import a_topic

QUICK = Retries(
    attempts=2, first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=5)
)


def an_event(tenant_id: UUID | None = None, *, step: str = "accept") -> PurgeAccepted:
    """An answer of the installer's."""
    return PurgeAccepted(
        purge_id=uuid4(),
        step=step,
        tenant_id=tenant_id or uuid4(),
        tenant_version=Version(epoch=1, n=1),
        accepted_at=datetime.now(UTC),
    )


def a_command(
    *,
    owner: str = "installer",
    purge_id: UUID | None = None,
    step: str | None = None,
    tenant_id: UUID | None = None,
) -> PurgeStarted:
    """A command of purger's."""
    return PurgeStarted(
        purge_id=purge_id or uuid4(),
        step=step or f"erase-{owner}",
        wave=1,
        tenant_id=tenant_id or uuid4(),
        owner=owner,
        classes=(DataClass.INSTALLATION,),
        ledger_number=1,
    )


def an_envelope(type_name: str, *, ce_id: UUID | None = None) -> Envelope:
    return Envelope(
        id=ce_id or uuid4(),
        source="/keepword/tests",
        type=by_name(type_name).ce_type,
        time=datetime.now(UTC),
    )


@dataclass
class Bus:
    """One topic of a kind, a bare producer for it, and consumers on it."""

    access: KafkaAccess
    sample: Sample
    topic: Topic
    producer: AIOKafkaProducer
    metrics: Metrics

    async def raw(
        self,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        *,
        key: bytes | None = None,
        partition: int = 0,
    ) -> None:
        await self.producer.send_and_wait(
            self.topic.name, value, key=key, headers=list(headers), partition=partition
        )

    async def say(
        self, message: Message, type_name: str, *, ce_id: UUID | None = None, partition: int = 0
    ) -> None:
        await self.raw(
            message.encode(),
            to_headers(an_envelope(type_name, ce_id=ce_id)),
            key=str(getattr(message, "tenant_id", "")).encode(),
            partition=partition,
        )

    @asynccontextmanager
    async def consumer(
        self,
        handlers: Handlers[None],
        *,
        name: str = "sample.tests.v1",
        retries: Retries = QUICK,
        cluster_id: str = "here",
        max_records: int = 500,
    ) -> AsyncIterator[Consumer[None]]:
        consumer = Consumer(
            name=f"{name}.{self.topic.name}",
            topics=[self.topic],
            handlers=handlers,
            units=self.sample.units(),
            metrics=self.metrics,
            cluster_id=cluster_id,
            retries=retries,
            max_records=max_records,
        )
        broker = self.access.consuming_broker()
        consumer.subscribe(broker)
        await broker.start()
        try:
            yield consumer
        finally:
            consumer.release()
            await broker.stop()

    async def position(self, partition: int = 0) -> int:
        return int(
            await self.sample.worker.fetchval(
                "SELECT coalesce(max(next_offset), 0) FROM positions"
                " WHERE topic = $1 AND partition = $2",
                self.topic.name,
                partition,
            )
        )

    async def dead_letters(self) -> list[asyncpg.Record]:
        return await self.sample.worker.fetch(
            "SELECT * FROM dead_letters WHERE topic = $1 ORDER BY record_offset", self.topic.name
        )


MakeBus = Callable[..., Awaitable[Bus]]


@pytest.fixture
async def bus_of(sample: Sample, access: KafkaAccess) -> AsyncIterator[MakeBus]:
    """A function that makes a topic like one of ours under a name of its own."""
    producer = AIOKafkaProducer(**access.client_options())
    await producer.start()

    async def make(like: Topic, partitions: int = 1) -> Bus:
        name = await a_topic(access, partitions=partitions)
        return Bus(access, sample, replace(like, name=name), producer, Metrics())

    yield make
    await producer.stop()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def reached(bus: Bus, offset: int, partition: int = 0) -> None:
    async def there() -> bool:
        return await bus.position(partition) >= offset

    await eventually(there)
