"""`keepword contracts` on copies of the released schemas, with models that somebody has changed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from typer.testing import CliRunner

from cli import contracts as command
from cli.main import command_line
from contracts import releases
from contracts.classes import FieldClass
from contracts.messages import Count, Message, Word
from contracts.purges import ErasureAsked
from contracts.registry import MESSAGE_TYPES, MessageType, by_name

NAME = "erasure-asked"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("schemas", "samples"):
        shutil.copytree(releases.CONTRACTS / kind, tmp_path / kind)
    return tmp_path


def change(monkeypatch: pytest.MonkeyPatch, model: type[Message], name: str = NAME) -> None:
    """Let a message have another model."""
    changed = [replace(each, model=model) if each.name == name else each for each in MESSAGE_TYPES]
    monkeypatch.setattr(releases, "MESSAGE_TYPES", tuple(changed))


class Longer(ErasureAsked):
    """What the message says, and one thing more."""

    attempt: Count = 0


class Other(ErasureAsked):
    """What nobody could bear."""

    by: Word
    asked_at: Annotated[str, FieldClass.PROCESS]  # type: ignore[assignment]


Explained = type("Explained", (ErasureAsked,), {"__doc__": "Said in other words."})


def test_what_is_released_is_as_released(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(command_line(), ["contracts", "diff"])
    assert done.exit_code == 0
    count = len(MESSAGE_TYPES)
    assert done.output == f"As released: {count} of {count}. To be dealt with: 0.\n"
    assert CliRunner().invoke(command_line(), ["contracts", "diff", "nothing"]).exit_code == 2
    done = CliRunner().invoke(command_line(), ["contracts", "new-version", NAME])
    assert (done.exit_code, "is as it was released" in done.output) == (1, True)


def test_a_field_more_needs_a_version_which_is_written_with_its_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(monkeypatch, Longer)
    assert command.run_diff([], folder=folder) == 1
    said = capsys.readouterr().out
    assert "erasure-asked since version 1: needs a new version\n  + attempt\n" in said
    assert "To be dealt with: 1." in said

    assert command.run_new_version(NAME, folder=folder) == 0
    assert "set schema=2 for erasure-asked" in capsys.readouterr().out.replace("\n", " ")
    schema = json.loads((folder / "schemas" / NAME / "2.json").read_text())
    sample = json.loads((folder / "samples" / NAME / "2.json").read_text())
    assert schema["$id"] == "urn:keepword:erasure-asked:v1:2"
    assert sample == {**_sample(1), "attempt": 0}
    assert json.loads((folder / "schemas" / NAME / "1.json").read_text()) == _schema(1)
    assert command.run_diff([NAME], folder=folder) == 0


def test_a_change_that_is_refused_says_why_and_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(monkeypatch, Other)
    assert command.run_diff([NAME], folder=folder) == 1
    said = capsys.readouterr().out
    assert "erasure-asked since version 1: refused" in said
    assert "by: added as required, old messages lack it (version 1)" in said
    assert "asked_at: format changed from 'date-time' to nothing" in said
    assert command.run_new_version(NAME, folder=folder) == 1
    assert "the change is refused" in capsys.readouterr().out
    assert [file.stem for file in (folder / "schemas" / NAME).iterdir()] == ["1"]


def test_words_alone_need_no_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(monkeypatch, Explained)
    assert command.run_diff([NAME], folder=folder) == 0
    assert "in words only" in capsys.readouterr().out
    assert command.run_new_version(NAME, folder=folder) == 1


def test_every_earlier_release_counts_not_the_last_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = folder / "schemas" / NAME / "1.json"
    (folder / "schemas" / NAME / "2.json").write_text(earlier.read_text())
    told = json.loads(earlier.read_text())
    told["properties"]["once"] = {"type": "string", "default": ""}
    earlier.write_text(json.dumps(told))
    [found] = [releases.compare(by_name(NAME), folder)]
    assert found.change is releases.Change.REFUSED
    assert found.why == ((1, "once: removed or renamed"),)


def test_a_message_that_is_new_asks_for_its_first_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = MessageType("wholly-new", ErasureAsked, by_name(NAME).topics)
    assert releases.compare(new, folder).change is releases.Change.ALLOWED
    with pytest.raises(releases.NoNewVersion, match=r"samples/wholly-new/1\.json"):
        releases.write_next_version(new, folder)


def _sample(number: int) -> Any:
    return json.loads((releases.CONTRACTS / "samples" / NAME / f"{number}.json").read_text())


def _schema(number: int) -> Any:
    return json.loads((releases.CONTRACTS / "schemas" / NAME / f"{number}.json").read_text())
