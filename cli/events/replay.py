"""`keepword events replay`: lets one service hear again what others have said, and nobody else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from rich.console import Console
from rich.table import Table

from chassis import replays
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
from cli.events.plans import Plan, plan_of, table_of
from cli.events.questions import span
from cli.events.rebuild import OWNERS, confirm, plan_table, restate_all
from cli.events.sending import Sending
from cli.events.sources import Outboxes, Source, Topics
from cli.events.targets import Sieve, Target, target_of
from cli.running import FAILED
from contracts.registry import by_ce_type
from devstack.journey import data_map_of

_LONGEST_REASON: Final = 500
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
    plan = await plan_of(source, sieve, force=asked.force)
    console.print(table_of(plan, target, force=asked.force))
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
        sending = Sending(replay, sieve, source, producer, clock, asked.rate, console)
        return await sending.run()


def _source(origin: str, target: Target, wanted: Wanted, named: Environment) -> Source:
    if origin == Origin.OUTBOX:
        for owner in target.owners:
            outbox_url(owner, named)
        return Outboxes(target.owners, wanted, named)
    if origin == Origin.TOPIC:
        return Topics(target.said_on, wanted, kafka_of(named))
    raise Misunderstood(f"--from {origin}: replay from the outbox or a topic.")


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
        if replay.source is Origin.RESTATED:
            raise Misunderstood("A state that was restated is not gone on with: do it again.")
        names = [known.name for one in replay.types if (known := by_ce_type(one))]
        target = target_of(service, names, force=replay.forced)
        wanted = Wanted(replay.tenant_id, target.types, replay.since_at, replay.until_at)
        source = _source(replay.source, target, wanted, named)
        sieve = Sieve(target, connection)
        async with kafka_of(named).producing() as producer:
            sending = Sending(
                replay, sieve, source, producer, clock_of(named), asked.rate, Console()
            )
            return await sending.run()


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
