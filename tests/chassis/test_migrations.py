"""A database is brought up to date once, by whoever comes first, whole or not at all."""

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

import chassis.migrations
from chassis.migrations import migrate
from chassis.versions import DatabaseTooNewError, behind
from tests.support.chassis import SAMPLE_MAP
from tests.support.stack import Databases

SAMPLE_MIGRATIONS = Path(__file__).parents[1] / "support" / "sample" / "migrations"

PLUMBING = max(path.name for path in Path(chassis.migrations.__file__).parent.glob("*.sql"))[:4]


def add_migration(own: Path, sql: str) -> None:
    """Write a second migration of the sample service."""
    script = (own / "0001_notes.py").read_text()
    (own / "0002_more.py").write_text(
        script.replace('revision = "0001"', 'revision = "0002"').replace(
            "down_revision = None", 'down_revision = "0001"'
        )
    )
    (own / "0002_more.sql").write_text(sql)


async def test_several_at_once_and_again_leave_one_database_up_to_date(
    databases: Databases,
) -> None:
    roles = (await databases("sample"))["sample"]
    await asyncio.gather(
        *(migrate(roles.owner_url, SAMPLE_MAP, own=SAMPLE_MIGRATIONS) for _ in range(3))
    )
    await migrate(roles.owner_url, SAMPLE_MAP, own=SAMPLE_MIGRATIONS)
    connection = await asyncpg.connect(roles.backup_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM notes") == 1
        assert await connection.fetchval("SELECT version_num FROM sample_migrations") == "0001"
        assert await connection.fetchval("SELECT version_num FROM chassis_migrations") == PLUMBING
    finally:
        await connection.close()


async def test_a_service_goes_on_where_the_plumbing_has_nothing_new(
    databases: Databases, tmp_path: Path
) -> None:
    own = tmp_path / "migrations"
    shutil.copytree(SAMPLE_MIGRATIONS, own)
    roles = (await databases("sample"))["sample"]
    await migrate(roles.owner_url, SAMPLE_MAP, own=own)
    add_migration(own, "CREATE TABLE more (x int);")
    await migrate(roles.owner_url, SAMPLE_MAP, own=own)
    connection = await asyncpg.connect(roles.backup_url)
    try:
        assert await connection.fetchval("SELECT version_num FROM sample_migrations") == "0002"
        assert await connection.fetchval("SELECT to_regclass('more')") is not None
    finally:
        await connection.close()


async def test_a_migration_whose_second_statement_fails_leaves_nothing(
    databases: Databases, tmp_path: Path
) -> None:
    own = tmp_path / "migrations"
    shutil.copytree(SAMPLE_MIGRATIONS, own)
    add_migration(own, "CREATE TABLE half (x int); SELECT 1/0;")
    roles = (await databases("sample"))["sample"]
    with pytest.raises(Exception, match="division by zero"):
        await migrate(roles.owner_url, SAMPLE_MAP, own=own)
    connection = await asyncpg.connect(roles.backup_url)
    try:
        assert await connection.fetchval("SELECT version_num FROM sample_migrations") == "0001"
        assert await connection.fetchval("SELECT to_regclass('half')") is None
    finally:
        await connection.close()


async def test_code_of_one_release_back_works_on_a_newer_database_and_leaves_it_alone(
    databases: Databases, tmp_path: Path
) -> None:
    newer = tmp_path / "migrations"
    shutil.copytree(SAMPLE_MIGRATIONS, newer)
    add_migration(newer, "CREATE TABLE more (x int); COMMENT ON TABLE more IS 'here';")
    roles = (await databases("sample"))["sample"]
    await migrate(roles.owner_url, SAMPLE_MAP, own=newer)
    connection = await asyncpg.connect(roles.owner_url)
    try:
        assert await behind(connection, "sample", own=SAMPLE_MIGRATIONS) == {}
        await migrate(roles.owner_url, SAMPLE_MAP, own=SAMPLE_MIGRATIONS)
        assert await connection.fetchval("SELECT version_num FROM sample_migrations") == "0002"
    finally:
        await connection.close()


async def test_a_migration_says_which_code_it_leaves_behind(
    databases: Databases, tmp_path: Path
) -> None:
    newer = tmp_path / "migrations"
    shutil.copytree(SAMPLE_MIGRATIONS, newer)
    add_migration(newer, "DROP TABLE IF EXISTS nothing;")
    script = newer / "0002_more.py"
    script.write_text(f'{script.read_text()}\nneeds = "0002"\n')
    roles = (await databases("sample"))["sample"]
    await migrate(roles.owner_url, SAMPLE_MAP, own=newer)
    connection = await asyncpg.connect(roles.runtime_url)
    try:
        assert await behind(connection, "sample", own=newer) == {}
        with pytest.raises(DatabaseTooNewError, match="needs code that knows 0002"):
            await behind(connection, "sample", own=SAMPLE_MIGRATIONS)
    finally:
        await connection.close()
    with pytest.raises(DatabaseTooNewError):
        await migrate(roles.owner_url, SAMPLE_MAP, own=SAMPLE_MIGRATIONS)
