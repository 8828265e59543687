"""`keepword purges` on real databases."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.migrations import migrate
from cli.main import command_line
from contracts.purges import PurgeRequested
from devstack.postgres import Roles
from services.config.data_map import DATA_MAP as CONFIG_MAP
from services.notifier.data_map import DATA_MAP as NOTIFIER_MAP
from tests.purger.builders import DAY, LEFT_AT, a_tenant
from tests.purger.conftest import Purger, ledger_key, purger
from tests.support.stack import Databases

__all__ = ["ledger_key", "purger"]

VARIABLES = ("INSTALLER", "CONFIG", "PURGER", "NOTIFIER")


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in VARIABLES:
        monkeypatch.delenv(f"KEEPWORD_{service}_DATABASE_URL", raising=False)
    monkeypatch.delenv("KEEPWORD_DATABASE_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def database(purger: Purger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Purger:
    """Purger's database, named to the command, which goes by its clock."""
    monkeypatch.setenv("KEEPWORD_PURGER_DATABASE_URL", purger.roles.runtime_url)
    monkeypatch.setenv("KEEPWORD_CLOCK_OFFSET_FILE", str(tmp_path / "offset"))
    set_clock(purger, tmp_path)
    return purger


def set_clock(purger: Purger, folder: Path) -> None:
    offset = purger.clock.now() - datetime.now(UTC)
    (folder / "offset").write_text(str(offset.total_seconds()))


def keepword(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["purges", *arguments])


async def purges(*arguments: str) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(keepword, *arguments)


async def test_it_lists_what_is_not_over_the_most_urgent_first(
    database: Purger, tmp_path: Path
) -> None:
    orders = await database.begin()
    await database.hear(a_tenant(left_at=LEFT_AT + 40 * DAY))
    database.clock.set((await database.state()).plans[0].start_at)
    first, second = await database.runtime.fetch("SELECT * FROM purges ORDER BY erase_by")
    database.clock.set(first["erase_by"])
    set_clock(database, tmp_path)

    listed = await purges("list")
    near = await purges("list", "--due", "10")

    lines = [line for line in listed.output.splitlines() if "│" in line]
    assert str(first["purge_id"]) in lines[0]
    assert "OVERDUE open: erase-config, erase-contacts, erase-installer" in lines[0]
    assert str(second["purge_id"]) in lines[1]
    assert "OVERDUE" not in lines[1]
    assert "Purges that are not over: 2. Overdue: 1." in listed.output
    assert str(orders[0].tenant_id) in near.output
    assert "Purges that are not over: 1. Overdue: 1." in near.output


async def test_pages_of_the_list_leave_nothing_out(
    database: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.purges._PAGE", 2)
    tenants = [a_tenant(left_at=LEFT_AT) for _ in range(5)]
    await database.hear(*tenants)

    listed = await purges("list")

    assert all(listed.output.count(str(tenant.tenant_id)) == 1 for tenant in tenants)
    assert "not over: 5." in listed.output


async def test_an_empty_list_says_so(database: Purger) -> None:
    listed = await purges("list")

    assert listed.exit_code == 0
    assert "Purges that are not over: 0. Overdue: 0." in listed.output


async def test_it_explains_each_date(database: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await database.hear(tenant)

    told = await purges("explain", str(tenant.tenant_id))
    as_json = await purges("explain", str(tenant.tenant_id), "--json")

    assert told.exit_code == 0
    assert "The customer left on 10 March 2026 at 09:30 UTC. (Rule 1.)" in told.output
    assert "9 September 2026 less 14 days" in told.output
    (explanation,) = json.loads(as_json.output)
    assert explanation["event"] == "The customer left on 10 March 2026 at 09:30 UTC."
    assert explanation["sums"][0]["at"] == "2026-09-09T00:00:00+00:00"
    assert explanation["phase"] == "planned"


async def test_of_an_unknown_tenant_there_is_nothing_to_explain(database: Purger) -> None:
    told = await purges("explain", str(uuid4()))
    as_json = await purges("explain", str(uuid4()), "--json")

    assert (told.exit_code, "Nothing is planned" in told.output) == (1, True)
    assert (as_json.exit_code, json.loads(as_json.output)) == (1, [])


async def test_the_forecast_has_every_week_and_adds_up(database: Purger) -> None:
    await database.hear(a_tenant(left_at=LEFT_AT), a_tenant(left_at=LEFT_AT))

    told = await purges("forecast")

    weeks = [line for line in told.output.splitlines() if line.startswith("│")]
    assert len(weeks) == 27
    # They start on 12 August and have to be done by 26 August 2026.
    assert next(week for week in weeks if "2026-08-10" in week).split("│")[2].strip() == "2"
    assert next(week for week in weeks if "2026-08-24" in week).split("│")[3].strip() == "2"
    assert "2 purges start and 2 have to be done" in told.output


async def test_one_person_pulls_the_brake_and_two_release_it(database: Purger) -> None:
    await database.hear(a_tenant(left_at=LEFT_AT))
    await database.sweeps.ask_for_due_purges()
    pulled = await purges("brake", "pull", "--by", "Kim", "--reason", "odd [b]dates[/b]")
    assert (pulled.exit_code, "pulled by Kim" in pulled.output) == (0, True)
    database.clock.advance(170 * DAY)
    await database.sweeps.ask_for_due_purges()
    assert await database.said(PurgeRequested) == []
    row = await database.runtime.fetchrow("SELECT name, reason FROM brake_pulls")
    assert row is not None
    assert (row["name"], row["reason"]) == ("Kim", "odd [b]dates[/b]")

    one = await purges("brake", "release", "--by", "Kim")
    again = await purges("brake", "release", "--by", " kim ")
    assert "It holds until 1 more" in one.output
    assert "It holds until 1 more" in again.output
    dry = await purges("brake", "release", "--by", "Lee", "--dry-run")
    assert "nothing was noted" in dry.output
    assert await database.runtime.fetchval("SELECT count(*) FROM brake_releases") == 1
    two = await purges("brake", "release", "--by", "Lee")

    assert (two.exit_code, "Released by Kim, Lee" in two.output) == (0, True)
    await database.sweeps.ask_for_due_purges()
    assert len(await database.said(PurgeRequested)) == 1
    after = await purges("brake", "release", "--by", "Lee")
    assert (after.exit_code, "does not hold" in after.output) == (1, True)


# -- dry run --------------------------------------------------------------------------------------


class Owner:
    """The databases of config and notifier, each with a tenant's data."""

    def __init__(self, config: Roles, notifier: Roles) -> None:
        self.config, self.notifier = config, notifier
        self.tenant_id = uuid4()

    async def fill(self, tenant_id: UUID, datasources: int) -> None:
        connection = await asyncpg.connect(self.config.runtime_url)
        try:
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('app.tenant', $1::uuid::text, true)", tenant_id
                )
                for number in range(datasources):
                    await connection.execute(
                        """
                        INSERT INTO things (tenant_id, thing_id, kind, name, tags, body,
                                            position, created_at, updated_at, version)
                        VALUES ($1, $2, 'datasource', $3, '{}', '{}', 1, $4, $4, 1)
                        """,
                        tenant_id,
                        uuid4(),
                        f"source {number}",
                        LEFT_AT,
                    )
                await connection.execute(
                    "INSERT INTO tenants VALUES ($1, 'installed', 'connect', 'live')", tenant_id
                )
                await connection.execute(
                    "INSERT INTO tenant_keys VALUES ($1, '\\x00', '1', $2)", tenant_id, LEFT_AT
                )
        finally:
            await connection.close()

    async def picture(self) -> list[str]:
        """All rows of config, as its backup role sees them."""
        connection = await asyncpg.connect(self.config.backup_url)
        try:
            return [
                f"{table.name} {tuple(row)} {row['xmin']} {row['ctid']}"
                for table in CONFIG_MAP.all_tables
                if "migrations" not in table.name
                for row in await connection.fetch(
                    f"SELECT xmin::text, ctid::text, * FROM {table.name} ORDER BY 2"
                )
            ]
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def owner(databases: Databases) -> Owner:
    roles = await databases("config", "notifier")
    await migrate(roles["config"].owner_url, CONFIG_MAP)
    await migrate(roles["notifier"].owner_url, NOTIFIER_MAP)
    owner = Owner(roles["config"], roles["notifier"])
    await owner.fill(owner.tenant_id, 3)
    await owner.fill(uuid4(), 2)
    return owner


def rows_of(result: Result) -> Iterator[list[str]]:
    for line in result.output.splitlines():
        if line.startswith("│"):
            yield [cell.strip() for cell in line.strip("│").split("│")]


@pytest.mark.parametrize("role", ["runtime_url", "eraser_url"])
async def test_a_dry_run_shows_what_would_go_and_changes_nothing(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", getattr(owner.config, role))
    monkeypatch.setenv("KEEPWORD_NOTIFIER_DATABASE_URL", owner.notifier.runtime_url)
    before = await owner.picture()

    shown = await purges("dry-run", str(owner.tenant_id))

    assert shown.exit_code == 0
    rows = list(rows_of(shown))
    assert ["config", "content", "things", "3", "3"] in rows
    assert ["config", "content", "tenants", "1", ""] in rows
    assert ["config", "plumbing", "tenant_keys", "1", ""] in rows
    assert ["notifier", "contacts", "contacts", "0", "0"] in rows
    assert "not looked at: installer" in shown.output
    assert "KEEPWORD_INSTALLER_DATABASE_URL is not set" in shown.output
    assert "Nothing was changed." in shown.output
    assert await owner.picture() == before


async def test_a_database_that_hides_rows_is_not_taken_for_empty(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = (await databases("config"))["config"]
    await migrate(roles.owner_url, CONFIG_MAP)
    connection = await asyncpg.connect(roles.owner_url)
    try:
        await connection.execute("ALTER TABLE things NO FORCE ROW LEVEL SECURITY")
        await connection.execute("DELETE FROM things")
    finally:
        await connection.close()
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", roles.runtime_url)

    shown = await purges("dry-run", str(uuid4()))

    assert (shown.exit_code, "not looked at: installer, config, notifier" in shown.output) == (
        1,
        True,
    )
    assert "planted row of thing_" in shown.output


async def test_a_database_that_is_away_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", "postgresql://c:hidden@127.0.0.1:1/config")

    shown = await purges("dry-run", str(uuid4()))

    assert (shown.exit_code, "hidden" in shown.output) == (1, False)
    assert "not looked at: installer, config, notifier" in shown.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Set KEEPWORD_PURGER_DATABASE_URL"),
        (["list", "--due", "-1"], "--due"),
        (["explain", "acme"], "TENANT"),
        (["brake", "pull", "--by", " "], "who decides"),
        (["brake", "pull"], "--by"),
        (["brake", "pull", "--by", "kim", "--reason", "x" * 501], "500"),
        (["brake", "release"], "--by"),
        (["dry-run", str(uuid4())], "KEEPWORD_CONFIG_DATABASE_URL"),
    ],
)
def test_what_makes_no_sense_is_misuse(arguments: list[str], said: str) -> None:
    refused = keepword(*arguments)

    assert (refused.exit_code, said in refused.output) == (2, True)


async def test_another_services_database_is_told_apart(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPWORD_DATABASE_URL", owner.config.runtime_url)

    listed = await purges("list")

    assert (listed.exit_code, "not the purger's database" in listed.output) == (1, True)
