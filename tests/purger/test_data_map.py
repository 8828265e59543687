"""The data map says what the live schema has."""

import asyncpg

from chassis.data_map import undeclared
from services.purger.data_map import DATA_MAP
from tests.purger.conftest import Purger


async def test_every_table_and_column_is_declared(purger: Purger) -> None:
    connection = await asyncpg.connect(purger.roles.owner_url)
    try:
        assert await undeclared(connection, DATA_MAP) == []
    finally:
        await connection.close()


async def test_what_a_later_migration_adds_without_declaring_it_is_found(
    other_purger: Purger,
) -> None:
    connection = await asyncpg.connect(other_purger.roles.owner_url)
    try:
        await connection.execute("ALTER TABLE purges ADD COLUMN contact text")
        await connection.execute("CREATE TABLE people (name text)")

        assert await undeclared(connection, DATA_MAP) == [
            "column purges.contact is not declared",
            "table people is not declared",
        ]
    finally:
        await connection.close()
