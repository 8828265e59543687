"""Dead letters: parked behind, mended, tried again once, overtaken, put aside.

Most of it needs no broker: records are given to the consumer as it would fetch them.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from chassis.clock import ManualClock
from chassis.consumer import Consumer
from chassis.dead_letters import acts
from chassis.dead_letters.acts import NotPossible, Word
from chassis.dead_letters.redrives import Redrives
from chassis.dead_letters.written import State
from chassis.handlers import DeadLetter, Handlers, Retry
from chassis.housekeeping import DEAD_LETTERS_KEPT, Housekeeping
from chassis.metrics import Metrics
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.envelope import to_headers
from contracts.messages import Message
from contracts.purges import PurgeAccepted, PurgeReminder, PurgeStarted
from contracts.tenants import TenantState
from contracts.topics import INSTALLER_ERASURES, INSTALLER_TENANTS, PURGER_COMMANDS, Topic
from tests.support.bus import QUICK, Bus, MakeBus, a_command, an_envelope, an_event, reached
from tests.support.chassis import Sample, a_tenant

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORD = Word("Kim Keeper", "the handler is mended")

Do = Callable[[Any, UnitOfWork[None]], Awaitable[Any]]


class Faults:
    """A handler of commands and events that fails for as long as somebody wants it to."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.done: list[str] = []
        self.tries: list[str] = []

    async def take(self, message: PurgeStarted | PurgeAccepted, _: UnitOfWork[None]) -> None:
        self.tries.append(message.step)
        if message.step in self.bad:
            raise RuntimeError("eve@example.com")
        self.done.append(message.step)

    async def follow(self, state: TenantState, _: UnitOfWork[None]) -> None:
        if str(state.version.n) in self.bad:
            raise RuntimeError
        self.done.append(str(state.version.n))

    def handlers(self, *, writes: DataClass | None = None) -> Handlers[None]:
        handlers: Handlers[None] = Handlers("installer")
        handlers.obeys(PurgeStarted)(self.take)
        handlers.hears(PurgeAccepted, writes=writes)(self.take)
        handlers.follows(TenantState)(self.follow)
        return handlers


@dataclass
class Line:
    """A consumer of one partition that is handed its records, one a batch."""

    sample: Sample
    topic: Topic
    offset: int = 0
    hand: Consumer[None] | None = None

    async def raw(
        self,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        *,
        key: bytes | None = None,
    ) -> None:
        assert self.hand is not None
        record = ConsumerRecord(
            self.topic.name, 0, self.offset, 0, 0, key, value, None, 0, 0, tuple(headers)
        )
        self.offset += 1
        await self.hand.take([record])

    async def say(self, message: Message, type_name: str, *, ce_id: UUID | None = None) -> None:
        headers = to_headers(an_envelope(type_name, ce_id=ce_id))
        key = str(getattr(message, "tenant_id", "")).encode()
        await self.raw(message.encode(), headers, key=key)

    def consumer(self, handlers: Handlers[None]) -> Consumer[None]:
        self.hand = Consumer(
            name="sample.tests.v1",
            topics=[self.topic],
            handlers=handlers,
            units=self.sample.units(),
            metrics=Metrics(),
            cluster_id="here",
            retries=QUICK,
        )
        self.hand._sought.add(TopicPartition(self.topic.name, 0))
        return self.hand

    async def dead_letters(self) -> list[asyncpg.Record]:
        return await self.sample.worker.fetch("SELECT * FROM dead_letters ORDER BY number")


LineOf = Callable[[Topic], Line]


@pytest.fixture
def line_of(sample: Sample) -> LineOf:
    return lambda topic: Line(sample, topic)


async def one(bus: Line) -> asyncpg.Record:
    [letter] = await bus.dead_letters()
    return letter


async def states(bus: Bus | Line) -> list[tuple[str | None, str]]:
    return [(each["step"], each["state"]) for each in await bus.dead_letters()]


async def asked(
    bus: Bus | Line, which: UUID | str, do: Callable[..., Awaitable[Any]], **given: Any
) -> Any:
    """Let a person do something, as the command and the page do."""
    async with bus.sample.runtime.acquire() as connection, connection.transaction():
        return await do(connection, which, word=WORD, now=NOW, **given)


async def redriven(bus: Bus | Line, consumer: Consumer[None]) -> None:
    """Let the job run once."""
    await Redrives(bus.sample.units(), {consumer.name: consumer.redrive}).run()


# -- commands are parked -----------------------------------------------------------------------


async def test_later_commands_of_a_purge_wait_behind_one_that_was_given_up_and_follow_in_order(
    bus_of: MakeBus,
) -> None:
    bus, faults, purge, tenant = await bus_of(PURGER_COMMANDS), Faults(), uuid4(), uuid4()
    faults.bad = {"first"}
    for step in ("first", "second", "third"):
        await bus.say(a_command(purge_id=purge, step=step, tenant_id=tenant), "purge-started")
    await bus.say(a_command(step="of-another-purge", tenant_id=tenant), "purge-started")
    async with bus.consumer(faults.handlers()) as consumer:
        await reached(bus, 4)
        assert faults.done == ["of-another-purge"]
        assert await states(bus) == [("first", "open"), ("second", "parked"), ("third", "parked")]
        faults.bad = {"second"}
        letter = (await bus.dead_letters())[0]
        await asked(bus, letter["dead_letter_id"], acts.redrive)
        await redriven(bus, consumer)
        await redriven(bus, consumer)
        assert await states(bus) == [("first", "redriven"), ("second", "open"), ("third", "parked")]
        faults.bad = set()
        await asked(bus, (await bus.dead_letters())[1]["dead_letter_id"], acts.redrive)
        await redriven(bus, consumer)
        await redriven(bus, consumer)
    assert faults.done == ["of-another-purge", "first", "second", "third"]
    assert {state for _, state in await states(bus)} == {"redriven"}


async def test_a_command_that_comes_again_overtakes_its_dead_letter_and_what_waited_goes_on(
    line_of: LineOf,
) -> None:
    line, faults, purge = line_of(PURGER_COMMANDS), Faults(), uuid4()
    faults.bad = {"first"}
    first, second = (a_command(purge_id=purge, step=step) for step in ("first", "second"))
    consumer = line.consumer(faults.handlers())
    for command in (first, second, first, second):
        await line.say(command, "purge-started")
    # What came again and failed, or has to wait, is the letter that is there already.
    assert await states(line) == [("first", "open"), ("second", "parked")]
    assert [each["attempts"] for each in await line.dead_letters()] == [4, 0]
    faults.bad = set()
    await line.say(first, "purge-started")
    assert await states(line) == [("first", "overtaken"), ("second", "parked")]
    await redriven(line, consumer)
    assert faults.done == ["first", "second"]
    assert await states(line) == [("first", "overtaken"), ("second", "redriven")]


async def test_a_command_whose_body_does_not_fit_holds_its_purge_back_too(line_of: LineOf) -> None:
    line, faults, purge, tenant = line_of(PURGER_COMMANDS), Faults(), uuid4(), uuid4()
    body = json.loads(a_command(purge_id=purge, step="first", tenant_id=tenant).encode())
    headers = to_headers(an_envelope("purge-started"))
    key = str(tenant).encode()
    line.consumer(faults.handlers())
    await line.raw(json.dumps(body | {"wave": 9}).encode(), headers, key=key)
    await line.raw(json.dumps(body | {"wave": 9, "owner": "config"}).encode(), headers, key=key)
    await line.raw(b"[" * 100_000, headers, key=key)
    await line.say(a_command(purge_id=purge, step="second", tenant_id=tenant), "purge-started")
    letters = await line.dead_letters()
    assert await states(line) == [("first", "open"), (None, "open"), ("second", "parked")]
    assert {each["tenant_id"] for each in letters} == {tenant}  # so it is erased with the tenant
    assert faults.done == []


async def test_nothing_waits_behind_a_reminder(line_of: LineOf) -> None:
    line, faults, purge = line_of(PURGER_COMMANDS), Faults(), uuid4()
    handlers: Handlers[None] = Handlers("notifier")

    async def never(message: PurgeReminder, uow: UnitOfWork[None]) -> DeadLetter:
        return DeadLetter("cannot be")

    handlers.obeys(PurgeReminder, nothing_waits=True)(never)
    handlers.obeys(PurgeStarted)(faults.take)
    reminder = PurgeReminder(
        purge_id=purge,
        step="remind-30",
        tenant_id=uuid4(),
        classes=(DataClass.CONTACTS,),
        clock="uninstalled",
        start_at=NOW,
        erase_by=NOW,
        days_before=30,
    )
    line.consumer(handlers)
    await line.say(reminder, "purge-reminder")
    await line.say(a_command(owner="notifier", purge_id=purge, step="erase"), "purge-started")
    assert faults.done == ["erase"]
    assert await states(line) == [(None, "open")]


async def test_what_is_parked_goes_on_when_the_one_before_it_is_put_aside(line_of: LineOf) -> None:
    line, faults, purge = line_of(PURGER_COMMANDS), Faults(), uuid4()
    faults.bad = {"first"}
    consumer = line.consumer(faults.handlers())
    for step in ("first", "second"):
        await line.say(a_command(purge_id=purge, step=step), "purge-started")
    first, second = await line.dead_letters()
    with pytest.raises(NotPossible, match="It is parked"):
        await asked(line, second["dead_letter_id"], acts.redrive)
    await asked(line, first["dead_letter_id"], acts.discard)
    await redriven(line, consumer)
    assert faults.done == ["second"]
    assert await states(line) == [("first", "discarded"), ("second", "redriven")]


async def test_what_is_parked_goes_on_when_the_one_before_it_is_gone_after_its_30_days(
    line_of: LineOf,
) -> None:
    line, faults, purge = line_of(PURGER_COMMANDS), Faults(), uuid4()
    faults.bad = {"first"}
    consumer = line.consumer(faults.handlers())
    for step in ("first", "second"):
        await line.say(a_command(purge_id=purge, step=step), "purge-started")
    await redriven(line, consumer)
    assert await states(line) == [("first", "open"), ("second", "parked")]
    await line.sample.worker.execute("DELETE FROM dead_letters WHERE step = 'first'")
    await redriven(line, consumer)
    assert await states(line) == [("second", "redriven")]


# -- redrive -----------------------------------------------------------------------------------


async def test_an_event_is_tried_again_once_however_often_somebody_asks(line_of: LineOf) -> None:
    line, faults = line_of(INSTALLER_ERASURES), Faults()
    faults.bad = {"accept"}
    ce_id, event = uuid4(), an_event()
    consumer = line.consumer(faults.handlers())
    await line.say(event, "purge-accepted", ce_id=ce_id)
    await line.say(event, "purge-accepted", ce_id=ce_id)  # the relay was in doubt
    faults.bad = set()
    group = (await line.dead_letters())[0]["fingerprint"]
    assert len(await asked(line, group, acts.redrive)) == 2
    await redriven(line, consumer)
    with pytest.raises(NotPossible, match="it is redriven"):
        await asked(line, group, acts.redrive)
    await redriven(line, consumer)
    await line.say(event, "purge-accepted", ce_id=ce_id)
    assert faults.done == ["accept"]
    assert [each["outcome"] for each in await line.dead_letters()] == [
        "handled",
        "nothing to do: handled before, or its data is erased",
    ]


async def test_two_replicas_that_try_the_same_letter_handle_it_once(line_of: LineOf) -> None:
    line, faults = line_of(PURGER_COMMANDS), Faults()
    faults.bad = {"erase-installer"}
    consumer = line.consumer(faults.handlers())
    await line.say(a_command(), "purge-started")
    faults.bad = set()
    await asked(line, (await one(line))["dead_letter_id"], acts.redrive)
    job = Redrives(line.sample.units(), {consumer.name: consumer.redrive})
    [seen_by_both] = await job._waiting()
    await consumer.redrive(seen_by_both)
    await consumer.redrive(seen_by_both)
    assert faults.done == ["erase-installer"]


async def test_what_fails_again_is_open_again_with_its_new_reason(line_of: LineOf) -> None:
    line = line_of(INSTALLER_ERASURES)

    async def wait(message: PurgeAccepted, uow: UnitOfWork[None]) -> Retry | DeadLetter:
        return DeadLetter("never") if late else Retry(timedelta(milliseconds=1), "not known yet")

    late: list[int] = []
    handlers: Handlers[None] = Handlers("installer")
    handlers.hears(PurgeAccepted)(wait)
    consumer = line.consumer(handlers)
    await line.say(an_event(), "purge-accepted")
    before = await one(line)
    late.append(1)
    await asked(line, before["dead_letter_id"], acts.redrive)
    await redriven(line, consumer)
    after = await one(line)
    assert (before["reason"], before["attempts"]) == ("still not possible: not known yet", 2)
    assert (after["state"], after["reason"], after["attempts"]) == ("open", "never", 3)
    assert after["fingerprint"] != before["fingerprint"]
    assert after["first_failed_at"] == before["first_failed_at"]  # its age goes on


async def test_a_letter_of_erased_data_is_not_brought_back(line_of: LineOf, sample: Sample) -> None:
    line, faults, event = line_of(INSTALLER_ERASURES), Faults(), an_event()
    faults.bad = {"accept"}
    consumer = line.consumer(faults.handlers(writes=DataClass.CONTENT))
    await line.say(event, "purge-accepted")
    faults.bad = set()
    await sample.worker.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'content', 1, $2, $3)",
        event.tenant_id,
        uuid4(),
        NOW,
    )
    await asked(line, (await one(line))["dead_letter_id"], acts.redrive)
    await redriven(line, consumer)
    assert faults.done == []
    assert (await one(line))["state"] == "redriven"


# -- editing -----------------------------------------------------------------------------------


async def test_a_mended_body_is_what_is_tried_and_the_original_stays(line_of: LineOf) -> None:
    line, faults, tenant = line_of(PURGER_COMMANDS), Faults(), uuid4()
    command = a_command(step="first", tenant_id=tenant)
    broken = json.dumps(json.loads(command.encode()) | {"wave": "one"}).encode()
    consumer = line.consumer(faults.handlers())
    await line.raw(broken, to_headers(an_envelope("purge-started")), key=str(tenant).encode())
    letter_id = (await one(line))["dead_letter_id"]
    assert await asked(line, letter_id, acts.edit, body=command.encode()) == 2
    await asked(line, letter_id, acts.redrive)
    await redriven(line, consumer)
    async with line.sample.runtime.acquire() as connection:
        opened = await acts.opened(connection, letter_id)
    assert faults.done == ["first"]
    assert (await one(line))["payload"] == broken
    assert opened is not None
    assert (opened.body, opened.letter.version) == (command.encode(), 2)
    assert [(done.act, done.by, done.reason) for done in opened.acts] == [
        ("edited", WORD.by, WORD.reason),
        ("redriven", WORD.by, WORD.reason),
    ]


async def test_an_edit_can_say_only_what_the_message_could_and_is_about_the_same(
    line_of: LineOf,
) -> None:
    line, faults, tenant = line_of(PURGER_COMMANDS), Faults(), uuid4()
    faults.bad = {"first"}
    command = a_command(step="first", tenant_id=tenant)
    line.consumer(faults.handlers())
    await line.say(command, "purge-started")
    letter_id = (await one(line))["dead_letter_id"]

    def changed(**change: Any) -> bytes:
        return json.dumps(json.loads(command.encode()) | change).encode()

    for body, complaint in (
        (b"no JSON", r"cannot be read: \(body\)"),
        (changed(wave=7), "cannot be read: wave"),
        (changed(tenant_id=str(uuid4())), "tenant_id has to stay"),
        (changed(purge_id=str(uuid4())), "purge_id has to stay"),
        (changed(step="another"), "step has to stay"),
        (changed(owner="config"), "owner has to stay"),
        (b" " * acts.MOST_BYTES + b"{}", "larger than any message"),
    ):
        with pytest.raises(NotPossible, match=complaint):
            await asked(line, letter_id, acts.edit, body=body)
    await asked(line, letter_id, acts.edit, body=changed(note="eve@example.com"))
    kept = await line.sample.worker.fetch("SELECT payload FROM dead_letter_versions")
    assert [row["payload"] for row in kept] == [command.encode()]


async def test_what_has_no_readable_headers_is_not_edited(line_of: LineOf) -> None:
    line, faults, tenant = line_of(INSTALLER_ERASURES), Faults(), uuid4()
    line.consumer(faults.handlers())
    await line.raw(b"{}", [("ce_type", None)], key=str(tenant).encode())
    letter = await one(line)
    with pytest.raises(NotPossible, match="headers cannot be read"):
        await asked(line, letter["dead_letter_id"], acts.edit, body=b"{}")
    assert letter["tenant_id"] == tenant


@pytest.mark.parametrize("word", [("", "why"), ("x" * 81, "why"), ("Kim", " "), ("Kim", "x" * 301)])
def test_nobody_acts_without_a_name_and_a_reason(word: tuple[str, str]) -> None:
    with pytest.raises(NotPossible):
        Word(*word)


# -- states ------------------------------------------------------------------------------------


async def test_a_state_is_overtaken_by_its_next_version_and_never_mended(line_of: LineOf) -> None:
    line, faults, tenant, other = line_of(INSTALLER_TENANTS), Faults(), uuid4(), uuid4()
    faults.bad = {"1"}
    line.consumer(faults.handlers())
    for each in (tenant, other):
        await line.say(a_tenant(tenant_id=each, n=1), "tenant-installed")
    letters = {each["tenant_id"]: each for each in await line.dead_letters()}
    letter_id = letters[tenant]["dead_letter_id"]
    for act, given in ((acts.redrive, {}), (acts.edit, {"body": b"{}"})):
        with pytest.raises(NotPossible, match="restate"):
            await asked(line, letter_id, act, **given)
    with pytest.raises(NotPossible, match="restate"):
        await asked(line, letters[tenant]["fingerprint"], acts.redrive)
    await line.say(a_tenant(tenant_id=tenant, n=2), "tenant-updated")
    assert faults.done == ["2"]
    after = {each["tenant_id"]: each["state"] for each in await line.dead_letters()}
    assert after == {tenant: "overtaken", other: "open"}


async def test_a_state_may_be_put_aside(line_of: LineOf) -> None:
    line, faults = line_of(INSTALLER_TENANTS), Faults()
    faults.bad = {"1"}
    line.consumer(faults.handlers())
    await line.say(a_tenant(), "tenant-installed")
    await asked(line, (await one(line))["fingerprint"], acts.discard)
    assert (await one(line))["state"] == "discarded"


# -- groups, figures, ends ---------------------------------------------------------------------


async def test_letters_of_one_cause_are_a_group_that_is_counted_by_state(line_of: LineOf) -> None:
    line, faults = line_of(INSTALLER_ERASURES), Faults()
    faults.bad = {"accept", "other"}
    line.consumer(faults.handlers())
    for step in ("accept", "accept", "other"):
        await line.say(an_event(step=step), "purge-accepted")
    await line.raw(b"{", to_headers(an_envelope("purge-accepted")))
    await asked(line, (await line.dead_letters())[0]["dead_letter_id"], acts.discard)
    async with line.sample.runtime.acquire() as connection:
        found = await acts.groups(connection, limit=10)
        assert [(group.handler, group.counts) for group in found] == [
            ("take", {State.DISCARDED: 1, State.OPEN: 2}),
            ("parser", {State.OPEN: 1}),
        ]
        assert [group.unsettled for group in found] == [2, 1]
        listed = await acts.letters(connection, found[0].fingerprint, limit=10)
    assert [each.state for each in listed] == [State.DISCARDED, State.OPEN, State.OPEN]


async def test_figures_say_how_many_wait_and_for_how_long_and_old_letters_go_without_their_acts(
    line_of: LineOf, sample: Sample
) -> None:
    line, faults, purge = line_of(PURGER_COMMANDS), Faults(), uuid4()
    faults.bad = {"first"}
    line.consumer(faults.handlers())
    for step in ("first", "second"):
        await line.say(a_command(purge_id=purge, step=step), "purge-started")
    letters = await line.dead_letters()
    await asked(line, letters[1]["dead_letter_id"], acts.edit, body=letters[1]["payload"])
    failed_at = letters[0]["first_failed_at"]
    clock, metrics = ManualClock(failed_at + timedelta(hours=2)), Metrics()
    keeper = Housekeeping(clock, sample.worker, metrics, None)
    await keeper.measure()
    figures = metrics.exposition().decode()
    assert "keepword_dead_letters_open 1.0" in figures
    assert "keepword_dead_letters_parked 1.0" in figures
    assert "keepword_dead_letters_oldest_seconds 7200.0" in figures
    clock.set(failed_at + DEAD_LETTERS_KEPT + timedelta(days=1))
    await keeper.tidy()
    await keeper.measure()
    assert "keepword_dead_letters_oldest_seconds 0.0" in metrics.exposition().decode()
    for table, left in (("dead_letters", 0), ("dead_letter_versions", 0), ("dead_letter_acts", 1)):
        assert await sample.worker.fetchval(f"SELECT count(*) FROM {table}") == left
    clock.set(NOW + acts.ACTS_KEPT + timedelta(days=1))
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT count(*) FROM dead_letter_acts") == 0
