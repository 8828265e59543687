"""`keepword events replay` on real outboxes and a real broker: to purger, of what config has said."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import ConsumerRecord
from rich.console import Console

from chassis.broker import KafkaAccess
from chassis.clock import SystemClock
from chassis.consumer import main_group
from chassis.database import Pool
from chassis.outbox import Outbox
from chassis.replays import REPLAY_LOCK, Replay, Source, begin
from cli.events.sending import Sending, _bar
from contracts.purges import ErasureAsked
from contracts.replays import mark_of
from contracts.topics import ALL_TOPICS, REPLAYS
from devstack.journey import data_map_of
from devstack.kafka import RunningKafka, create_topics, start_kafka
from tests.cli.test_events import nothing_given  # noqa: F401 - for each test here as well
from tests.cli.test_rebuild import events, follow, rows_of, units_of
from tests.support.stack import Migrated
from tests.support.topics import read_all

WHY = ("--by", "kim", "--reason", "OPS-7 the handler was wrong")


@dataclass
class World:
    """Config's outbox, purger's database, and what purger may hear again."""

    config: Pool
    purger: Pool
    access: KafkaAccess

    async def say(self, *tenants: UUID, at: datetime | None = None) -> list[UUID]:
        """Let config have said that these tenants ask for their erasure."""
        now = at or datetime.now(UTC) - timedelta(minutes=5)
        outbox = Outbox("config", now, now)
        ids = [
            outbox.add(ErasureAsked(wish_id=uuid4(), tenant_id=each, asked_at=now))
            for each in tenants
        ]
        async with self.config.acquire() as connection, connection.transaction():
            await outbox.flush(connection)
        return ids

    async def known(self, count: int) -> list[UUID]:
        """Let purger know so many tenants."""
        tenants = [uuid4() for _ in range(count)]
        await self.purger.executemany(
            "INSERT INTO tenants (tenant_id, epoch, n, state) VALUES ($1, 1, 1, '{}')",
            [(each,) for each in tenants],
        )
        return tenants

    async def handled(self, ce_id: UUID) -> None:
        await self.purger.execute(
            "INSERT INTO inbox VALUES ($1, $2, NULL, $3)",
            main_group("purger"),
            ce_id,
            datetime.now(UTC),
        )

    async def replays(self) -> list[asyncpg.Record]:
        return await self.purger.fetch("SELECT * FROM replays ORDER BY began_at")

    async def sent(self, replay_id: UUID) -> list[ConsumerRecord]:
        found = []
        for record in await read_all(self.access, REPLAYS["purger"].name):
            mark = mark_of(record.headers)
            if mark is not None and mark.replay_id == replay_id:
                found.append(record)
        return found


def ids_of(records: Sequence[ConsumerRecord]) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in records]


@pytest.fixture
async def world(
    emptied: Migrated, kafka: RunningKafka, access: KafkaAccess, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    await create_topics(ALL_TOPICS, **access.client_options())
    async with opened(emptied, access, monkeypatch) as made:
        yield made


class opened:  # noqa: N801 - a context manager
    def __init__(
        self, emptied: Migrated, access: KafkaAccess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.given = emptied, access, monkeypatch

    async def __aenter__(self) -> World:
        emptied, access, monkeypatch = self.given
        config, purger = [await emptied(data_map_of(each)) for each in ("config", "purger")]
        monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", config.runtime_url)
        monkeypatch.setenv("KEEPWORD_PURGER_DATABASE_URL", purger.runtime_url)
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", access.bootstrap_servers)
        self.units = units_of("config", config), units_of("purger", purger)
        of_config, of_purger = [await each.__aenter__() for each in self.units]
        return World(of_config.pool, of_purger.pool, access)

    async def __aexit__(self, *_: object) -> None:
        for each in self.units:
            await each.__aexit__(None, None, None)


async def test_the_plan_says_all_that_will_happen_and_a_dry_run_ends_there(world: World) -> None:
    known = await world.known(3)
    gone = uuid4()
    ids = await world.say(*known, known[0], gone)
    await world.handled(ids[1])
    planned = await events("replay", "--to", "purger.keep_wish", "--dry-run")
    assert planned.exit_code == 0, planned.output
    told = [line for line in planned.output.splitlines() if "│" in line]
    rows = dict([part.strip() for part in line.split("│")[1:3]] for line in told)
    assert rows["to"] == "purger, by purger.replays.v1"
    assert (rows["erasure-asked"], rows["messages"], rows["tenants"]) == ("4", "4", "3")
    assert rows["the inbox"] == "will drop 1"
    assert rows["left out"] == "1 of 1 tenants that are purged"
    assert rows["oldest"] == rows["newest"] != ""
    assert await world.replays() == []


@pytest.mark.parametrize("forced", [False, True])
async def test_what_is_sent_keeps_its_id_and_says_of_which_replay_it_is(
    world: World, *, forced: bool
) -> None:
    tenants = await world.known(2)
    ids = await world.say(*tenants)
    arguments = ["replay", "--to", "purger", "--type", "erasure-asked", *WHY]
    sent = await events(*arguments, *(["--force"] if forced else []), typed="2\n")
    assert sent.exit_code == 0, sent.output
    [row] = await world.replays()
    records = await world.sent(row["replay_id"])
    assert sorted(ids_of(records)) == sorted(map(str, ids))
    assert {mark.forced for each in records if (mark := mark_of(each.headers))} == {forced}
    assert {each.key.decode() for each in records} == set(map(str, tenants))
    assert (row["state"], row["planned"], row["sent"], row["forced"]) == ("done", 2, 2, forced)
    assert (row["by_whom"], row["reason"]) == ("kim", "OPS-7 the handler was wrong")
    shown = await events("replays", "purger")
    assert all(part in shown.output for part in (str(row["replay_id"]), "kim", "OPS-7", "2 of 2"))


async def test_whoever_types_another_number_sends_nothing(world: World) -> None:
    await world.say(*await world.known(2))
    for typed in ("3\n", "\n", "yes\n"):
        done = await events("replay", "--to", "purger.keep_wish", *WHY, typed=typed)
        assert (done.exit_code, "Nothing was sent" in done.output) == (1, True)
    assert await world.replays() == []


async def test_tenant_and_time_narrow_it_down(world: World) -> None:
    one, other = await world.known(2)
    now = datetime.now(UTC)
    await world.say(one, other, at=now - timedelta(days=3))
    [late] = await world.say(one, at=now - timedelta(hours=1))
    given = ("--tenant", str(one), "--since", "2d", "--until", "30m")
    sent = await events("replay", "--to", "purger.keep_wish", *given, *WHY, "--confirm", "1")
    assert sent.exit_code == 0, sent.output
    [row] = await world.replays()
    assert ids_of(await world.sent(row["replay_id"])) == [str(late)]
    assert row["tenant_id"] == one


async def test_what_the_outbox_has_forgotten_comes_from_the_topic(world: World) -> None:
    mine, other = await world.known(2)
    now = datetime.now(UTC)
    outbox = Outbox("config", now, now)
    for each in (mine, other, mine):
        outbox.add(ErasureAsked(wish_id=uuid4(), tenant_id=each, asked_at=now))
    async with world.access.producer() as producer:
        for said in outbox.rows:
            headers = [(name, value.encode()) for name, value in json.loads(said.headers)]
            key = said.record_key.encode()
            await producer.send_and_wait(said.topic, said.payload, key=key, headers=headers)
    given = ("--from", "topic", "--tenant", str(mine))
    sent = await events("replay", "--to", "purger.keep_wish", *given, *WHY, "--confirm", "2")
    assert sent.exit_code == 0, sent.output
    [row] = await world.replays()
    mine_alone = [str(each.ce_id) for each in outbox.rows if each.tenant_id == mine]
    assert ids_of(await world.sent(row["replay_id"])) == mine_alone


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("--to", "billing"), "There are installer, config, purger, notifier"),
        (("--to", "purger.keep_wishes"), "Did you mean keep_wish"),
        (("--to", "purger", "--type", "data-eras"), "Did you mean data-erased"),
        (("--to", "config", "--type", "data-erased"), "config does not hear data-erased"),
        (("--to", "purger.keep_wish", "--since", "tomorrow"), "is no time"),
        (("--to", "purger.keep_wish", "--since", "1h", "--until", "2h"), "is not before --until"),
        (("--to", "config", "--type", "tenant-installed"), "keepword events restate installer"),
        (("--to", "config.remember_purges"), "keepword events restate purger"),
        (("--to", "notifier.erase_people", "--force"), "it writes to people"),
        (("--to", "notifier.tell_of_purges", "--force"), "it writes to people"),
        (("--to", "purger", "--force"), "a census tells of a moment that is over"),
        (("--to", "purger.keep_wish", "--from", "kafka"), "from the outbox or a topic"),
        (("--to", "purger.keep_wish", "--resume", str(uuid4())), "has no replay"),
        (("--to", "purger", "--resume", str(uuid4()), "--force"), "what was planned"),
    ],
)
async def test_what_cannot_be_is_answered_with_what_can(
    world: World, arguments: Sequence[str], advice: str
) -> None:
    refused = await events("replay", *arguments, *WHY)
    assert refused.exit_code == 2, refused.output
    assert advice in refused.stderr


async def test_it_takes_a_reason_and_a_name(world: World) -> None:
    await world.say(*await world.known(1))
    for given, advice in ((("--by", "kim"), "--reason"), (("--reason", "OPS-7"), "--by")):
        refused = await events("replay", "--to", "purger.keep_wish", *given, "--confirm", "1")
        assert (refused.exit_code, advice in refused.stderr) == (2, True)
    assert await world.replays() == []


async def test_nothing_to_replay_and_a_purged_tenant_are_told_apart(world: World) -> None:
    gone = uuid4()
    await world.say(gone)
    purged = await events("replay", "--to", "purger.keep_wish", "--tenant", str(gone), *WHY)
    assert (purged.exit_code, "is purged" in purged.stderr) == (1, True)
    nobody = await events("replay", "--to", "purger.keep_wish", "--tenant", str(uuid4()), *WHY)
    assert (nobody.exit_code, "Nothing to replay" in nobody.stderr) == (1, True)


async def test_there_is_one_replay_to_a_service_at_a_time(world: World) -> None:
    await world.say(*await world.known(1))
    async with world.purger.acquire() as other:
        await other.execute("SELECT pg_advisory_lock($1)", REPLAY_LOCK)
        refused = await events("replay", "--to", "purger.keep_wish", *WHY, "--confirm", "1")
        await other.execute("SELECT pg_advisory_unlock($1)", REPLAY_LOCK)
    assert (refused.exit_code, "Another replay to purger" in refused.stderr) == (1, True)


async def until_sent(world: World) -> UUID:
    """Wait until something of a replay is on its topic; return the replay's id."""
    async with asyncio.timeout(60):
        while True:
            for row in await world.replays():
                if await world.sent(row["replay_id"]):
                    return UUID(str(row["replay_id"]))
            await asyncio.sleep(0.05)


async def test_ctrl_c_pauses_and_it_goes_on_where_it_was(world: World) -> None:
    ids = await world.say(*await world.known(6))
    keepword = str(Path(sys.executable).parent / "keepword")
    given = ["events", "replay", "--to", "purger.keep_wish", *WHY, "--confirm", "6", "--rate", "1"]
    program = await asyncio.create_subprocess_exec(
        keepword, *given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    )
    replay_id = await until_sent(world)
    program.send_signal(signal.SIGINT)
    output, errors = await program.communicate()
    assert (program.returncode, errors) == (130, b"")
    assert f"--resume {replay_id}" in output.decode()
    [row] = await world.replays()
    assert row["state"] == "paused"
    assert len(await world.sent(replay_id)) < 6
    resumed = await events("replay", "--to", "purger", "--resume", str(replay_id))
    assert resumed.exit_code == 0, resumed.output
    [row] = await world.replays()
    assert (row["state"], row["sent"]) == ("done", 6)
    assert set(ids_of(await world.sent(replay_id))) == set(map(str, ids))
    again = await events("replay", "--to", "purger", "--resume", str(replay_id))
    assert (again.exit_code, "is done: 6 messages" in again.stderr) == (2, True)


async def test_a_broker_that_goes_away_in_the_middle_pauses_it(
    emptied: Migrated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = start_kafka(tmp_path / "kafka")
    try:
        access = KafkaAccess(own.bootstrap_servers, "tests")
        await create_topics(ALL_TOPICS, **access.client_options())
        monkeypatch.setattr("cli.events.sending.SILENT_SECONDS", 2.0)
        async with opened(emptied, access, monkeypatch) as world:
            ids = await world.say(*await world.known(30))
            given = ["--to", "purger.keep_wish", *WHY, "--confirm", "30"]
            sending = asyncio.create_task(events("replay", *given, "--rate", "1"))
            replay_id = await until_sent(world)
            own.kill()
            stopped = await sending
            assert stopped.exit_code == 1, stopped.output
            assert "Kafka does not answer" in stopped.stderr
            assert f"--resume {replay_id}" in stopped.stderr
            assert [row["state"] for row in await world.replays()] == ["paused"]
            own.restart()
            resumed = await events("replay", "--to", "purger", "--resume", str(replay_id))
            assert resumed.exit_code == 0, resumed.output
            assert set(ids_of(await world.sent(replay_id))) == set(map(str, ids))
    finally:
        own.kill()


async def test_a_state_that_is_forced_is_forgotten_and_restated(
    world: World, emptied: Migrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer = await emptied(data_map_of("installer"))
    monkeypatch.setenv("KEEPWORD_INSTALLER_DATABASE_URL", installer.runtime_url)
    async with (
        units_of("config", await emptied(data_map_of("config"))) as config,
        units_of("installer", installer),
    ):
        await follow(config, uuid4(), uuid4())
        given = ("replay", "--to", "config.remember_tenants", "--force", *WHY)
        assert (await events(*given, "--dry-run")).exit_code == 0
        assert len(await rows_of(config.pool, "tenants")) == 2
        tenant = await events(*given, "--tenant", str(uuid4()))
        assert "keepword events restate installer --tenant" in tenant.stderr
        done = await events(*given, typed="4\n")
        assert done.exit_code == 0, done.output
        assert (
            await rows_of(config.pool, "tenants") == await rows_of(config.pool, "error_apps") == []
        )
        assert len(await rows_of(config.pool, "purge_states")) == 2
        [row] = await config.pool.fetch("SELECT * FROM replays")
        assert (row["source"], row["state"], row["forced"]) == ("restated", "done", True)


async def test_a_restated_state_is_not_gone_on_with(world: World) -> None:
    replay = a_replay(source=Source.RESTATED)
    async with world.purger.acquire() as connection:
        await begin(connection, replay, now=datetime.now(UTC))
    refused = await events("replay", "--to", "purger", "--resume", str(replay.replay_id))
    assert (refused.exit_code, "do it again" in refused.stderr) == (2, True)


def a_replay(*, source: Source = Source.OUTBOX) -> Replay:
    return Replay(uuid4(), source, (), None, None, None, False, "kim", "a test", planned=4)


def test_at_a_terminal_it_shows_how_far_it_is_how_fast_and_until_when() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    nothing: Any = None
    sending = Sending(a_replay(), nothing, nothing, nothing, SystemClock(), 100, console)
    with _bar(console) as bar:
        task = bar.add_task("", total=4, pace="", end="")
        sending._show(bar, task, 2, 50.0)
    shown = file.getvalue()
    assert "2/4" in shown
    assert "50/s" in shown
    assert re.search(r"until \d\d:\d\d:\d\d", shown)


def test_all_handlers_that_write_to_people_say_so() -> None:
    from services.notifier.handlers import handlers  # noqa: PLC0415

    once = {each.name for each in handlers.by_model.values() if each.once}
    assert once == {"tell_of_purges", "remind_people", "erase_people"}
