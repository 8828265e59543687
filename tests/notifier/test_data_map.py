import shutil
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import asyncpg

import services.notifier
from chassis.data_map import undeclared
from chassis.migrations import migrate
from devstack.postgres import Roles
from services.notifier.data_map import DATA_MAP
from tests.notifier.builders import NOW
from tests.support.stack import Databases


async def test_every_table_and_column_is_declared(databases: Databases) -> None:
    roles = (await databases("notifier"))["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    connection = await asyncpg.connect(roles.owner_url)
    try:
        assert await undeclared(connection, DATA_MAP) == []

        await connection.execute("CREATE TABLE notes (text text)")
        await connection.execute("ALTER TABLE contacts ADD COLUMN phone text")
        assert await undeclared(connection, DATA_MAP) == [
            "column contacts.phone is not declared",
            "table notes is not declared",
        ]
    finally:
        await connection.close()


async def migrate_up_to(number: int, roles: Roles, folder: Path, *tables: str) -> None:
    """Bring the database to where it was after so many migrations, with these tables."""
    for path in sorted(Path(services.notifier.__file__).with_name("migrations").glob("0*")):
        if int(path.name[:4]) <= number:
            shutil.copy(path, folder)
    known = tuple(table for table in DATA_MAP.tables if table.name in tables)
    await migrate(roles.owner_url, replace(DATA_MAP, tables=known), own=folder)


async def test_states_are_read_once_more_when_licences_begin_to_be_kept(
    databases: Databases, tmp_path: Path
) -> None:
    roles = (await databases("notifier"))["notifier"]
    await migrate_up_to(2, roles, tmp_path, "contacts", "deliveries", "moves", "tenants")
    connection = await asyncpg.connect(roles.owner_url)
    try:
        for topic in ("installer.tenants.v1", "purger.commands.v1"):
            await connection.execute(
                "INSERT INTO positions VALUES ('notifier.main.v1', $1, 0, 'cluster', 7)", topic
            )
        await connection.execute(
            "INSERT INTO followed_states (consumer, topic, tenant_id, epoch, n)"
            " VALUES ('notifier.main.v1', 'installer.tenants.v1', $1, 1, 1)",
            uuid4(),
        )
        await migrate(roles.owner_url, DATA_MAP)
        topics = await connection.fetch("SELECT topic FROM positions")
        assert [row["topic"] for row in topics] == ["purger.commands.v1"]
        assert await connection.fetch("SELECT FROM followed_states") == []
    finally:
        await connection.close()


async def test_who_was_known_before_campaigns_can_still_be_written_to(
    databases: Databases, tmp_path: Path
) -> None:
    roles = (await databases("notifier"))["notifier"]
    await migrate_up_to(3, roles, tmp_path, "contacts", "deliveries", "receipts", "tenants")
    told, untold, tenant_id, contact_id = uuid4(), uuid4(), uuid4(), uuid4()
    connection = await asyncpg.connect(roles.runtime_url)
    try:
        await connection.execute("SELECT set_config('app.tenant', $1, false)", str(tenant_id))
        await connection.execute(
            "INSERT INTO contacts VALUES ($1, $2, 'sealed', 'sealed', 'index')",
            *(tenant_id, contact_id),
        )
        for purge_id in (told, untold):
            await connection.execute(
                "INSERT INTO deliveries (delivery_id, purge_id, tenant_id, contact_id, kind, state,"
                " message_id, planned_at, next_attempt_at)"
                " VALUES (gen_random_uuid(), $1, $2, $3, 'receipt', 'planned', 'x', $4, $4)",
                *(purge_id, tenant_id, contact_id, NOW),
            )
        await connection.execute("INSERT INTO receipts VALUES ($1, 'code', '[]', $2)", told, NOW)

        await migrate(roles.owner_url, DATA_MAP)

        assert await connection.fetchval("SELECT address_index FROM audience") == b"index"
        campaigns = await connection.fetch("SELECT campaign_id, state FROM campaigns")
        assert {row["campaign_id"]: row["state"] for row in campaigns} == {
            told: "sending",
            untold: "waiting",
        }
        indexes = await connection.fetch("SELECT address_index FROM deliveries")
        assert [row["address_index"] for row in indexes] == [b"index", b"index"]
    finally:
        await connection.close()
