import asyncio
from functools import partial

import asyncpg
import pytest

from chassis.data_map import undeclared
from cli.migrate import run_migrate
from services.purger.data_map import DATA_MAP
from tests.support.stack import Databases

OWNER = "KEEPWORD_{}_OWNER_DATABASE_URL"


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("INSTALLER", "CONFIG", "PURGER", "NOTIFIER"):
        monkeypatch.delenv(OWNER.format(service), raising=False)
    monkeypatch.setenv("COLUMNS", "400")


async def test_it_migrates_the_databases_that_the_environment_names(
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    roles = (await databases("purger"))["purger"]
    monkeypatch.setenv(OWNER.format("PURGER"), roles.owner_url)

    # In a thread, as the command runs a loop of its own.
    assert await asyncio.to_thread(partial(run_migrate, [], dry_run=True)) == 0
    assert "would follow nothing" in capsys.readouterr().out
    statuses = [
        await asyncio.to_thread(partial(run_migrate, named, dry_run=False))
        for named in ([], ["purger"])
    ]

    assert statuses == [0, 0]
    assert capsys.readouterr().out.count("purger is up to date") == 2
    assert await asyncio.to_thread(partial(run_migrate, [], dry_run=True)) == 0
    assert capsys.readouterr().out.count("is there") == 2
    connection = await asyncpg.connect(roles.backup_url)
    try:
        assert await undeclared(connection, DATA_MAP) == []
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ([], "No database is named"),
        (["purger"], "Set KEEPWORD_PURGER_OWNER_DATABASE_URL"),
        (["ledger"], "No such service: ledger"),
    ],
)
def test_what_makes_no_sense_is_misuse_and_says_what_to_do(
    services: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_migrate(services, dry_run=False) == 2
    assert said in capsys.readouterr().out


def test_a_database_that_is_away_fails_without_showing_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(OWNER.format("PURGER"), "postgresql://o:hidden@127.0.0.1:1/purger")

    assert run_migrate([], dry_run=False) == 1
    said = capsys.readouterr().out
    assert "purger" in said
    assert "hidden" not in said
