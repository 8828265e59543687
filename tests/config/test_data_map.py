import asyncpg

from chassis.data_map import undeclared
from chassis.erasure import NOBODY
from chassis.migrations import migrate
from contracts.classes import DataClass
from services.config.data_map import DATA_MAP
from tests.support.stack import Databases, Migrated

# What says whom we serve, and which moves are open, is read before anybody acts for a tenant.
BEFORE_ANYBODY_ACTS = {"tenants", "moves"}


async def test_every_table_and_column_is_declared(databases: Databases) -> None:
    roles = (await databases("config"))["config"]
    await migrate(roles.owner_url, DATA_MAP)
    connection = await asyncpg.connect(roles.owner_url)
    try:
        assert await undeclared(connection, DATA_MAP) == []

        await connection.execute("CREATE TABLE notes (text text)")
        await connection.execute("ALTER TABLE things ADD COLUMN owner_name text")
        assert await undeclared(connection, DATA_MAP) == [
            "column things.owner_name is not declared",
            "table notes is not declared",
        ]
    finally:
        await connection.close()


async def test_every_table_of_content_hides_each_tenant_from_every_other(
    migrated: Migrated,
) -> None:
    """By the catalogue: a table that is added without its policy fails here."""
    roles = await migrated(DATA_MAP)
    connection = await asyncpg.connect(roles.owner_url)
    try:
        tables = {
            row["relname"]: row
            for row in await connection.fetch(
                """
                SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced,
                       array_agg(p.polname || ' ' || p.polcmd::text || ' '
                                 || r.rolname || ' ' || pg_get_expr(p.polqual, p.polrelid)
                                 ORDER BY p.polname) AS policies
                  FROM pg_class c
                  JOIN pg_policy p ON p.polrelid = c.oid
                  JOIN pg_roles r ON r.oid = ANY(p.polroles)
                 GROUP BY 1, 2
                """
            )
        }
        hidden = {
            table.name
            for table in DATA_MAP.tables_of((DataClass.CONTENT, DataClass.ERRORS))
            if table.name not in BEFORE_ANYBODY_ACTS
        }
        assert hidden == tables.keys()
        own = "(tenant_id = (NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid)"
        for name, row in tables.items():
            assert row["forced"], name
            assert f"own_tenant * config_runtime {own}" in row["policies"], name
            assert "eraser_sees_all r config_eraser true" in row["policies"], name
            others = [each for each in row["policies"] if "config_runtime" in each]
            assert len(others) == 1, name
        roles_that_bypass = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'config%' AND rolbypassrls"
        )
        assert [row["rolname"] for row in roles_that_bypass] == ["config_backup"]
    finally:
        await connection.close()

    eraser = await asyncpg.connect(roles.eraser_url)
    try:
        for name in hidden:
            planted = await eraser.fetchval(
                f"SELECT count(*) FROM {name} WHERE tenant_id = $1", NOBODY
            )
            assert planted == 1, name
    finally:
        await eraser.close()
