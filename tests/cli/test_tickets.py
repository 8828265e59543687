"""`keepword tickets` on a real database of notifier."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.migrations import migrate
from cli.main import command_line
from services.notifier.data_map import DATA_MAP
from tests.support.stack import Databases

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Notifier:
    """Notifier's database."""

    url: str
    owner: "asyncpg.Connection[asyncpg.Record]"

    async def waiting(self, *numbers: str, state: str = "by-hand") -> UUID:
        """A purge whose tickets are open."""
        purge_id, tenant_id = uuid4(), uuid4()
        await self.owner.execute(
            "INSERT INTO ticket_erasures (purge_id, tenant_id, state, opened_at, next_attempt_at,"
            " trouble) VALUES ($1, $2, $3, $4, $4, 'licences are not known')",
            purge_id,
            tenant_id,
            state,
            NOW,
        )
        if numbers:
            await self.owner.execute(
                "INSERT INTO licences VALUES ($1, $2)", tenant_id, list(numbers)
            )
        return purge_id

    async def word_on(self, purge_id: UUID) -> tuple[str, str | None, str | None]:
        row = await self.owner.fetchrow(
            "SELECT state, done_by, evidence FROM ticket_erasures WHERE purge_id = $1", purge_id
        )
        assert row is not None
        return row["state"], row["done_by"], row["evidence"]


@pytest.fixture(scope="module")
async def migrated(databases: Databases) -> AsyncIterator[Notifier]:
    roles = (await databases("notifier"))["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    owner = await asyncpg.connect(roles.owner_url)
    yield Notifier(roles.runtime_url, owner)
    await owner.close()


@pytest.fixture
async def notifier(migrated: Notifier, monkeypatch: pytest.MonkeyPatch) -> Notifier:
    await migrated.owner.execute("TRUNCATE ticket_erasures, licences")
    monkeypatch.setenv("KEEPWORD_NOTIFIER_DATABASE_URL", migrated.url)
    return migrated


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEPWORD_NOTIFIER_DATABASE_URL", "KEEPWORD_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "400")


def keepword(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["tickets", *arguments])


async def tickets(*arguments: str) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(keepword, *arguments)


async def test_it_lists_what_waits_and_by_which_licences_to_look(notifier: Notifier) -> None:
    by_hand = await notifier.waiting("12345678", "E-AB-1")
    by_job = await notifier.waiting(state="open")
    listed = await tickets("list")
    assert listed.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in listed.output.splitlines() if "│" in line}
    for part in ("a person", "licences are not known", "2026-11-02 09:30", "12345678, E-AB-1"):
        assert part in lines[str(by_hand)]
    assert "the job" in lines[str(by_job)]
    assert "Purges with open tickets: 2." in listed.output


@pytest.mark.parametrize("state", ["by-hand", "open"])
async def test_a_persons_word_is_noted_with_its_evidence(notifier: Notifier, state: str) -> None:
    purge_id, other = await notifier.waiting(state=state), await notifier.waiting()
    given = ("done", str(purge_id), "--by", "kim", "--evidence", "HELP has none left")
    dry = await tickets(*given, "--dry-run")
    assert (dry.exit_code, "Nothing was noted" in dry.output) == (0, True)
    assert await notifier.word_on(purge_id) == (state, None, None)
    done = await tickets(*given)
    assert (done.exit_code, "Noted, by kim" in done.output) == (0, True)
    assert "400 days" in done.output
    assert await notifier.word_on(purge_id) == ("done", "kim", "HELP has none left")
    assert await notifier.word_on(other) == ("by-hand", None, None)
    again = await tickets(*given)
    assert (again.exit_code, "nothing was noted" in again.output) == (1, True)


async def test_evidence_that_names_an_address_is_not_kept(notifier: Notifier) -> None:
    purge_id = await notifier.waiting()
    refused = await tickets(
        "done", str(purge_id), "--by", "kim", "--evidence", "asked ada@customer.example"
    )
    assert (refused.exit_code, "names an address" in refused.output) == (2, True)
    assert "ada@" not in refused.output
    assert await notifier.word_on(purge_id) == ("by-hand", None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Set KEEPWORD_NOTIFIER_DATABASE_URL"),
        (["done", str(uuid4()), "--by", " ", "--evidence", "none left"], "who decides"),
        (["done", str(uuid4()), "--by", "kim"], "--evidence"),
        (["done", "acme", "--by", "kim", "--evidence", "none left"], "PURGE_ID"),
    ],
)
def test_what_makes_no_sense_is_misuse(arguments: list[str], said: str) -> None:
    refused = keepword(*arguments)
    assert (refused.exit_code, said in refused.output) == (2, True)


async def test_another_services_database_is_told_apart(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = (await databases("purger"))["purger"]
    monkeypatch.setenv("KEEPWORD_DATABASE_URL", roles.owner_url)
    listed = await tickets("list")
    assert (listed.exit_code, "not the notifier's database" in listed.output) == (1, True)


@pytest.mark.parametrize("command", ["list", "done"])
def test_every_command_has_help(command: str) -> None:
    assert keepword(command, "--help").exit_code == 0
