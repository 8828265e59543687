"""What a consumer does about messages that are said again to it alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from chassis.broker import KafkaAccess
from chassis.consumer import Consumer
from chassis.handlers import Handlers
from chassis.metrics import Metrics
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from contracts.envelope import to_headers
from contracts.messages import Message
from contracts.purges import PurgeAccepted
from contracts.replays import FORCED_HEADER, REPLAY_HEADER, Mark, mark_of, marked
from contracts.topics import INSTALLER_ERASURES, REPLAYS, Topic, is_replays
from tests.chassis.test_consumer import recording
from tests.support.bus import QUICK, a_command, an_envelope, an_event, eventually
from tests.support.chassis import Sample, a_tenant, suppressed
from tests.support.topics import a_topic


def test_a_mark_is_read_as_it_was_written_and_a_second_one_takes_its_place() -> None:
    headers = to_headers(an_envelope("purge-accepted"))
    first, second = Mark(uuid4(), forced=True), Mark(uuid4())
    assert mark_of(marked(headers, first)) == first
    assert mark_of(marked(marked(headers, first), second)) == second
    assert mark_of(headers) is None
    assert mark_of([(REPLAY_HEADER, b"\xff"), (FORCED_HEADER, b"true")]) is None
    assert mark_of([(REPLAY_HEADER, None)]) is None


def test_each_service_has_a_topic_of_its_own_for_replays() -> None:
    assert all(is_replays(topic) for topic in REPLAYS.values())
    assert not is_replays(INSTALLER_ERASURES)


@dataclass
class Ear:
    """A consumer of a live topic and of one of replays, on one partition each."""

    access: KafkaAccess
    sample: Sample
    live: Topic
    replays: Topic
    producer: AIOKafkaProducer
    units: Units[None]
    said: dict[str, int] = field(default_factory=dict)

    async def say(
        self,
        topic: Topic,
        message: Message | None,
        name: str,
        ce_id: UUID,
        mark: Mark | None = None,
    ) -> None:
        headers = to_headers(an_envelope(name, ce_id=ce_id))
        await self.producer.send_and_wait(
            topic.name,
            message.encode() if message else None,
            key=str(getattr(message, "tenant_id", uuid4())).encode(),
            headers=list(marked(headers, mark) if mark else headers),
        )
        self.said[topic.name] = self.said.get(topic.name, 0) + 1

    async def replay(
        self, message: Message | None, name: str = "purge-accepted", *, ce_id: UUID, **mark: Any
    ) -> None:
        await self.say(self.replays, message, name, ce_id, Mark(**{"replay_id": uuid4()} | mark))

    @asynccontextmanager
    async def hearing(self, handlers: Handlers[None]) -> AsyncIterator[None]:
        """Hear all that has been said, then go on with the test."""
        consumer = Consumer(
            name=f"sample.tests.{self.live.name}",
            topics=[self.live, self.replays],
            handlers=handlers,
            units=self.units,
            metrics=Metrics(),
            cluster_id="here",
            retries=QUICK,
        )
        broker = self.access.consuming_broker()
        consumer.subscribe(broker)
        await broker.start()
        try:
            await eventually(self._heard)
            yield
        finally:
            consumer.release()
            await broker.stop()

    async def _heard(self) -> bool:
        rows = await self.sample.worker.fetch("SELECT topic, next_offset FROM positions")
        return {r["topic"]: r["next_offset"] for r in rows if r["next_offset"]} == self.said

    async def hear(self, handlers: Handlers[None]) -> None:
        async with self.hearing(handlers):
            pass


@pytest.fixture
async def ear(sample: Sample, access: KafkaAccess) -> AsyncIterator[Ear]:
    name = uuid4().hex
    live = replace(INSTALLER_ERASURES, name=await a_topic(access, name=f"tests.live.{name}"))
    again = replace(live, name=await a_topic(access, name=f"tests.replays.{name}"))
    async with access.producer() as producer:
        yield Ear(access, sample, live, again, producer, sample.units())


async def test_what_was_handled_is_dropped_and_what_was_not_is_handled_once(ear: Ear) -> None:
    seen = list[Any]()
    known, missed = uuid4(), uuid4()
    first, second = an_event(), an_event()
    await ear.say(ear.live, first, "purge-accepted", known)
    await ear.hear(recording(seen))
    for _ in range(2):
        await ear.replay(first, ce_id=known)
        await ear.replay(second, ce_id=missed)
    await ear.hear(recording(seen))
    assert seen == [first, second]


async def test_known_and_missed_events_may_take_turns(ear: Ear) -> None:
    seen = list[Any]()
    known, event = uuid4(), an_event()
    await ear.say(ear.live, event, "purge-accepted", known)
    async with ear.hearing(recording(seen)):
        missed = [an_event() for _ in range(4)]
        for each in missed:  # each in a batch of its own, after one that is known, or is not
            await ear.replay(each, ce_id=uuid4())
            await eventually(ear._heard)
            await ear.replay(event, ce_id=known)
            await eventually(ear._heard)
    assert seen == [event, *missed]


async def test_a_forced_replay_is_handled_again_but_once_for_each_replay(ear: Ear) -> None:
    seen = list[Any]()
    known, event = uuid4(), an_event()
    await ear.say(ear.live, event, "purge-accepted", known)
    await ear.hear(recording(seen))
    one, other = uuid4(), uuid4()
    for replay_id in (one, one, other):
        await ear.replay(event, ce_id=known, replay_id=replay_id, forced=True)
    await ear.hear(recording(seen))
    assert seen == [event] * 3
    # It was handled all the while, so that the ordinary replay drops it.
    await ear.replay(event, ce_id=known)
    await ear.hear(recording(seen))
    assert seen == [event] * 3


async def test_a_handler_that_reaches_outside_is_not_forced(ear: Ear) -> None:
    seen = list[Any]()
    handlers: Handlers[None] = Handlers("installer")

    @handlers.hears(PurgeAccepted, once="it writes to people")
    async def write_to_people(message: PurgeAccepted, uow: UnitOfWork[None]) -> None:
        seen.append(message)

    known, event = uuid4(), an_event()
    await ear.say(ear.live, event, "purge-accepted", known)
    await ear.replay(event, ce_id=known, forced=True)
    await ear.hear(handlers)
    await ear.replay(event, ce_id=known, forced=True)
    await ear.hear(handlers)
    assert seen == [event]


async def test_a_command_may_come_again_and_one_for_another_is_passed_by(ear: Ear) -> None:
    seen = list[Any]()
    ours, of_others = a_command(), a_command(owner="config")
    await ear.replay(ours, "purge-started", ce_id=uuid4())
    await ear.replay(of_others, "purge-started", ce_id=uuid4())
    await ear.hear(recording(seen))
    assert seen == [ours]


async def test_states_tombstones_and_what_has_no_mark_are_passed_by(ear: Ear) -> None:
    seen = list[Any]()
    await ear.replay(a_tenant(), "tenant-updated", ce_id=uuid4())
    await ear.replay(None, "tenant-updated", ce_id=uuid4())
    await ear.say(ear.replays, an_event(), "purge-accepted", uuid4())
    await ear.hear(recording(seen))
    assert seen == []


async def test_nothing_is_heard_again_of_a_tenant_of_whom_anything_is_erased(ear: Ear) -> None:
    seen = list[Any]()
    gone, stays = an_event(), an_event()
    await ear.sample.runtime.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'content', 1, $2, $3)",
        gone.tenant_id,
        uuid4(),
        ear.sample.clock.now(),
    )
    command = a_command().model_copy(update={"tenant_id": gone.tenant_id})
    for forced in (False, True):
        await ear.replay(gone, ce_id=uuid4(), forced=forced)
        await ear.replay(command, "purge-started", ce_id=uuid4(), forced=forced)
    await ear.replay(stays, ce_id=uuid4())
    await ear.hear(recording(seen))
    assert seen == [stays]
    assert suppressed(ear.units) == {("consumer", DataClass.CONTENT): 4}


async def test_what_cannot_be_read_is_written_down_and_stops_nothing(ear: Ear) -> None:
    seen = list[Any]()
    headers = marked(to_headers(an_envelope("purge-accepted")), Mark(uuid4()))
    strange = [("ce_id", b"\xff"), (REPLAY_HEADER, b"\xff")]
    for value, given in ((b"{}", headers), (b"{}", strange)):
        await ear.producer.send_and_wait(ear.replays.name, value, headers=list(given))
        ear.said[ear.replays.name] = ear.said.get(ear.replays.name, 0) + 1
    event = an_event()
    await ear.replay(event, ce_id=uuid4())
    await ear.hear(recording(seen))
    assert seen == [event]
    assert await ear.sample.worker.fetchval("SELECT count(*) FROM dead_letters") == 2
