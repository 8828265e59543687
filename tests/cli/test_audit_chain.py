"""`keepword audit verify` on a real database."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis import audit
from chassis.database import prepare_connection
from cli.main import command_line
from services.config.data_map import DATA_MAP
from tests.support.stack import Migrated

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def verify(*options: str) -> Result:
    command = ["audit", "verify", "config", *options]
    return await asyncio.to_thread(CliRunner().invoke, command_line(), command)


async def test_a_whole_audit_and_one_that_was_tampered_with_are_told_apart(
    migrated: Migrated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    roles = await migrated(DATA_MAP)
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", roles.runtime_url)
    owner = await asyncpg.connect(roles.owner_url)
    try:
        await prepare_connection(owner)
        await owner.execute("SELECT audit_make_partitions($1::date, 1)", NOW.date())
        for _ in range(2):
            async with owner.transaction():
                await audit.append(owner, subject="ada", act="POST /staff/x", about={}, wall=NOW)
        copy = tmp_path / "audit.jsonl"
        await audit.copy_to(owner, copy)

        whole = await verify("--copy", str(copy))
        assert whole.exit_code == 0, whole.output
        assert "The audit is whole, up to entry 2." in whole.output
        for odd in (copy, tmp_path / "none"):
            refused = await verify("--key", str(odd))
            assert refused.exit_code == 2
            assert "is no Ed25519 key in PEM" in refused.output

        await owner.execute("ALTER TABLE audit_entries DISABLE TRIGGER ALL")
        await owner.execute("UPDATE audit_entries SET subject = 'eve' WHERE number = 1")
        broken = await verify()
        assert broken.exit_code == 3
        assert "entry 1 is not what it was" in broken.output
        assert "eve" not in broken.output
    finally:
        await owner.close()
