import shutil
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import asyncpg

import services.notifier
from chassis.data_map import undeclared
from chassis.migrations import migrate
from services.notifier.data_map import DATA_MAP
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


async def test_states_are_read_once_more_when_licences_begin_to_be_kept(
    databases: Databases, tmp_path: Path
) -> None:
    roles = (await databases("notifier"))["notifier"]
    for path in Path(services.notifier.__file__).with_name("migrations").glob("000[12]_*"):
        shutil.copy(path, tmp_path)
    later = {"licences", "tickets", "ticket_erasures"}
    before = [table for table in DATA_MAP.tables if table.name not in later]
    await migrate(roles.owner_url, replace(DATA_MAP, tables=tuple(before)), own=tmp_path)
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
