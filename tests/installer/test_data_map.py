"""The declared data is the stored data."""

import asyncpg
import pytest

from chassis.data_map import undeclared
from contracts.classes import DataClass
from services.installer.data_map import DATA_MAP
from tests.installer.conftest import Database


async def test_the_live_schema_is_declared(database: Database) -> None:
    assert await undeclared(database.owner, DATA_MAP) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("CREATE TABLE people (name text)", "table people is not declared"),
        (
            "ALTER TABLE installations ADD COLUMN description text",
            "column installations.description is not declared",
        ),
    ],
)
async def test_what_is_not_declared_is_found(
    database: Database, change: str, difference: str
) -> None:
    transaction = database.owner.transaction()
    await transaction.start()
    try:
        await database.owner.execute(change)
        assert await undeclared(database.owner, DATA_MAP) == [difference]
    finally:
        await transaction.rollback()


def test_an_erasure_takes_the_installation_and_nothing_besides() -> None:
    tables = DATA_MAP.tables_of((DataClass.INSTALLATION,))
    assert [table.name for table in tables] == [
        "installations",
        "aliases",
        "timelines",
        "access_checks",
        "links",
    ]


async def test_the_eraser_cannot_touch_the_record_of_purges(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.eraser.execute("DELETE FROM accepted_purges")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.worker.execute("SELECT FROM installations")
