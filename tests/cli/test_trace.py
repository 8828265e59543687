"""`keepword trace` on real databases: a timeline that names nobody."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner

from chassis.clock import ManualClock
from chassis.database import Connection, open_pool
from chassis.epochs import ensure_epoch
from chassis.unit_of_work import Units
from cli import trace
from cli.databases import database_variable
from cli.main import command_line
from contracts.classes import DataClass
from contracts.purges import DataErased
from contracts.topics import SERVICES
from devstack.journey import data_map_of
from devstack.postgres import Roles
from tests.support.stack import Migrated

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WHO = "eve@example.com"


async def run(
    databases: dict[str, Roles], tenant_id: UUID
) -> tuple[int, list[dict[str, Any]], str]:
    # Nothing that somebody has set for their own use counts.
    environment = dict.fromkeys(map(database_variable, SERVICES), "") | {
        database_variable(service): roles.runtime_url for service, roles in databases.items()
    }
    done = await asyncio.to_thread(
        CliRunner().invoke, command_line(), ["trace", str(tenant_id)], env=environment
    )
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


async def test_every_statement_fits_its_service_and_nobody_is_nothing(emptied: Migrated) -> None:
    databases = {service: await emptied(data_map_of(service)) for service in SERVICES}
    status, told, aside = await run(databases, uuid4())
    assert (status, told) == (1, [])
    assert "Nothing is known" in aside


async def test_what_services_did_is_one_timeline_without_people(emptied: Migrated) -> None:
    databases = {service: await emptied(data_map_of(service)) for service in ("config", "notifier")}
    tenant, purge, clock = uuid4(), uuid4(), ManualClock(NOW)
    async with await open_pool(databases["config"].runtime_url, name="tests") as pool:
        async with pool.acquire() as connection:
            await ensure_epoch(connection, wall=NOW)
        units: Units[None] = Units("config", pool, clock, None, lambda: None)
        async with units.begin() as uow:
            uow.outbox.add(
                DataErased(
                    purge_id=purge,
                    step="erase-config",
                    tenant_id=tenant,
                    owner="config",
                    ledger_number=1,
                    counts={DataClass.CONTENT: 2},
                    remaining=0,
                    data_map_hash="0" * 64,
                    erased_at=NOW,
                )
            )
            event = await _planted_in_config(uow.connection, tenant, purge)
        said = await pool.fetchval("SELECT ce_id FROM outbox")
    notifier = await asyncpg.connect(databases["notifier"].owner_url)
    await notifier.execute(
        "INSERT INTO inbox VALUES ('notifier.main.v1', $1, NULL, $2)",
        said,
        NOW + timedelta(seconds=2),
    )
    await notifier.execute(
        "INSERT INTO notices VALUES ($1, $2, 'welcome', $3, '{}', $4, $4)",
        uuid4(), tenant, WHO, NOW - timedelta(days=9),
    )  # fmt: skip
    await notifier.close()

    status, told, aside = await run(databases, tenant)
    assert status == 0, aside
    assert "not looked at: installer, purger" in aside
    assert [(each["service"], each["what"]) for each in told] == [
        ("notifier", "has to tell the tenant's people: welcome"),
        ("config", "gave up purge-started"),
        ("config", "a person discarded a dead letter"),
        ("config", "settled a dead letter: discarded"),
        ("config", "set the guard"),
        ("config", "said data-erased"),
        ("notifier", "handled data-erased"),
    ]
    assert told[-1]["about"] == {"of": "config", "event": str(said)}
    assert told[1]["about"]["letter"] == str(event)
    assert WHO not in json.dumps(told)


async def _planted_in_config(connection: Connection, tenant: UUID, purge: UUID) -> UUID:
    letter = uuid4()
    await connection.execute(
        """
        INSERT INTO dead_letters (dead_letter_id, consumer, handler, topic, partition,
            record_offset, tenant_id, type, headers, payload, reason, fingerprint, attempts,
            first_failed_at, state, settled_at)
        VALUES ($1, 'c', 'erase', 't', 0, 0, $2, 'keepword.purge-started.v1', '[]', $3,
                'handler raised ValueError', 'f', 4, $4, 'discarded', $5)
        """,
        letter,
        tenant,
        WHO.encode(),
        NOW - timedelta(hours=3),
        NOW - timedelta(hours=1),
    )
    await connection.execute(
        "INSERT INTO dead_letter_acts (dead_letter_id, fingerprint, act, by_whom, reason, at)"
        " VALUES ($1, 'f', 'discarded', $2, $2, $3)",
        letter,
        WHO,
        NOW - timedelta(hours=2),
    )
    await connection.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'content', 1, $2, $3)",
        tenant,
        purge,
        NOW - timedelta(minutes=1),
    )
    return letter


async def test_a_database_that_is_away_is_named_and_the_others_tell(emptied: Migrated) -> None:
    config = await emptied(data_map_of("config"))
    urls = {"config": config.runtime_url, "purger": "postgresql://nobody:secret@127.0.0.1:1/purger"}
    story = await trace.tell(urls, uuid4())
    assert list(story.failed) == ["purger"]
    assert "secret" not in story.failed["purger"]


def test_nothing_to_look_at_is_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES:
        monkeypatch.delenv(database_variable(service), raising=False)
    assert trace.run_trace(uuid4()) == 2
