"""`keepword policies` on a real database of notifier."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.epochs import ensure_epoch
from chassis.migrations import migrate
from cli.main import command_line
from services.notifier.data_map import DATA_MAP
from tests.support.stack import Databases

TODAY = datetime.now(UTC).date()
IN_TIME = str(TODAY + timedelta(days=32))


@pytest.fixture
async def database(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Notifier's database, named to the command."""
    for name in ("KEEPWORD_DATABASE_URL", "KEEPWORD_POLICY_NOTICE_DAYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    roles = (await databases("notifier"))["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    monkeypatch.setenv("KEEPWORD_NOTIFIER_DATABASE_URL", roles.runtime_url)
    owner = await asyncpg.connect(roles.owner_url)
    await ensure_epoch(owner, wall=datetime.now(UTC))
    await owner.execute("SELECT outbox_make_partitions($1::date, 8)", datetime.now(UTC).date())
    yield owner
    await owner.close()


def keepword(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), ["policies", *arguments])


async def policies(*arguments: str) -> tuple[int, str]:
    """Run the command in a thread, as it runs a loop of its own."""
    result = await asyncio.to_thread(keepword, *arguments)
    return result.exit_code, result.output


async def draft(
    folder: Path, text: str | bytes, *others: str, day: str = IN_TIME
) -> tuple[int, str]:
    file = folder / "policy.md"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    said = ("--summary", "Less [b]is[/b] kept.", "--summary-de", "Weniger.", "--by", "Kim")
    return await policies("draft", str(file), *said, "--effective", day, *others)


async def test_one_drafts_another_reads_and_publishes(
    database: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    status, said = await draft(tmp_path, "# Kept\n\nSix [months] long.\n")
    assert (status, "Draft 1 is kept. It becomes revision 1" in said) == (0, True)
    status, said = await policies("approve", "1", "--by", " kim ")
    assert (status, "cannot approve" in said) == (1, True)
    assert "Six [months] long." in (await policies("show", "draft-1"))[1]
    status, said = await policies("approve", "1", "--by", "Lee", "--dry-run")
    assert (status, "It would become revision 1" in said) == (0, True)
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0
    status, said = await policies("approve", "1", "--by", "Lee")
    assert (status, f"Revision 1 is published, in force from {IN_TIME} on" in said) == (0, True)
    status, said = await policies("approve", "1", "--by", "Robin")
    assert (status, "published already, as revision 1" in said) == (1, True)

    await draft(tmp_path, "# Kept\n\nFive [months] long.\n")
    status, said = await policies("diff", "1", "draft-2")
    assert (status, "[-Six-] {+Five+} [months] long." in said) == (0, True)
    assert await policies("show", "1") == (0, "# Kept\n\nSix [months] long.\n")
    listed = (await policies("list"))[1]
    assert "Less [b]is[/b] kept." in listed
    assert "drafted by Kim" in listed
    assert "Revisions: 1. Open drafts: 1." in listed
    rows = await database.fetch("SELECT record_key FROM outbox")
    assert [row["record_key"] for row in rows] == ["1"]

    status, said = await policies("coverage", "1")
    assert (status, "uninformed: 0." in said) == (0, True)


async def test_what_cannot_be_is_refused_with_its_reason(
    database: "asyncpg.Connection[asyncpg.Record]",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text, why in (("", "no text"), (b"x" * 5_000_000, "bytes"), (b"a\x07", "nobody can see")):
        status, said = await draft(tmp_path, text)
        assert (status, why in said) == (2, True)
    soon, past = str(TODAY + timedelta(days=3)), str(TODAY - timedelta(days=2))
    for day, why in ((soon, "30 days before"), (past, "That day is over")):
        status, said = await draft(tmp_path, "a", day=day)
        assert (status, why in said) == (1, True)
    assert (await draft(tmp_path, "a", "--early-because", "The law.", day=soon))[0] == 0
    monkeypatch.setenv("KEEPWORD_POLICY_NOTICE_DAYS", "2")
    assert (await draft(tmp_path, "a", day=soon))[0] == 0
    monkeypatch.setenv("KEEPWORD_POLICY_NOTICE_DAYS", "soon")
    status, said = await draft(tmp_path, "a", day=soon)
    assert (status, "KEEPWORD_POLICY_NOTICE_DAYS" in said) == (2, True)
    monkeypatch.delenv("KEEPWORD_POLICY_NOTICE_DAYS")
    for arguments in (("show", "7"), ("show", "draft-x"), ("diff", "7", "8"), ("coverage", "7")):
        status, said = await policies(*arguments)
        assert (status, "There is no" in said) == (1, True)
    assert await database.fetchval("SELECT count(*) FROM policy_revisions") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Set KEEPWORD_NOTIFIER_DATABASE_URL"),
        (["diff", "1", "1"], "two different"),
        (["approve", "draft", "--by", "kim"], "DRAFT"),
        (["approve", "1", "--by", " "], "who decides"),
        (["draft", "/nowhere/policy.md", "--summary", "a", "--summary-de", "b"], "Missing option"),
    ],
)
def test_what_makes_no_sense_is_misuse(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    for name in ("KEEPWORD_NOTIFIER_DATABASE_URL", "KEEPWORD_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    refused = keepword(*arguments)
    assert (refused.exit_code, said in refused.output) == (2, True)


@pytest.mark.parametrize("command", ["draft", "show", "diff", "approve", "list", "coverage"])
def test_every_command_has_help(command: str) -> None:
    assert keepword(command, "--help").exit_code == 0
