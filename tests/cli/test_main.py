from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import command_line

Keepword = Callable[..., Result]


@pytest.fixture
def keepword(monkeypatch: pytest.MonkeyPatch) -> Keepword:
    monkeypatch.setenv("COLUMNS", "200")
    app = command_line()
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    "command", ["up", "demo", "migrate", "doctor", "version", "receipts", "purges", "privacy"]
)
def test_help_names_every_command(keepword: Keepword, command: str) -> None:
    assert command in keepword("--help").output
    assert keepword(command, "--help").exit_code == 0


def test_help_tells_the_exit_statuses(keepword: Keepword) -> None:
    said = keepword("--help").output

    assert all(status in said for status in ("Exit status", "0 when", "1 when", "2 when", "130"))


def test_an_unknown_option_is_misuse(keepword: Keepword) -> None:
    assert keepword("up", "--fast").exit_code == 2


def test_a_dry_run_of_up_forgets_nothing_and_starts_nothing(
    keepword: Keepword, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("something")
    done = keepword("up", "--reset", "--dry-run", "--state", str(tmp_path))
    assert (done.exit_code, "1 files, would be emptied" in done.output) == (0, True)
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_version_is_that_of_the_distribution(keepword: Keepword) -> None:
    assert keepword("version").output.startswith("keepword 0.")
