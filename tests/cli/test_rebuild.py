"""`keepword events restate` and `rebuild`, and that the data maps tell the truth about what is built."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.clock import SystemClock
from chassis.consumer import main_group
from chassis.database import Pool, connect, open_pool
from chassis.epochs import ensure_epoch
from chassis.handlers import Handlers
from chassis.rebuild import built_tables, forget_built
from chassis.relay import LEADER_LOCK
from chassis.unit_of_work import Units
from cli.main import command_line
from contracts.messages import Kind
from contracts.purges import PurgeState
from contracts.registry import topic_of
from contracts.tenants import TenantState, Version
from contracts.topics import INSTALLER_TENANTS, SERVICES
from devstack.journey import data_map_of
from devstack.postgres import Roles
from services.purger.domain.dates import Retention
from services.purger.handlers import replan_purges
from tests.cli.test_events import nothing_given  # noqa: F401 - for each test here as well
from tests.support.chassis import a_tenant
from tests.support.stack import Migrated

_WRITTEN = """
    SELECT relname FROM pg_stat_xact_user_tables
     WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND relname = ANY($1::text[])
"""
BUILDERS = [each for each in SERVICES if built_tables(data_map_of(each))]


async def events(*arguments: str, typed: str | None = None) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    given = ["events", *arguments]
    return await asyncio.to_thread(CliRunner().invoke, command_line(), given, typed)


async def ensure_epoch_in(roles: Roles, clock: SystemClock) -> None:
    connection = await connect(roles.worker_url, name="tests")
    await ensure_epoch(connection, wall=clock.wall())
    await connection.close()


@asynccontextmanager
async def units_of(service: str, roles: Roles) -> AsyncIterator[Units[Any]]:
    context = SimpleNamespace(retention=Retention(), silence=None)
    async with await open_pool(roles.runtime_url, name="tests", max_size=2) as pool:
        clock = SystemClock()
        await ensure_epoch_in(roles, clock)
        yield Units(service, pool, clock, context, lambda: None)


async def rows_of(pool: Pool, table: str) -> list[str]:
    rows = await pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
    return [row[0] for row in rows]


async def follow(units: Units[Any], *tenants: UUID) -> set[str]:
    """Let a service follow states as its consumer would; name the tables that this wrote."""
    handlers: Handlers[Any] = import_module(f"services.{units.service}.handlers").handlers
    written: set[str] = set()
    for model, handler in handlers.by_model.items():
        if handler.kind is not Kind.STATE or handler.once:
            continue
        topic = topic_of(model).name
        async with units.begin() as uow:
            for tenant_id in tenants:
                version = Version(epoch=1, n=7)
                message: Any = (
                    a_tenant(tenant_id=tenant_id, n=7)
                    if model is TenantState
                    else PurgeState(tenant_id=tenant_id, version=version, plans=())
                )
                await handler.function(message, uow)
            own = [table.name for table in data_map_of(units.service).tables]
            rows = await uow.connection.fetch(_WRITTEN, own)
            written |= {row["relname"] for row in rows}
        for tenant_id in tenants:
            await units.pool.execute(
                "INSERT INTO followed_states VALUES ($1, $2, $3, 1, 7)"
                " ON CONFLICT (consumer, topic, tenant_id) DO UPDATE SET n = 7",
                main_group(units.service),
                topic,
                tenant_id,
            )
    return written


@pytest.mark.parametrize("service", BUILDERS)
async def test_what_a_service_builds_from_states_is_what_its_data_map_says(
    service: str, emptied: Migrated
) -> None:
    data_map = data_map_of(service)
    tables = built_tables(data_map)
    async with units_of(service, await emptied(data_map)) as units:
        tenants = [uuid4(), uuid4()]
        assert await follow(units, *tenants) == {table.name for table in tables}
        before = {table.name: await rows_of(units.pool, table.name) for table in tables}
        assert all(before.values())
        async with units.begin() as uow:
            gone = await forget_built(
                uow.connection, tables, consumer=main_group(service), reread=True
            )
        assert gone == {table.name: 2 for table in tables if not table.rows_stay}
        for table in tables:
            stays = before[table.name] if table.rows_stay else []
            assert await rows_of(units.pool, table.name) == stays
        await follow(units, *tenants)
        assert {t.name: await rows_of(units.pool, t.name) for t in tables} == before


async def test_only_the_newest_version_is_taken_again(emptied: Migrated) -> None:
    async with units_of("config", await emptied(data_map_of("config"))) as units:
        tenant_id = uuid4()
        await follow(units, tenant_id)
        async with units.begin() as uow:
            tables = built_tables(data_map_of("config"))
            await forget_built(uow.connection, tables, consumer="config.main.v1", reread=False)
        assert (
            await units.pool.fetchval(
                "SELECT n FROM followed_states WHERE topic = $1", INSTALLER_TENANTS.name
            )
            == 6
        )


@pytest.fixture
async def config(emptied: Migrated, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    roles = await emptied(data_map_of("config"))
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", roles.runtime_url)
    async with units_of("config", roles) as units:
        await follow(units, uuid4(), uuid4())
        await units.pool.execute(
            "INSERT INTO positions VALUES ('config.main.v1', $1, 3, 'here', 77),"
            " ('config.main.v1', 'purger.commands.v1', 0, 'here', 5)",
            INSTALLER_TENANTS.name,
        )
        yield units.pool


async def positions(config: Pool) -> dict[str, int]:
    rows = await config.fetch("SELECT topic, next_offset FROM positions")
    return {row["topic"]: row["next_offset"] for row in rows}


async def test_a_rebuild_forgets_what_was_built_and_reads_from_the_beginning(config: Pool) -> None:
    done = await events("rebuild", "config", typed="config\n")
    assert done.exit_code == 0, done.output
    assert "6 rows are gone. Start config" in done.output
    assert await rows_of(config, "tenants") == await rows_of(config, "purge_states") == []
    # A command that was obeyed is not obeyed again.
    assert await positions(config) == {INSTALLER_TENANTS.name: 0, "purger.commands.v1": 5}


@pytest.mark.parametrize(
    ("arguments", "typed", "status"),
    [(("--dry-run",), None, 0), ((), "yes\n", 1), (("--confirm", "purger"), None, 1)],
)
async def test_a_dry_run_and_whoever_types_something_else_change_nothing(
    config: Pool, arguments: tuple[str, ...], typed: str | None, status: int
) -> None:
    done = await events("rebuild", "config", *arguments, typed=typed)
    assert done.exit_code == status
    assert "Nothing was changed" in done.output
    assert "dropped and built anew" in done.output
    assert len(await rows_of(config, "tenants")) == 2
    assert (await positions(config))[INSTALLER_TENANTS.name] == 77


async def test_a_service_that_runs_is_not_rebuilt(config: Pool) -> None:
    async with config.acquire() as running:
        await running.execute("SELECT pg_advisory_lock($1)", LEADER_LOCK)
        refused = await events("rebuild", "config", "--confirm", "config")
        await running.execute("SELECT pg_advisory_unlock($1)", LEADER_LOCK)
    assert refused.exit_code == 1
    assert "Stop all its replicas first" in refused.output
    assert len(await rows_of(config, "tenants")) == 2


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("rebuild", "billing"), "There are installer, config, purger, notifier"),
        (("rebuild", "installer"), "Those that do: config, purger, notifier"),
        (("rebuild", "config"), "Set KEEPWORD_CONFIG_DATABASE_URL"),
        (("restate", "config"), "Those that do: installer, purger, notifier"),
        (("restate", "notifier", "--tenant", str(uuid4())), "Leave --tenant out"),
        (("restate",), "No database is named"),
    ],
)
async def test_what_makes_no_sense_is_answered_with_what_would(
    arguments: tuple[str, ...], advice: str
) -> None:
    refused = await events(*arguments)
    assert refused.exit_code == 2
    assert advice in refused.stderr


async def said(url: str) -> list[tuple[UUID, int]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tenant_id, payload FROM outbox ORDER BY position")
        states = [PurgeState.decode(row["payload"]) for row in rows if row["payload"]]
        return [(each.tenant_id, each.version.n) for each in states]
    finally:
        await connection.close()


async def test_an_owner_says_the_state_of_all_tenants_or_of_some_again(
    emptied: Migrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = await emptied(data_map_of("purger"))
    monkeypatch.setenv("KEEPWORD_PURGER_DATABASE_URL", roles.runtime_url)
    async with units_of("purger", roles) as units:
        tenants = sorted((uuid4(), uuid4()))
        async with units.begin() as uow:
            for each in tenants:
                await replan_purges(a_tenant(tenant_id=each), uow)
        await units.pool.executemany(
            "INSERT INTO purge_states (tenant_id, epoch, n) VALUES ($1, 1, 1)"
            " ON CONFLICT DO NOTHING",
            [(each,) for each in tenants],
        )
        everything = await events("restate")
        assert "purger: 2 messages are on their way" in everything.output, everything.output
        assert [tenant_id for tenant_id, _ in await said(roles.runtime_url)] == tenants
        gone = uuid4()
        some = await events("restate", "--tenant", str(tenants[0]), "--tenant", str(gone))
        assert some.exit_code == 1
        assert f"Nobody has a state of {gone}" in some.output
        assert len(await said(roles.runtime_url)) == 3
