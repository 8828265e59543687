"""Row-level security, as the role that serves requests meets it."""

from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.erasure import NOBODY
from chassis.identifiers import uuid7
from services.config.domain.datasources import Datasource
from services.config.domain.kinds import KIND_OF
from services.config.domain.things import Thing
from services.config.store import things
from tests.config.builders import NOW, Config, a_datasource

WANTED = Datasource.model_validate(a_datasource())
DATASOURCE = KIND_OF["datasource"]
UNDER_RLS = (
    "things",
    "thing_references",
    "thing_versions",
    "tenant_totals",
    "idempotency_keys",
    "export_tickets",
)


async def add(config: Config, tenant_id: UUID, name: str = "Sales") -> Thing:
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        made = await things.add(
            uow.connection,
            tenant_id,
            DATASOURCE,
            uuid7(uow.now),
            WANTED,
            name=name,
            credentials=b"sealed",
            now=uow.now,
        )
    assert made is not None
    return made


async def test_a_query_without_any_condition_sees_the_acting_tenant_alone(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    await add(config, mine)
    await add(config, theirs)

    async with config.units.begin() as uow:
        await uow.act_for(mine)
        seen = await uow.connection.fetch("SELECT DISTINCT tenant_id FROM things")
    assert [row["tenant_id"] for row in seen] == [mine]


async def test_who_acts_for_nobody_sees_nothing(config: Config) -> None:
    await add(config, await config.tenant())
    # A connection that acted for somebody before is as blind.
    async with config.runtime.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant', $1, true)", str(uuid4()))
        for name in UNDER_RLS:
            assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0, name


async def test_two_tenants_on_one_connection_see_their_own_one_after_the_other(
    config: Config,
) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    await add(config, mine, "mine")
    await add(config, theirs, "theirs")
    async with config.runtime.acquire() as connection:
        for tenant_id, name in ((mine, "mine"), (theirs, "theirs"), (mine, "mine")):
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('app.tenant', $1, true)", str(tenant_id)
                )
                seen = await connection.fetch("SELECT name FROM things")
            assert [row["name"] for row in seen] == [name]


async def test_nothing_can_be_done_to_rows_of_another_tenant(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    made = await add(config, theirs)
    before = await config.rows(theirs)

    async with config.units.begin() as uow:
        await uow.act_for(mine)
        found = await things.find(uow.connection, theirs, DATASOURCE, made.thing_id, lock=True)
        assert found is None
        await things.remove(uow.connection, theirs, made.thing_id)
        assert await uow.connection.execute("UPDATE things SET name = 'x'") == "UPDATE 0"
        assert await uow.connection.execute("DELETE FROM things") == "DELETE 0"
    async with config.runtime.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant', $1, true)", str(mine))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await things.add(
                connection, theirs, DATASOURCE, uuid4(), WANTED, credentials=None, now=NOW
            )
    assert await config.rows(theirs) == before


async def test_not_even_the_owner_of_the_table_sees_rows(config: Config) -> None:
    await add(config, await config.tenant())
    connection = await asyncpg.connect(config.roles.owner_url)
    try:
        for name in UNDER_RLS:
            assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0, name
    finally:
        await connection.close()


async def test_the_eraser_sees_the_planted_row_and_may_write_nothing(config: Config) -> None:
    assert len(await config.rows(NOBODY)) == 1
    for statement in (
        "UPDATE things SET name = 'x'",
        "INSERT INTO tenants VALUES (gen_random_uuid(), 'installed', 'connect', 'live')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await config.eraser.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await config.worker.fetch("SELECT * FROM things")


async def test_a_name_belongs_to_one_thing_of_a_tenant_and_kind(config: Config) -> None:
    tenant_id = await config.tenant()
    await add(config, tenant_id)
    second = await add(config, tenant_id, "Other")
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        again = await things.add(
            uow.connection, tenant_id, DATASOURCE, uuid4(), WANTED, credentials=None, now=NOW
        )
        assert again is None
    async with config.runtime.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant', $1, true)", str(tenant_id))
        with pytest.raises(things.NameTaken):
            await things.replace(
                connection,
                tenant_id,
                DATASOURCE,
                second,
                WANTED,
                credentials=None,
                now=NOW,
                versions_kept=5,
            )
    # Another tenant's names are its own affair.
    await add(config, await config.tenant())


async def test_a_replacement_counts_the_version_and_the_time(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await add(config, tenant_id)
    later = NOW + timedelta(hours=1)
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        replaced = await things.replace(
            uow.connection,
            tenant_id,
            DATASOURCE,
            made,
            WANTED,
            credentials=None,
            now=later,
            versions_kept=5,
        )
    assert (replaced.version, replaced.created_at, replaced.updated_at) == (2, NOW, later)
    assert not replaced.has_credentials
