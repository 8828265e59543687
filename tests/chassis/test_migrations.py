"""A database is brought up to date once, by whoever comes first, whole or not at all."""

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from chassis.migrations import migrate
from tests.support.chassis import SAMPLE_MAP
from tests.support.stack import Databases

SAMPLE_MIGRATIONS = Path(__file__).parents[1] / "support" / "sample" / "migrations"


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
        assert await connection.fetchval("SELECT version_num FROM chassis_migrations") == "0001"
    finally:
        await connection.close()


async def test_a_migration_whose_second_statement_fails_leaves_nothing(
    databases: Databases, tmp_path: Path
) -> None:
    own = tmp_path / "migrations"
    shutil.copytree(SAMPLE_MIGRATIONS, own)
    shutil.copy(own / "0001_notes.py", own / "0002_broken.py")
    script = own / "0002_broken.py"
    script.write_text(
        script.read_text()
        .replace('revision = "0001"', 'revision = "0002"')
        .replace("down_revision = None", 'down_revision = "0001"')
    )
    (own / "0002_broken.sql").write_text("CREATE TABLE half (x int); SELECT 1/0;")
    roles = (await databases("sample"))["sample"]
    with pytest.raises(Exception, match="division by zero"):
        await migrate(roles.owner_url, SAMPLE_MAP, own=own)
    connection = await asyncpg.connect(roles.backup_url)
    try:
        assert await connection.fetchval("SELECT version_num FROM sample_migrations") == "0001"
        assert await connection.fetchval("SELECT to_regclass('half')") is None
    finally:
        await connection.close()
