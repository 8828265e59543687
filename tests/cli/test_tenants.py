"""`keepword tenants` on a real database of the installer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.epochs import ensure_epoch
from chassis.migrations import migrate
from cli.main import command_line
from cli.tenants import _REFUSALS
from contracts.tenants import TenantState
from services.installer.data_map import DATA_MAP
from services.installer.domain.links import Refusal
from tests.support.stack import Databases

APP = "com.example.app"
NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
SITE = "https://acme.atlassian.example"
SECRET = b"sealed-under-a-key"


@dataclass(frozen=True)
class Installer:
    """The installer's database."""

    url: str
    owner: "asyncpg.Connection[asyncpg.Record]"

    async def tenant(self, client_key: str, *, superseded: bool = False) -> UUID:
        """A tenant at one address, or one that gave way there."""
        tenant_id = uuid4()
        await self.owner.execute(
            """
            INSERT INTO tenants (tenant_id, version_epoch, version_n, status, classes, platform,
                                 addon_key, product_type, created_at, departed_at, departed_how,
                                 subscription_status, licence_numbers)
            VALUES ($1, 1, 1, $2, $3, 'connect', $4, 'jira', $5, $6, $7, 'active', '{SEN-1}')
            """,
            tenant_id,
            "uninstalled" if superseded else "installed",
            '{"installation": "live", "content": "live", "errors": "live", "tickets": "live",'
            ' "contacts": "live"}',
            APP,
            NOW - 30 * DAY,
            NOW - DAY if superseded else None,
            "superseded" if superseded else None,
        )
        await self.owner.execute(
            """
            INSERT INTO installations (tenant_id, live, addon_key, product_type, client_key,
                                       base_url, shared_secret, present)
            VALUES ($1, true, $2, 'jira', $3, $4, $5, $6)
            """,
            tenant_id,
            APP,
            client_key,
            SITE,
            SECRET,
            not superseded,
        )
        await self.owner.execute(
            "INSERT INTO timelines (tenant_id, at, what) VALUES ($1, $2, $3)",
            tenant_id,
            NOW - DAY,
            "superseded" if superseded else "enabled",
        )
        return tenant_id

    async def said(self, tenant_id: UUID) -> list[TenantState]:
        rows = await self.owner.fetch(
            "SELECT payload FROM outbox WHERE tenant_id = $1 ORDER BY position", tenant_id
        )
        return [TenantState.decode(row["payload"]) for row in rows]


@pytest.fixture(scope="module")
async def migrated(databases: Databases) -> AsyncIterator[Installer]:
    roles = (await databases("installer"))["installer"]
    await migrate(roles.owner_url, DATA_MAP)
    worker = await asyncpg.connect(roles.worker_url)
    await ensure_epoch(worker, wall=NOW)
    await worker.close()
    owner = await asyncpg.connect(roles.owner_url)
    yield Installer(roles.runtime_url, owner)
    await owner.close()


@pytest.fixture
async def installer(migrated: Installer, monkeypatch: pytest.MonkeyPatch) -> Installer:
    await migrated.owner.execute("TRUNCATE tenants CASCADE")
    monkeypatch.setenv("KEEPWORD_INSTALLER_DATABASE_URL", migrated.url)
    return migrated


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEPWORD_INSTALLER_DATABASE_URL", "KEEPWORD_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "400")


def keepword(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["tenants", *arguments])


async def tenants(*arguments: str) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(keepword, *arguments)


async def link(old: UUID, new: UUID, *more: str, by: str = "kim", reason: str = "4711") -> Result:
    return await tenants("link", str(old), str(new), "--by", by, "--reason", reason, *more)


async def test_it_shows_all_but_the_secret(installer: Installer) -> None:
    old = await installer.tenant("the-old-key", superseded=True)
    new = await installer.tenant("the-new-key")

    shown = await tenants("show", str(old))

    assert shown.exit_code == 0
    for text in (
        "the-old-key",
        SITE,
        "superseded, 2026-11-01 09:30",
        "uninstalled",
        "content live",
        "SEN-1",
        str(new),
    ):
        assert text in shown.output
    assert SECRET.decode() not in shown.output
    of_new = (await tenants("show", str(new))).output
    assert "enabled" in of_new
    assert str(old) not in of_new


async def test_a_link_is_tried_made_and_shown_with_who_made_it_and_why(
    installer: Installer,
) -> None:
    old = await installer.tenant("old", superseded=True)
    new = await installer.tenant("new")

    tried = await link(old, new, "--dry-run")
    assert (tried.exit_code, "Nothing was linked." in tried.output) == (0, True)
    assert f"{new} goes on for {old}" in tried.output
    assert await installer.said(old) == []

    made = await link(old, new, by=" kim ", reason="4711 [bold]twice[/]")
    assert (made.exit_code, "Linked, by kim." in made.output) == (0, True)
    [said] = await installer.said(old)
    assert said.merged_into == new

    for tenant_id in (old, new):
        shown = (await tenants("show", str(tenant_id))).output
        assert "4711 [bold]twice[/]" in shown
        assert " kim " in shown
    again = await link(old, new)
    assert (again.exit_code, "goes on for the old one already" in again.output) == (1, True)
    refused = await link(old, new, "--dry-run")
    assert (refused.exit_code, "goes on for the old one already" in refused.output) == (1, True)


async def test_of_a_tenant_that_is_gone_it_shows_who_goes_on(installer: Installer) -> None:
    old = await installer.tenant("old", superseded=True)
    new = await installer.tenant("new")
    await link(old, new)
    await installer.owner.execute("DELETE FROM tenants WHERE tenant_id = $1", old)

    shown = await tenants("show", str(old))

    assert shown.exit_code == 0
    assert "This tenant is gone." in shown.output
    assert str(new) in shown.output


async def test_a_tenant_that_nobody_knows_is_not_shown(installer: Installer) -> None:
    shown = await tenants("show", str(uuid4()))
    assert (shown.exit_code, "no such tenant" in shown.output) == (1, True)
    linked = await link(uuid4(), uuid4())
    assert (linked.exit_code, "not known here" in linked.output) == (1, True)


def test_every_refusal_has_words() -> None:
    assert set(_REFUSALS) == set(Refusal)


async def test_another_services_database_is_told_apart(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = (await databases("purger"))["purger"]
    monkeypatch.setenv("KEEPWORD_DATABASE_URL", roles.owner_url)
    shown = await tenants("show", str(uuid4()))
    assert (shown.exit_code, "not the installer's database" in shown.output) == (1, True)


IDS = [str(uuid4()), str(uuid4())]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", str(uuid4())], "Set KEEPWORD_INSTALLER_DATABASE_URL"),
        (["link", *IDS, "--by", " ", "--reason", "4711"], "who decides"),
        (["link", *IDS, "--by", "kim", "--reason", " "], "--reason why"),
        (["link", *IDS, "--by", "kim", "--reason", "x" * 501], "--reason why"),
        (["link", *IDS, "--reason", "4711"], "--by"),
        (["link", *IDS, "--by", "kim"], "--reason"),
        (["link", "acme", IDS[0], "--by", "kim", "--reason", "4711"], "OLD"),
    ],
)
def test_what_makes_no_sense_is_misuse(arguments: list[str], said: str) -> None:
    refused = keepword(*arguments)
    assert (refused.exit_code, said in refused.output) == (2, True)


@pytest.mark.parametrize("command", ["show", "link"])
def test_every_command_has_help(command: str) -> None:
    assert keepword(command, "--help").exit_code == 0
