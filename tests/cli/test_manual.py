"""What the command's own help promises: examples that parse, statuses, dry runs, completion, the page."""

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli import statuses
from cli.main import command_line
from cli.manual import PAGE, manual
from contracts.topics import SERVICES

CLI: Final = Path(statuses.__file__).parent
EXAMPLE: Final = re.compile(r"Example: `keepword (?P<rest>[^`]+)`")
PLACEHOLDER: Final = re.compile(r"\b(TENANT|ID|LETTER|OLD|NEW|PURGE|CAMPAIGN|REFERENCE)\b")

# These look and change nothing.
LOOKING: Final = {
    *("list", "show", "find", "explain", "forecast", "diff", "plan", "verify", "record", "table"),
    *(
        "coverage",
        "uncertain",
        "requests",
        "trace",
        "doctor",
        "version",
        "dry-run",
        "tail",
        "replays",
    ),
}
# These change something, and each can be taken back or destroys nothing.
HARMLESS: Final = {
    "demo": "it works on a folder of its own",
    "people note": "a request is noted besides, and nothing else",
    "people export": "two new files; the person's data stays as it is",
    "policies draft": "a draft is told nobody",
    "purges brake pull": "it holds back, and two people release it",
    "contracts new-version": "two new files",
    "staff sign-on": "a file with a token, which signing out removes",
    "staff sign-out": "signing on again brings it back",
    "staff ask": "it looks, and nothing else",
    "events restate": "what is known already is known by its version",
}


@cache
def commands() -> dict[str, Any]:
    """Every command by what one types."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield " ".join(path), command
            return
        for name, each in command.commands.items():
            yield from walk(each, (*path, name))

    return dict(walk(get_command(command_line()), ()))


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


every_command = pytest.mark.parametrize("name", commands())


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual()


@every_command
def test_what_cannot_be_taken_back_can_be_rehearsed(name: str) -> None:
    looks = name.rsplit(maxsplit=1)[-1] in LOOKING
    assert looks or name in HARMLESS or "--dry-run" in options(commands()[name])


def test_nothing_is_called_harmless_that_is_not_there_or_has_a_dry_run() -> None:
    assert HARMLESS.keys() <= commands().keys()
    assert all("--dry-run" not in options(commands()[name]) for name in HARMLESS)


@every_command
def test_who_has_to_give_something_is_shown_how(name: str) -> None:
    command = commands()[name]
    found = EXAMPLE.search(command.help)
    needs = any(parameter.required for parameter in command.params)
    assert found or not needs
    if not found:
        return
    typed = PLACEHOLDER.sub(lambda _: str(uuid4()), re.split(r"[|;<>]", found["rest"])[0])
    words = shlex.split(typed)
    own = name.split()
    assert words[: len(own)] == own
    # Raises what a person would be told where an option is not there or a value makes no sense.
    command.make_context(name, words[len(own) :])


@every_command
def test_each_status_that_a_command_ends_with_is_in_its_help(name: str) -> None:
    ends = {
        getattr(statuses, each) for each in names_in(commands()[name]) if hasattr(statuses, each)
    }
    said = {int(each) for each in re.findall(r"Exit\s+status\s+(\d+)", commands()[name].help)}
    # That the command line makes no sense is the same everywhere, and an interruption is too.
    assert ends & {statuses.FAILED, statuses.DIFFERS} <= said
    assert said <= statuses.MEANINGS.keys()


def names_in(command: Any) -> set[str]:
    """The names in whatever a command's module runs for it."""
    typed = Path(inspect.getfile(inspect.unwrap(command.callback)))
    function = tree(typed)[command.callback.__name__]
    imports = [each for each in ast.walk(function) if isinstance(each, ast.ImportFrom)]
    if not imports or not str(imports[0].module).startswith("cli."):
        return set()
    path = str(imports[0].module).removeprefix("cli.").replace(".", "/")
    functions = tree(CLI / f"{path}.py")
    names: set[str] = set()
    waiting = [each.name for each in imports[0].names if each.name in functions]
    assert waiting
    while waiting:
        found = functions.get(waiting.pop())
        if found is None:
            continue
        used = {each.id for each in ast.walk(found) if isinstance(each, ast.Name)}
        waiting += used - names
        names |= used
    return names


@cache
def tree(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """A module's functions, those within functions too."""
    return {
        each.name: each
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_the_statuses_are_those_that_the_help_names() -> None:
    said = CliRunner().invoke(command_line(), ["--help"], env={"COLUMNS": "400"}).output
    for status, meaning in statuses.MEANINGS.items():
        assert f"{status} when {meaning}" in said
    constants = {
        each for name, each in vars(statuses).items() if name.isupper() and name != "MEANINGS"
    }
    assert constants | {0} == statuses.MEANINGS.keys()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("keepword dead-let", {"dead-letters"}), ("keepword dead-letters show ", set(SERVICES))],
)
def test_a_shell_completes_commands_and_services(typed: str, offered: set[str]) -> None:
    words = typed.split()
    environment = {
        "_KEEPWORD_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - (not typed.endswith(" "))),
    }
    done = CliRunner().invoke(command_line(), [], prog_name="keepword", env=environment)
    assert set(done.output.split()) == offered
