"""`keepword keys` and `keepword restored` on a real database of config."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from chassis.database import open_pool
from chassis.epochs import ensure_epoch
from chassis.keys import KeyDestroyed, KeyEncryptionKeys, TenantKeys, Undecipherable
from chassis.migrations import migrate
from chassis.relay import LEADER_LOCK
from cli.keys import Destroy, InBackups, InUse, NotedUnused, decide_retirement
from cli.main import command_line
from devstack.key_files import ensure_key_encryption_keys
from devstack.postgres import Roles, RunningPostgres, dump, provision, restore, start_postgres
from services.config.data_map import DATA_MAP
from tests.support.stack import Databases

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 26, tzinfo=UTC)
SECRET = b"the password of orders"


@dataclass
class Config:
    """Config's database, its file of keys, and a clock that is moved."""

    roles: Roles
    keys_file: Path
    clock_file: Path

    @property
    def keys(self) -> TenantKeys:
        return TenantKeys("config", KeyEncryptionKeys.load(self.keys_file))

    @property
    def names(self) -> set[str]:
        return set(json.loads(self.keys_file.read_text())["keys"])

    def pass_days(self, days: float) -> None:
        self.clock_file.write_text(str(days * 86_400))

    async def keepword(self, *words: str) -> Result:
        """Run the command; in a thread, as it runs a loop of its own."""
        environment = {
            "KEEPWORD_CONFIG_WORKER_DATABASE_URL": self.roles.worker_url,
            "KEEPWORD_CONFIG_KEY_ENCRYPTION_KEYS_FILE": str(self.keys_file),
            "KEEPWORD_CLOCK_OFFSET_FILE": str(self.clock_file),
        }
        return await asyncio.to_thread(
            CliRunner().invoke, command_line(), list(words), env=environment
        )

    async def seal(self, tenant_id: UUID) -> bytes:
        url = self.roles.runtime_url
        async with await open_pool(url, name="test") as pool, pool.acquire() as connection:
            return await self.keys.seal(connection, tenant_id, "p", SECRET, now=NOW)

    async def open(self, tenant_id: UUID, sealed: bytes, *, roles: Roles | None = None) -> bytes:
        url = (roles or self.roles).runtime_url
        async with await open_pool(url, name="test") as pool, pool.acquire() as connection:
            return await self.keys.open(connection, tenant_id, "p", sealed)

    async def destroy(self, tenant_id: UUID) -> None:
        url = self.roles.eraser_url
        async with await open_pool(url, name="test") as pool, pool.acquire() as connection:
            assert await self.keys.destroy(connection, tenant_id)

    async def rewrap(self) -> None:
        async with await open_pool(self.roles.worker_url, name="test") as pool:
            assert (await self.keys.rewrap(pool, limit=10)).remaining == 0


@pytest.fixture
async def config(databases: Databases, tmp_path: Path) -> Config:
    roles = (await databases("config"))["config"]
    await migrate(roles.owner_url, DATA_MAP)
    path = ensure_key_encryption_keys(tmp_path / "config.json", wall=NOW)
    return Config(roles, path, tmp_path / "clock")


async def fresh_copy(fresh: RunningPostgres, archive: bytes, folder: Path) -> Roles:
    roles = await provision(fresh.superuser_url(), ["config"], folder=folder)
    await restore(fresh.superuser_url("config"), archive)
    return roles["config"]


async def test_an_old_copy_tells_nothing_of_the_purged_once_its_time_is_over(
    config: Config, tmp_path: Path
) -> None:
    purged, living = uuid4(), uuid4()
    sealed = {tenant: await config.seal(tenant) for tenant in (purged, living)}
    archive = await dump(config.roles.backup_url)
    await config.destroy(purged)
    [old] = config.names
    fresh = await asyncio.to_thread(start_postgres, tmp_path / "fresh")
    try:
        copy = await fresh_copy(fresh, archive, tmp_path)

        assert (await config.keepword("keys", "rotate", "config")).exit_code == 0
        refused = await config.keepword("keys", "retire", "config")
        assert "1 tenants lie under it" in refused.output
        await config.rewrap()
        noted = await config.keepword("keys", "retire", "config")
        assert "is unused from now on" in noted.output
        config.pass_days(13)
        kept = await config.keepword("keys", "retire", "config")
        assert "copies may need it" in kept.output
        # Within the time a copy serves the survivors, and the ledger takes the others again.
        for tenant in (purged, living):
            assert await config.open(tenant, sealed[tenant], roles=copy) == SECRET

        config.pass_days(15)
        shown = await config.keepword("keys", "retire", "config", "--dry-run")
        assert "is destroyed" in shown.output
        assert old in config.names
        await config.keepword("keys", "retire", "config")

        assert old not in config.names
        for tenant in (purged, living):
            with pytest.raises(Undecipherable):
                await config.open(tenant, sealed[tenant], roles=copy)
        with pytest.raises(KeyDestroyed):
            await config.open(purged, sealed[purged])
        assert await config.open(living, sealed[living]) == SECRET
    finally:
        fresh.kill()


async def test_to_rotate_twice_in_a_month_loses_no_key(config: Config) -> None:
    tenant = uuid4()
    sealed = await config.seal(tenant)
    before = config.names
    shown = await config.keepword("keys", "rotate", "config", "--dry-run")
    assert (shown.exit_code, config.names) == (0, before)
    for _ in range(2):
        assert (await config.keepword("keys", "rotate", "config")).exit_code == 0
    assert before < config.names
    assert len(config.names) == 3
    made_at = KeyEncryptionKeys.load(config.keys_file).current_made_at
    assert made_at is not None
    assert abs(made_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert config.keys_file.stat().st_mode & 0o077 == 0
    assert await config.open(tenant, sealed) == SECRET


async def test_a_file_that_no_service_would_take_is_left_as_it_is(config: Config) -> None:
    config.keys_file.write_text("{}")
    for verb in ("rotate", "retire"):
        result = await config.keepword("keys", verb, "config")
        assert result.exit_code == 1
        assert "has no member" in result.output
    assert config.keys_file.read_text() == "{}"


@pytest.mark.parametrize(
    ("tenants", "unused_for", "decision"),
    [
        (3, None, InUse(3)),
        # A restore brought back what had been wrapped anew.
        (3, 20 * DAY, InUse(3)),
        (0, None, NotedUnused()),
        (0, 14 * DAY, InBackups(NOW)),
        (0, 14 * DAY + timedelta(seconds=1), Destroy()),
    ],
)
def test_a_key_goes_when_no_copy_needs_it(
    tenants: int, unused_for: timedelta | None, decision: object
) -> None:
    unused_since = NOW - unused_for if unused_for is not None else None
    found = decide_retirement(
        tenants=tenants, unused_since=unused_since, backups_kept=14 * DAY, now=NOW
    )
    assert found == decision


async def test_an_epoch_is_opened_by_hand_where_the_service_does_not_run(config: Config) -> None:
    url = config.roles.worker_url
    async with await open_pool(url, name="test") as pool, pool.acquire() as connection:
        first = await ensure_epoch(connection, wall=NOW)
        await connection.execute("SELECT pg_advisory_lock($1)", LEADER_LOCK)
        refused = await config.keepword("restored", "config")
        assert refused.exit_code == 1
        assert "Stop all its replicas first" in refused.output
        await connection.execute("SELECT pg_advisory_unlock($1)", LEADER_LOCK)
        assert await ensure_epoch(connection, wall=NOW) == first
        assert (await config.keepword("restored", "config", "--dry-run")).exit_code == 0
        assert await ensure_epoch(connection, wall=NOW) == first
        assert (await config.keepword("restored", "config")).exit_code == 0
        opened = await ensure_epoch(connection, wall=NOW)
    assert opened.number > first.number
    assert opened.is_behind


async def test_what_is_missing_is_named(config: Config) -> None:
    for words in (("restored", "nobody"), ("keys", "rotate", "nobody")):
        result = await config.keepword(*words)
        assert result.exit_code == 2
        assert "No such service" in result.output
    result = await config.keepword("restored", "purger")
    assert result.exit_code == 2
    assert "KEEPWORD_PURGER_WORKER_DATABASE_URL" in result.output.replace("\n", "")
