"""Engineers at night: what was built comes back the same, and what is heard again changes nothing."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.consumer import main_group
from chassis.migrations import migrate
from chassis.rebuild import built_tables
from contracts.purges import Phase
from contracts.topics import REPLAYS, SERVICES, Topic, subscriptions
from devstack.journey import Journey, data_map_of
from tests.support.drills import RUNBOOKS, Drill
from tests.support.journey import entrust, leave, let_it_start, whole_ledger
from tests.support.runbooks import commands, follow, run

RUNBOOK = RUNBOOKS / "replay.md"

# What changes by itself while nothing happens: when jobs looked last, and when they look next.
OF_THE_CLOCK = {
    "installer": {"access_checks", "licence_reports"},
    "purger": {"brake", "comparisons", "differences", "ledger_check", "ledger_publication"},
    "notifier": {"mail_domains", "licence_reports"},
    "config": set[str](),
}
WHY = {"NAME": "kim", "REASON": "a drill"}


async def engineer(drill: Drill, block: str, **variables: str) -> str:
    """Follow a block of the runbook."""
    return await follow(RUNBOOK, block, drill.environment() | variables)


async def rows(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def built(url: str, service: str, *, versions: bool = True) -> dict[str, list[str]]:
    """All that a service has built from events; without the versions at which it was said."""
    version = "" if versions else " #- '{state,version}' #- '{epoch}' #- '{n}'"
    return {
        table.name: await rows(
            url, f"SELECT (to_jsonb(t){version})::text FROM {table.name} t ORDER BY 1"
        )
        for table in built_tables(data_map_of(service))
    }


async def everything(drill: Drill) -> Mapping[str, str]:
    """The rows of all services' own tables, hashed."""
    found = {}
    for service, roles in drill.stack.databases.items():
        for table in data_map_of(service).tables:
            if table.name not in OF_THE_CLOCK[service]:
                [found[f"{service}.{table.name}"]] = await rows(
                    roles.backup_url,
                    "SELECT md5(coalesce(string_agg(t::text, '\n' ORDER BY t::text), ''))"
                    f" FROM {table.name} t",
                )
    return found


async def until_heard(drill: Drill, service: str, *also: Topic) -> None:
    """Wait until all was said and a service has heard all of it."""
    topics = [each for each in subscriptions(service) if each.owner != service or each in also]
    consumer = AIOKafkaConsumer(**drill.stack.kafka_options)
    await consumer.start()
    try:

        async def heard() -> bool | None:
            for roles in drill.stack.databases.values():
                unsent = await rows(
                    roles.backup_url,
                    "SELECT count(*) FROM outbox o JOIN relay_cursor c USING (epoch)"
                    " WHERE (o.xid, o.position) > (c.xid, c.position)",
                )
                if unsent != [0]:
                    return None
            ends = await consumer.end_offsets(
                [TopicPartition(t.name, n) for t in topics for n in range(t.partitions)]
            )
            connection = await asyncpg.connect(drill.stack.databases[service].backup_url)
            try:
                read = {
                    TopicPartition(row["topic"], row["partition"]): row["next_offset"]
                    for row in await connection.fetch(
                        "SELECT topic, partition, next_offset FROM positions WHERE consumer = $1",
                        main_group(service),
                    )
                }
            finally:
                await connection.close()
            ours = {p: end for p, end in ends.items() if p in read}
            return True if ours and all(read[p] >= end for p, end in ours.items()) else None

        await drill.customer("nobody").until(heard, f"{service} has heard everything")
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
async def customers(drill: Drill) -> tuple[Journey, Journey, Journey]:
    """One who was purged, one who is leaving, one who stays."""
    gone, leaving, staying = (drill.customer(name) for name in ("gone", "leaving", "staying"))
    given = await entrust(gone)
    await let_it_start(gone, await leave(gone))
    await gone.wait_for_phase(Phase.CLOSED)
    await gone.wait_until_gone()
    await gone.wait_for_receipt_mail(given.address)
    await entrust(leaving)
    await entrust(staying)
    plan = await leave(leaving)
    await leaving.move_to(plan.start_at - timedelta(days=20))
    # Its jobs run when it starts: people are reminded of the purge, by a command.
    drill.stack.kill("purger")
    await drill.start("purger")
    await until_told(drill, "reminder")
    return gone, leaving, staying


@pytest.mark.timeout(400)
async def test_all_replayed_twice_into_everything_changes_nothing_and_mails_nobody(
    drill: Drill,
    customers: tuple[Journey, Journey, Journey],
) -> None:
    gone, *_ = customers
    for service in SERVICES:
        await until_heard(drill, service)
    await until_told(drill)
    before, ledger = await everything(drill), await whole_ledger(gone)
    mails = await mails_in(drill)
    sent = Counter[str]()
    for source in ("outbox", "topic"):
        for service in SERVICES:
            # Where there is nothing it ends with a status of its own.
            plan = f"{commands(RUNBOOK, 'plan').strip()} || true"
            given = {"SERVICE": service, "SOURCE": source, **WHY}
            planned = await run(plan, drill.environment() | given)
            [number] = re.findall(r"messages\s*│\s*(\d+)", planned)
            sent[service] += int(number)
            if number != "0":
                await engineer(drill, "replay", NUMBER=number, **given)
    assert sent["purger"] > 0
    assert sent["notifier"] > 0
    for service in SERVICES:
        await until_heard(drill, service, REPLAYS[service])
        listed = await engineer(drill, "replays", SERVICE=service)
        assert ("a drill" in listed) == (sent[service] > 0)
    assert await everything(drill) == before
    assert await whole_ledger(gone) == ledger
    assert await mails_in(drill) == mails
    assert str(gone.tenant_id) in await engineer(drill, "find", TENANT=str(gone.tenant_id))


async def until_told(drill: Drill, *kinds: str) -> None:
    """Wait until whoever is to be welcomed was, these were sent, and no mail is on its way."""

    async def told() -> bool | None:
        url = drill.stack.databases["notifier"].backup_url
        waiting = await rows(
            url,
            "SELECT (SELECT count(*) FROM lifecycles WHERE installed AND NOT welcomed)"
            " + (SELECT count(*) FROM deliveries WHERE state IN ('planned', 'sending'))",
        )
        sent = await rows(url, "SELECT DISTINCT kind FROM deliveries WHERE state = 'sent'")
        return True if waiting == [0] and set(kinds) <= set(sent) else None

    await drill.customer("nobody").until(told, "everybody was told")


async def mails_in(drill: Drill) -> int:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{drill.stack.endpoints.mail}/messages.json")
        return len(answer.json())


@pytest.mark.timeout(300)
async def test_a_rebuilt_reader_and_a_new_one_have_what_the_old_one_had(
    drill: Drill,
    customers: tuple[Journey, Journey, Journey],
) -> None:
    await until_heard(drill, "config")
    old = drill.stack.databases["config"]
    before = await built(old.backup_url, "config")
    assert all(before.values())

    drill.stack.kill("config")
    await engineer(drill, "rebuild", SERVICE="config")
    assert not any((await built(old.backup_url, "config")).values())
    await drill.start("config")
    await until_heard(drill, "config")
    assert await built(old.backup_url, "config") == before

    # A new one that never saw what was said before, but hears what is said from now on.
    drill.stack.kill("config")
    roles, _ = await drill.fresh_databases("config")
    await migrate(roles["config"].owner_url, data_map_of("config"))
    await carry_positions(old.backup_url, roles["config"].owner_url)
    drill.stack.move_database("config", roles["config"])
    await drill.start("config")
    assert not any((await built(roles["config"].backup_url, "config")).values())
    await engineer(drill, "restate")
    await until_heard(drill, "config")
    untouched = await built(old.backup_url, "config", versions=False)
    assert await built(roles["config"].backup_url, "config", versions=False) == untouched


async def carry_positions(old: str, new: str) -> None:
    """Let a new database begin where the old one has come."""
    source, target = await asyncpg.connect(old), await asyncpg.connect(new)
    try:
        known = await source.fetch("SELECT * FROM positions WHERE consumer = 'config.main.v1'")
        await target.executemany(
            "INSERT INTO positions VALUES ($1, $2, $3, $4, $5)", [tuple(row) for row in known]
        )
    finally:
        await source.close()
        await target.close()


@pytest.mark.timeout(300)
async def test_a_restored_database_catches_up_to_what_the_lost_one_had(
    drill: Drill,
    customers: tuple[Journey, Journey, Journey],
) -> None:
    *_, staying = customers
    yesterday: Path = await drill.dump("config")
    late = drill.customer("late")
    await entrust(late)
    await leave(staying)
    await until_heard(drill, "config")
    lost = drill.stack.databases["config"]
    drill.stack.kill("config")
    await drill.restore({"config": yesterday})
    await until_heard(drill, "config")
    restored = await built(drill.stack.databases["config"].backup_url, "config")
    assert restored == await built(lost.backup_url, "config")
    assert len(restored["tenants"]) == 3
