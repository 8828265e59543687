"""Writes ``docs/cli.md``, the manual of the command, from the commands: ``python -m cli.manual``."""

from pathlib import Path
from typing import Final

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from cli.main import command_line
from cli.statuses import MEANINGS

PAGE: Final = Path(__file__).parent.parent / "docs" / "cli.md"

_HEAD: Final = """# The keepword command

Made of the commands' own help by `python -m cli.manual`. `keepword --install-completion` teaches your shell the commands
and the services' names; what changes something that cannot be taken back has `--dry-run`.

## Exit status

The same for every command; where a command says more, its help does.

| status | means |
|---|---|
"""


def manual() -> str:
    """Write the page."""
    command = get_command(command_line())
    context = typer.Context(command, info_name="keepword")
    told = get_docs_for_click(obj=command, ctx=context, name="keepword", indent=1)
    statuses = "".join(f"| {status} | {meaning} |\n" for status, meaning in MEANINGS.items())
    lines = (line.rstrip() for line in f"{_HEAD}{statuses}\n{told}".splitlines())
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(manual(), encoding="utf-8")
