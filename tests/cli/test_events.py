"""`keepword events tail`, `find` and `show`, on real outboxes and a real broker."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from chassis.broker import KafkaAccess
from chassis.history import Told, Wanted, in_order, newest
from chassis.outbox import Outbox
from cli.events.look import Seen, table
from cli.main import command_line
from contracts.envelope import to_headers
from contracts.topics import ALL_TOPICS, INSTALLER_TENANTS
from devstack.kafka import RunningKafka, create_topics
from services.config.data_map import DATA_MAP
from tests.support.bus import an_envelope
from tests.support.chassis import Sample, a_tenant, sample_of
from tests.support.stack import Migrated

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in (
        *(
            f"KEEPWORD_{each}_DATABASE_URL"
            for each in ("INSTALLER", "CONFIG", "PURGER", "NOTIFIER")
        ),
        "KEEPWORD_DATABASE_URL",
        "KEEPWORD_KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_BOOTSTRAP_SERVERS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEEPWORD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")


def keepword(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["events", *arguments])


async def events(*arguments: str) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(keepword, *arguments)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@dataclass(frozen=True)
class Ledger:
    """A database of config's, and what it has said."""

    sample: Sample

    async def say(self, *tenants: UUID, at: datetime = NOW, trace: str | None = None) -> list[UUID]:
        outbox = Outbox("installer", at, at)
        ids = [outbox.add(a_tenant(tenant_id=each), type_name="tenant-updated") for each in tenants]
        if trace:
            for row in outbox.rows:
                headers = [
                    *json.loads(row.headers),
                    ["ce_traceparent", f"00-{trace}-{'1' * 16}-01"],
                ]
                object.__setattr__(row, "headers", json.dumps(headers))
        async with self.sample.runtime.acquire() as connection, connection.transaction():
            await outbox.flush(connection)
        return ids

    async def newest(self, wanted: Wanted, limit: int = 10) -> Sequence[Told]:
        async with self.sample.runtime.acquire() as connection:
            return await newest(connection, wanted, limit=limit)


@pytest.fixture
async def ledger(emptied: Migrated, monkeypatch: pytest.MonkeyPatch) -> Any:
    roles = await emptied(DATA_MAP)
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", roles.runtime_url)
    async with sample_of(roles) as sample:
        yield Ledger(sample)


async def test_what_was_said_of_a_tenant_is_found_in_its_order(ledger: Ledger) -> None:
    mine, other = uuid4(), uuid4()
    first, _, second = await ledger.say(mine, other, mine)
    found = await events("find", "--tenant", str(mine))
    assert found.exit_code == 0
    told = lines(found)
    assert [each["id"] for each in told] == [str(first), str(second)]
    assert told[0]["type"] == "keepword.tenant-updated.v1"
    assert told[0]["body"]["addon_key"] == "com.example.app"
    last = await events("find", "--tenant", str(mine), "--limit", "1")
    assert [each["id"] for each in lines(last)] == [str(second)]


async def test_time_type_trace_and_id_narrow_it_down(ledger: Ledger) -> None:
    trace = "a" * 32
    [long_ago] = await ledger.say(uuid4(), at=NOW - timedelta(days=40))
    [traced] = await ledger.say(uuid4(), at=NOW - timedelta(hours=3), trace=trace)
    [lately] = await ledger.say(uuid4(), at=NOW - timedelta(minutes=10))

    async def ids(*arguments: str) -> list[str]:
        return [each["id"] for each in lines(await events("find", *arguments))]

    assert await ids() == [str(traced), str(lately)]
    assert await ids("--since", "60d", "--until", "1d") == [str(long_ago)]
    assert await ids("--trace", trace) == [str(traced)]
    assert await ids("--trace", f"00-{trace.upper()}-{'1' * 16}-01") == [str(traced)]
    assert await ids("--type", "tenant-updated", "--since", "1h") == [str(lately)]
    assert await ids("--type", "tenant-purging") == []
    shown = await events("show", str(long_ago))
    assert (shown.exit_code, json.loads(shown.stdout)["id"]) == (0, str(long_ago))


async def test_all_comes_in_pages_in_the_order_of_the_relay_and_goes_on_from_any_place(
    ledger: Ledger,
) -> None:
    ids = [one for _ in range(3) for one in await ledger.say(uuid4(), uuid4())]
    async with ledger.sample.runtime.acquire() as connection:
        told = [t async for page in in_order(connection, Wanted(), page=2) for t in page]
        rest = in_order(connection, Wanted(), after=told[3].place, page=100)
        assert [t.ce_id for t in told] == ids
        assert [t.ce_id async for page in rest for t in page] == ids[4:]


async def test_what_nobody_classified_is_not_shown(ledger: Ledger) -> None:
    tenant_id = uuid4()
    secret = "s3cret-of-a-later-version"
    async with ledger.sample.runtime.acquire() as connection, connection.transaction():
        outbox = Outbox("installer", NOW, NOW)
        outbox.add(a_tenant(tenant_id=tenant_id), type_name="tenant-updated")
        outbox.add(a_tenant(tenant_id=tenant_id), type_name="tenant-updated")
        body = json.loads(a_tenant(tenant_id=tenant_id).encode()) | {"shared_secret": secret}
        object.__setattr__(outbox.rows[0], "payload", json.dumps(body).encode())
        object.__setattr__(outbox.rows[1], "headers", outbox.rows[1].headers.replace("v1", "v9"))
        object.__setattr__(outbox.rows[1], "payload", json.dumps(body).encode())
        await outbox.flush(connection)
    found = await events("find", "--tenant", str(tenant_id))
    assert len(lines(found)) == 2
    assert secret not in found.output
    assert "hidden" in lines(found)[1]["body"]


def test_at_a_terminal_it_is_a_table_with_colours() -> None:
    envelope = an_envelope("tenant-updated")
    seen = Seen(NOW, INSTALLER_TENANTS.name, "partition 0, offset 7", "key", envelope, b"{}")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=300, color_system="standard")
    console.print(table([seen]))
    assert "\x1b[36m" in file.getvalue()
    assert "tenant-updated" in file.getvalue()
    assert str(envelope.id) in file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("find", "--type", "tenant-instaled"), "Did you mean tenant-installed"),
        (("find", "--since", "yesterday"), "Write 2026-11-02T09:30Z"),
        (("find", "--since", "2026-11-02T09:30"), "has no zone"),
        (("find", "--since", "1h", "--until", "2h"), "is not before --until"),
        (("find", "--since", "2999-01-01T00:00Z"), "has not come yet"),
        (("find", "--trace", "xyz"), "32 hexadecimal digits"),
        (("find", "--from", "kafka"), "the outbox or a topic"),
        (("find", "--service", "billing"), "There are installer, config, purger, notifier"),
        (("find",), "Set one or more of KEEPWORD_INSTALLER_DATABASE_URL"),
        (("find", "--service", "purger"), "Set KEEPWORD_PURGER_DATABASE_URL"),
        (("tail",), "Set KAFKA_BOOTSTRAP_SERVERS"),
    ],
)
def test_what_makes_no_sense_is_answered_with_what_would(
    arguments: Sequence[str], advice: str
) -> None:
    refused = keepword(*arguments)
    assert refused.exit_code == 2
    assert advice in refused.stderr


@pytest.mark.parametrize("url", ["postgresql://a:pass-word@127.0.0.1:1/none"])
def test_a_database_that_is_away_is_named_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", url)
    refused = keepword("find")
    assert refused.exit_code == 1
    assert "config" in refused.stderr
    assert "pass-word" not in refused.output


def test_a_kafka_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    refused = keepword("find", "--from", "topic")
    assert refused.exit_code == 1
    assert "Is it running" in refused.stderr


async def say_to_kafka(access: KafkaAccess, *tenants: UUID) -> list[str]:
    ids = []
    async with access.producer() as producer:
        for each in tenants:
            envelope = an_envelope("tenant-updated")
            ids.append(str(envelope.id))
            body = a_tenant(tenant_id=each).encode()
            await producer.send_and_wait(
                INSTALLER_TENANTS.name, body, key=str(each).encode(), headers=to_headers(envelope)
            )
    return ids


@pytest.fixture
async def topics(
    kafka: RunningKafka, access: KafkaAccess, monkeypatch: pytest.MonkeyPatch
) -> KafkaAccess:
    await create_topics(ALL_TOPICS, **access.client_options())
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    return access


async def test_a_topic_is_searched_as_an_outbox_is(topics: KafkaAccess) -> None:
    mine, other = uuid4(), uuid4()
    first, elsewhere, second = await say_to_kafka(topics, mine, other, mine)
    found = await events("find", "--from", "topic", "--tenant", str(mine))
    assert [each["id"] for each in lines(found)] == [first, second]
    shown = await events("show", elsewhere, "--from", "topic")
    assert json.loads(shown.stdout)["tenant_id"] is None
    assert json.loads(shown.stdout)["key"] == str(other)
    none = await events("find", "--from", "topic", "--tenant", str(mine), "--until", "1h")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "Look further back" in none.stderr


async def test_a_record_of_others_is_shown_as_unreadable_and_stops_nothing(
    topics: KafkaAccess,
) -> None:
    mine = uuid4()
    async with topics.producer() as producer:
        await producer.send_and_wait(
            INSTALLER_TENANTS.name, b"\xff", key=str(mine).encode(), headers=[("ce_id", b"\xff")]
        )
    [after] = await say_to_kafka(topics, mine)
    found = lines(await events("find", "--from", "topic", "--tenant", str(mine)))
    assert [each.get("id") for each in found] == [None, after]
    assert "hidden" in found[0]["body"]


async def test_tail_shows_what_comes_and_ends_by_itself_where_asked(topics: KafkaAccess) -> None:
    mine, other = uuid4(), uuid4()
    await say_to_kafka(topics, mine)
    tail = asyncio.create_task(
        events("tail", "--tenant", str(mine), "--since", "1m", "--count", "3")
    )
    _, second, third = await say_to_kafka(topics, other, mine, mine)
    told = lines(await tail)
    assert [each["id"] for each in told[1:]] == [second, third]
    assert {each["key"] for each in told} == {str(mine)}


async def test_ctrl_c_ends_a_tail_cleanly(topics: KafkaAccess, kafka: RunningKafka) -> None:
    mine = uuid4()
    program = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "keepword"),
        "events",
        "tail",
        "--since",
        "1m",
        "--tenant",
        str(mine),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers},
    )
    assert program.stdout is not None
    [said] = await say_to_kafka(topics, mine)
    assert json.loads(await program.stdout.readline())["id"] == said
    program.send_signal(2)
    _, errors = await program.communicate()
    assert (program.returncode, errors) == (0, b"")
