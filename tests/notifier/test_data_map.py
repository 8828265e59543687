import asyncpg

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
