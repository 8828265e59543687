"""Row-level security, as the role that serves requests meets it."""

from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.erasure import NOBODY
from chassis.identifiers import uuid7
from services.config import store
from services.config.domain import Datasource, DatasourceInput
from tests.config.builders import NOW, Config, a_datasource

WANTED = DatasourceInput.model_validate(a_datasource())


async def add(config: Config, tenant_id: UUID, name: str = "Sales") -> Datasource:
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        made = await store.add_datasource(
            uow.connection,
            tenant_id,
            uuid7(uow.now),
            WANTED.model_copy(update={"name": name}),
            sealed_credentials=b"sealed",
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
        seen = await uow.connection.fetch("SELECT DISTINCT tenant_id FROM datasources")
    assert [row["tenant_id"] for row in seen] == [mine]


async def test_who_acts_for_nobody_sees_nothing(config: Config) -> None:
    await add(config, await config.tenant())
    assert await config.runtime.fetchval("SELECT count(*) FROM datasources") == 0
    # A connection that acted for somebody before is as blind.
    async with config.runtime.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant', $1, true)", str(uuid4()))
        assert await connection.fetchval("SELECT count(*) FROM datasources") == 0


async def test_nothing_can_be_done_to_rows_of_another_tenant(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    made = await add(config, theirs)
    before = await config.rows(theirs)

    async with config.units.begin() as uow:
        await uow.act_for(mine)
        found = await store.datasource(uow.connection, theirs, made.datasource_id)
        assert found is None
        assert not await store.remove_datasource(
            uow.connection, theirs, made.datasource_id, version=None
        )
        assert await uow.connection.execute("UPDATE datasources SET name = 'x'") == "UPDATE 0"
        assert await uow.connection.execute("DELETE FROM datasources") == "DELETE 0"
    async with config.runtime.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant', $1, true)", str(mine))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await store.add_datasource(
                connection, theirs, uuid4(), WANTED, sealed_credentials=None, now=NOW
            )
    assert await config.rows(theirs) == before


async def test_not_even_the_owner_of_the_table_sees_rows(config: Config) -> None:
    await add(config, await config.tenant())
    connection = await asyncpg.connect(config.roles.owner_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM datasources") == 0
    finally:
        await connection.close()


async def test_the_eraser_sees_the_planted_row_and_may_write_nothing(config: Config) -> None:
    assert len(await config.rows(NOBODY)) == 1
    for statement in (
        "UPDATE datasources SET name = 'x'",
        "INSERT INTO tenants VALUES (gen_random_uuid(), 'installed', 'connect', 'live')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await config.eraser.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await config.worker.fetch("SELECT * FROM datasources")


async def test_a_name_belongs_to_one_datasource_of_a_tenant(config: Config) -> None:
    tenant_id = await config.tenant()
    await add(config, tenant_id)
    second = await add(config, tenant_id, "Other")
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        again = await store.add_datasource(
            uow.connection, tenant_id, uuid4(), WANTED, sealed_credentials=None, now=NOW
        )
        assert again is None
    async with config.runtime.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant', $1, true)", str(tenant_id))
        with pytest.raises(store.NameTaken):
            await store.replace_datasource(
                connection,
                tenant_id,
                second.datasource_id,
                WANTED,
                sealed_credentials=None,
                version=None,
                now=NOW,
            )
    # Another tenant's names are its own affair.
    await add(config, await config.tenant())


async def test_a_replacement_counts_the_version_and_the_time(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await add(config, tenant_id)
    later = NOW + timedelta(hours=1)
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        stale = await store.replace_datasource(
            uow.connection,
            tenant_id,
            made.datasource_id,
            WANTED,
            sealed_credentials=None,
            version=9,
            now=later,
        )
        replaced = await store.replace_datasource(
            uow.connection,
            tenant_id,
            made.datasource_id,
            WANTED,
            sealed_credentials=None,
            version=1,
            now=later,
        )
    assert stale is None
    assert replaced is not None
    assert (replaced.version, replaced.created_at, replaced.updated_at) == (2, NOW, later)
    assert not replaced.has_credentials
