"""`keepword events replay`: lets one service hear again what others have said, and nobody else."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from chassis import replays
from chassis.clock import Clock
from chassis.database import Connection
from chassis.history import Wanted
from chassis.identifiers import uuid7
from chassis.rebuild import built_tables, count, forget_built
from chassis.replays import REPLAY_LOCK, Replay, Stage
from chassis.replays import Source as Origin
from cli.databases import LONGEST_NAME, clock_of, shown
from cli.events import sources
from cli.events.places import (
    Away,
    Environment,
    Misunderstood,
    complain,
    connected,
    environment,
    kafka_of,
    known_service,
    outbox_url,
    run,
    working,
)
from cli.events.questions import span
from cli.events.rebuild import OWNERS, confirm, plan_table, restate_all
from cli.events.sources import Found, Outboxes, Source, Topics
from cli.events.targets import Sieve, Target, target_of
from cli.events.topics import SILENT_SECONDS
from cli.running import FAILED, INTERRUPTED
from contracts.registry import by_ce_type
from contracts.replays import Mark, marked
from devstack.journey import data_map_of

_LONGEST_REASON: Final = 500
_AT_ONCE: Final = 500
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    to: str
    tenant: UUID | None
    types: Sequence[str]
    since: str | None
    until: str | None
    source: str
    force: bool
    dry_run: bool
    reason: str
    by: str
    confirmed: str | None
    rate: int
    resume: UUID | None


@dataclass(slots=True)
class Plan:
    """What a replay would be."""

    messages: int = 0
    dropped: int = 0
    purged: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    tenants: set[UUID] = field(default_factory=set)
    purged_tenants: set[UUID] = field(default_factory=set)
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, kept: Sequence[Found], purged: Sequence[Found], dropped: int) -> None:
        """Count a page."""
        self.messages += len(kept)
        self.dropped += dropped
        self.purged += len(purged)
        self.purged_tenants |= {each.tenant_id for each in purged if each.tenant_id}
        for each in kept:
            self.by_type[each.type] += 1
            self.oldest = min(self.oldest or each.said_at, each.said_at)
            self.newest = max(self.newest or each.said_at, each.said_at)
            if each.tenant_id is not None:
                self.tenants.add(each.tenant_id)


def run_replay(asked: Asked) -> int:
    """Plan, ask, and send; what was paused goes on where it was."""

    async def replay() -> int:
        named = environment()
        if asked.resume is not None:
            return await _resume(asked, asked.resume, named)
        target = target_of(asked.to, asked.types, force=asked.force)
        _require_reason(asked)
        since, until = span(asked.since, asked.until, wall=datetime.now(UTC))
        if target.is_state:
            if since or until or asked.tenant:
                owner = target.owners[0]
                raise Misunderstood(
                    f"State is restated as a whole. Leave --since and --until out; of one tenant:"
                    f" keepword events restate {owner} --tenant TENANT."
                )
            return await _restate(asked, target, named)
        wanted = Wanted(asked.tenant, target.types, since, until)
        async with _alone(target.service, named) as connection:
            return await _begin(asked, target, wanted, connection, named)

    return run(replay)


def run_replays(service: str) -> int:
    """Show who let a service hear again what, and why."""

    async def show() -> int:
        table = Table("replay", "began", "state", "sent", "from", "of what", "by", "why")
        async with connected(known_service(service), environment()) as connection:
            for began_at, each in await replays.latest(connection, limit=_SHOWN):
                names = sorted(known.name for one in each.types if (known := by_ce_type(one)))
                about = (
                    f"{', '.join(names)}{' of ' + str(each.tenant_id) if each.tenant_id else ''}"
                )
                table.add_row(
                    str(each.replay_id),
                    shown(began_at),
                    f"{each.state}{', forced' if each.forced else ''}",
                    f"{each.sent} of {each.planned}",
                    each.source,
                    about,
                    each.by_whom,
                    each.reason,
                )
        Console().print(table)
        return 0

    return run(show)


def _require_reason(asked: Asked) -> None:
    if asked.dry_run:
        return
    if not 0 < len(asked.reason.strip()) <= _LONGEST_REASON:
        raise Misunderstood("Say with --reason why, in a sentence; it is kept. No names.")
    if not 0 < len(asked.by.strip()) <= LONGEST_NAME:
        raise Misunderstood("Say with --by who decides this, in a few letters.")


@asynccontextmanager
async def _alone(service: str, named: Environment) -> AsyncIterator[Connection]:
    """Connect to the target's database as the only one who sends it a replay."""
    async with connected(service, named) as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", REPLAY_LOCK):
            raise Away(
                f"Another replay to {service} is being sent. Wait for it, or pause it with Ctrl-C"
                " where it runs."
            )
        yield connection


# -- the plan ---------------------------------------------------------------------------------------


async def _begin(
    asked: Asked, target: Target, wanted: Wanted, connection: Connection, named: Environment
) -> int:
    console, clock = Console(), clock_of(named)
    # What is said from now on comes by itself.
    wanted = sources.before(wanted, datetime.now(UTC))
    source = _source(asked.source, target, wanted, named)
    sieve = Sieve(target, connection)
    plan = await _plan(source, sieve, force=asked.force)
    console.print(_plan_table(plan, target, force=asked.force))
    if plan.messages == 0:
        complain(_why_nothing(plan, asked))
        return FAILED
    if asked.dry_run:
        console.print("Nothing was sent.")
        return 0
    if not confirm(f"Type {plan.messages} to send them", str(plan.messages), asked.confirmed):
        console.print("Nothing was sent.")
        return FAILED
    replay = Replay(
        replay_id=uuid7(datetime.now(UTC)),
        source=Origin(asked.source),
        types=target.types,
        tenant_id=asked.tenant,
        since_at=wanted.since,
        until_at=wanted.until,
        forced=asked.force,
        by_whom=asked.by.strip(),
        reason=asked.reason.strip(),
        planned=plan.messages,
    )
    async with kafka_of(named).producing() as producer:
        await replays.begin(connection, replay, now=clock.now())
        sending = _Sending(replay, sieve, source, producer, clock, asked.rate, console)
        return await sending.run()


async def _plan(source: Source, sieve: Sieve, *, force: bool) -> Plan:
    plan = Plan()
    async with aclosing(source.pages({})) as pages:
        async for found, _ in pages:
            kept, purged = await sieve.sift(found)
            plan.add(kept, purged, 0 if force else await sieve.dropped(kept))
    return plan


def _source(origin: str, target: Target, wanted: Wanted, named: Environment) -> Source:
    if origin == Origin.OUTBOX:
        for owner in target.owners:
            outbox_url(owner, named)
        return Outboxes(target.owners, wanted, named)
    if origin == Origin.TOPIC:
        return Topics(target.said_on, wanted, kafka_of(named))
    raise Misunderstood(f"--from {origin}: replay from the outbox or a topic.")


def _plan_table(plan: Plan, target: Target, *, force: bool) -> Table:
    table = Table(show_header=False)
    table.add_row("to", f"{target.service}, by {target.topic.name}")
    for each, number in sorted(plan.by_type.items()):
        known = by_ce_type(each)
        table.add_row(known.name if known else each, f"{number}")
    table.add_row("messages", f"{plan.messages}")
    table.add_row("tenants", f"{len(plan.tenants)}")
    if plan.oldest is not None and plan.newest is not None:
        table.add_row("oldest", shown(plan.oldest))
        table.add_row("newest", shown(plan.newest))
    inbox = "is not asked, all are handled again" if force else f"will drop {plan.dropped}"
    table.add_row("the inbox", inbox)
    if plan.purged:
        table.add_row(
            "left out", f"{plan.purged} of {len(plan.purged_tenants)} tenants that are purged"
        )
    return table


def _why_nothing(plan: Plan, asked: Asked) -> str:
    if plan.purged and asked.tenant:
        return (
            f"{asked.tenant} is purged, or being purged: nothing about it is heard again. What is"
            " still to be erased purger asks for by itself."
        )
    if plan.purged:
        return "Nothing to replay: all of it is about tenants that are purged."
    return "Nothing to replay. Look with `keepword events find` what there is, or widen the time."


# -- the sending --------------------------------------------------------------------------------------


async def _resume(asked: Asked, replay_id: UUID, named: Environment) -> int:
    if asked.tenant or asked.types or asked.since or asked.until or asked.force or asked.dry_run:
        raise Misunderstood(
            "--resume goes on with what was planned: give only --to and --rate beside it."
        )
    service = known_service(asked.to.partition(".")[0])
    async with _alone(service, named) as connection:
        replay = await replays.load(connection, replay_id)
        if replay is None:
            raise Misunderstood(
                f"{service} has no replay {replay_id}. See keepword events replays {service}."
            )
        if replay.state is Stage.DONE:
            raise Misunderstood(f"Replay {replay_id} is done: {replay.sent} messages were sent.")
        names = [known.name for one in replay.types if (known := by_ce_type(one))]
        target = target_of(service, names, force=replay.forced)
        wanted = Wanted(replay.tenant_id, target.types, replay.since_at, replay.until_at)
        source = _source(replay.source, target, wanted, named)
        sieve = Sieve(target, connection)
        async with kafka_of(named).producing() as producer:
            sending = _Sending(
                replay, sieve, source, producer, clock_of(named), asked.rate, Console()
            )
            return await sending.run()


@dataclass(slots=True)
class _Sending:
    """A replay on its way to the target's topic."""

    replay: Replay
    sieve: Sieve
    source: Source
    producer: AIOKafkaProducer
    clock: Clock
    rate: int
    console: Console
    sent: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Send what is left; return the exit status. Wherever it stops it can go on."""
        replay = self.replay
        self.sent, self.progress = replay.sent, replay.progress or {}
        with suppress(ValueError, RuntimeError):  # not on the main thread, as in a test
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.stop.set)
        try:
            with _bar(self.console) as bar:
                task = bar.add_task("", total=replay.planned, completed=self.sent, pace="", end="")
                await self._send_all(bar, task)
        except (KafkaError, TimeoutError):
            await self._note(Stage.PAUSED)
            # Raised, so that the producer gives up what is on its way instead of waiting for it.
            raise Away(f"Kafka does not answer. {self._how_to_go_on()}") from None
        except Away as away:  # an owner's outbox
            await self._note(Stage.PAUSED)
            raise Away(f"{away} {self._how_to_go_on()}") from None
        if self.stop.is_set():
            await self._note(Stage.PAUSED)
            self.console.print(f"Paused. {self._how_to_go_on()}", soft_wrap=True)
            return INTERRUPTED
        await self._note(Stage.DONE)
        target = self.sieve.target
        self.console.print(
            f"{self.sent} messages are on {target.topic.name}, as replay {replay.replay_id}."
            f" {target.service} hears them as it goes; they stay there for a day.",
            soft_wrap=True,
        )
        return 0

    async def _send_all(self, bar: Progress, task: TaskID) -> None:
        began, before = time.monotonic(), self.sent
        at_once = min(_AT_ONCE, self.rate)
        async with aclosing(self.source.pages(self.progress)) as pages:
            async for found, progress in pages:
                kept, _ = await self.sieve.sift(found)
                sent = self.sent
                for first in range(0, len(kept), at_once):
                    part = kept[first : first + at_once]
                    await self._send(part)
                    sent += len(part)
                    self._show(bar, task, sent, (sent - before) / (time.monotonic() - began))
                    await self._wait_until(began + (sent - before) / self.rate)
                    if self.stop.is_set():
                        break
                else:
                    # A page that was begun is sent once more: the inbox knows its first part.
                    self.sent, self.progress = sent, progress
                    await self._note(Stage.RUNNING)
                if self.stop.is_set():
                    return

    async def _send(self, part: Sequence[Found]) -> None:
        mark = Mark(self.replay.replay_id, self.replay.forced)
        topic = self.sieve.target.topic.name
        async with asyncio.timeout(SILENT_SECONDS):
            acknowledgements = [
                await self.producer.send(
                    topic,
                    value=each.payload,
                    key=each.key,
                    headers=list(marked(each.headers, mark)),
                )
                for each in part
            ]
            for each in acknowledgements:
                await each

    async def _wait_until(self, moment: float) -> None:
        """Keep to the rate; whoever stops does not wait for it."""
        left = moment - time.monotonic()
        if left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), left)

    async def _note(self, state: Stage) -> None:
        await replays.note(
            self.sieve.connection,
            self.replay.replay_id,
            sent=self.sent,
            progress=self.progress,
            state=state,
            now=self.clock.now(),
        )

    def _show(self, bar: Progress, task: TaskID, sent: int, pace: float) -> None:
        left = max(0, self.replay.planned - sent)
        end = datetime.now(UTC).astimezone() + timedelta(seconds=left / max(pace, 0.001))
        bar.update(task, completed=sent, pace=f"{pace:,.0f}/s", end=f"until {end:%H:%M:%S}")

    def _how_to_go_on(self) -> str:
        service, replay_id = self.sieve.target.service, self.replay.replay_id
        return (
            f"{self.sent} of {self.replay.planned} are sent. Go on with: keepword events replay"
            f" --to {service} --resume {replay_id}"
        )


def _bar(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[end]}"),
        console=console,
        disable=not console.is_terminal,
    )


# -- state ------------------------------------------------------------------------------------------


async def _restate(asked: Asked, target: Target, named: Environment) -> int:
    """Let a service that runs forget what it has built of a state, and the owner say it again."""
    console, owner = Console(), target.owners[0]
    topics = [topic.name for topic in target.said_on]
    tables = built_tables(data_map_of(target.service), topics)
    if not tables:
        raise Misunderstood(f"{target.service} builds no table from {', '.join(topics)}.")
    if owner not in OWNERS:
        raise Misunderstood(f"{owner} cannot say its state again.")
    outbox_url(owner, named)
    async with _alone(target.service, named) as connection:
        built = await count(connection, tables)
        console.print(plan_table(built))
        if asked.dry_run:
            console.print("Nothing was changed.")
            return 0
        rows = sum(each.rows for each in built)
        if not confirm(f"Type {rows} to build them anew", str(rows), asked.confirmed):
            console.print("Nothing was changed.")
            return FAILED
        clock = clock_of(named)
        replay = Replay(
            replay_id=uuid7(datetime.now(UTC)),
            source=Origin.RESTATED,
            types=target.types,
            tenant_id=None,
            since_at=None,
            until_at=None,
            forced=True,
            by_whom=asked.by.strip(),
            reason=asked.reason.strip(),
            planned=rows,
        )
        async with working(owner, named) as units:
            async with connection.transaction():
                await replays.begin(connection, replay, now=clock.now())
                await forget_built(connection, tables, consumer=target.consumer, reread=False)
            said = await restate_all(units)
        await replays.note(
            connection,
            replay.replay_id,
            sent=said,
            progress={},
            state=Stage.DONE,
            now=clock.now(),
        )
    console.print(
        f"{target.service} has forgotten {rows} rows; {said} messages of {owner} are on their way."
    )
    return 0
