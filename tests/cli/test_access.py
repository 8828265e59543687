"""`keepword access` on a real database of the installer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.migrations import migrate
from cli.main import command_line
from services.installer.data_map import DATA_MAP
from tests.support.stack import Databases

APP = "com.example.app"
NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Installer:
    """The installer's database."""

    url: str
    owner: "asyncpg.Connection[asyncpg.Record]"

    async def lost_tenant(self, *, days: int = 4, addon_key: str = APP) -> UUID:
        """A tenant whose site refuses us for so many days."""
        tenant_id = uuid4()
        await self.owner.execute(
            """
            INSERT INTO tenants (tenant_id, version_epoch, version_n, status, classes, platform,
                                 addon_key, product_type, created_at, subscription_status,
                                 licence_numbers)
            VALUES ($1, 1, 1, 'installed', '{}', 'connect', $2, 'jira', $3, 'active', '{}')
            """,
            tenant_id,
            addon_key,
            NOW - 30 * DAY,
        )
        await self.owner.execute(
            """
            INSERT INTO access_checks (tenant_id, addon_key, due_at, last_seen_at, losses,
                                       first_lost_at, last_lost_at)
            VALUES ($1, $2, $3, $4, $5, $4, $3)
            """,
            tenant_id,
            addon_key,
            NOW,
            NOW - days * DAY,
            days,
        )
        return tenant_id

    async def hold(self) -> None:
        await self.owner.execute(
            "INSERT INTO access_holds VALUES ($1, $2, $3, 12, 100)", uuid4(), APP, NOW
        )

    async def confirmed_by(self, tenant_id: UUID) -> str | None:
        name: str | None = await self.owner.fetchval(
            "SELECT confirmed_by FROM access_checks WHERE tenant_id = $1", tenant_id
        )
        return name

    async def released_by(self) -> str | None:
        name: str | None = await self.owner.fetchval("SELECT released_by FROM access_holds")
        return name


@pytest.fixture(scope="module")
async def migrated(databases: Databases) -> AsyncIterator[Installer]:
    roles = (await databases("installer"))["installer"]
    await migrate(roles.owner_url, DATA_MAP)
    owner = await asyncpg.connect(roles.owner_url)
    yield Installer(roles.runtime_url, owner)
    await owner.close()


@pytest.fixture
async def installer(migrated: Installer, monkeypatch: pytest.MonkeyPatch) -> Installer:
    await migrated.owner.execute("TRUNCATE tenants, access_holds CASCADE")
    monkeypatch.setenv("KEEPWORD_INSTALLER_DATABASE_URL", migrated.url)
    return migrated


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEPWORD_INSTALLER_DATABASE_URL", "KEEPWORD_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "400")


def keepword(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["access", *arguments])


async def access(*arguments: str) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(keepword, *arguments)


async def test_it_lists_held_apps_and_lost_tenants(installer: Installer) -> None:
    gone, fresh = await installer.lost_tenant(), await installer.lost_tenant(days=1)
    await installer.hold()
    listed = await access("list")
    assert listed.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in listed.output.splitlines() if "│" in line}
    assert "12" in lines[APP]
    assert "waits: its app is held" in lines[str(gone)]
    assert "2026-10-29 09:30" in lines[str(gone)]
    assert "three refusals" in lines[str(fresh)]
    assert "Held apps: 1. Installed tenants whose sites refuse us: 2." in listed.output


async def test_a_persons_word_is_noted_with_who_gave_it(installer: Installer) -> None:
    tenant_id = await installer.lost_tenant()
    before = await access("list")
    assert "or a person" in before.output
    tried = await access("confirm", str(tenant_id), "--by", "kim", "--dry-run")
    assert tried.exit_code == 0
    assert "left 2026-10-29 09:30" in tried.output
    assert await installer.confirmed_by(tenant_id) is None
    done = await access("confirm", str(tenant_id), "--by", "kim")
    assert (done.exit_code, "Noted, by kim" in done.output) == (0, True)
    assert await installer.confirmed_by(tenant_id) == "kim"


async def test_a_release_says_who_leaves_by_it(installer: Installer) -> None:
    tenant_id, _ = await installer.lost_tenant(), await installer.lost_tenant()
    other = await installer.lost_tenant(addon_key="com.example.other")
    await installer.hold()
    await access("confirm", str(tenant_id), "--by", "kim")
    tried = await access("release", APP, "--by", "lee", "--dry-run")
    assert "1 of 2 lost tenants leave" in tried.output
    assert str(tenant_id) in tried.output
    assert str(other) not in tried.output
    assert await installer.released_by() is None
    done = await access("release", APP, "--by", "lee")
    assert done.exit_code == 0
    assert await installer.released_by() == "lee"
    again = await access("release", APP, "--by", "lee")
    assert (again.exit_code, "is not held" in again.output) == (1, True)


async def test_a_tenant_whose_site_lets_us_in_cannot_be_confirmed_gone(
    installer: Installer,
) -> None:
    refused = await access("confirm", str(uuid4()), "--by", "kim")
    assert (refused.exit_code, "No installed tenant" in refused.output) == (1, True)


async def test_in_the_installers_pod_its_own_database_is_used(
    installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEEPWORD_INSTALLER_DATABASE_URL")
    monkeypatch.setenv("KEEPWORD_DATABASE_URL", installer.url)
    assert (await access("list")).exit_code == 0


async def test_another_services_database_is_told_apart(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = (await databases("purger"))["purger"]
    monkeypatch.setenv("KEEPWORD_DATABASE_URL", roles.owner_url)
    listed = await access("list")
    assert (listed.exit_code, "not the installer's database" in listed.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Set KEEPWORD_INSTALLER_DATABASE_URL"),
        (["confirm", str(uuid4()), "--by", " "], "who decides"),
        (["confirm", "acme", "--by", "kim"], "TENANT_ID"),
        (["release", APP], "--by"),
    ],
)
def test_what_makes_no_sense_is_misuse(arguments: list[str], said: str) -> None:
    refused = keepword(*arguments)
    assert (refused.exit_code, said in refused.output) == (2, True)


def test_a_database_that_is_away_fails_without_showing_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEEPWORD_DATABASE_URL", "postgresql://o:hidden@127.0.0.1:1/installer")
    listed = keepword("list")
    assert listed.exit_code == 1
    assert "Does the URL name" in listed.output
    assert "hidden" not in listed.output


@pytest.mark.parametrize("command", ["list", "confirm", "release"])
def test_every_command_has_help(command: str) -> None:
    assert keepword(command, "--help").exit_code == 0
