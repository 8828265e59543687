"""Options that several groups of commands share, and what a shell completes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer


def services() -> list[str]:
    """The names that a shell completes."""
    from contracts.topics import SERVICES  # noqa: PLC0415 - help comes at once without it

    return list(SERVICES)


State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Where data, keys and logs are kept. [default: $KEEPWORD_STATE_DIR, else .state]",
    ),
]

ControllerFile = Annotated[
    Path | None,
    typer.Option(
        "--controller",
        metavar="FILE",
        help="Who answers for the data, in TOML. [default: docs/controller.toml]",
    ),
]

By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides this; it is kept.")]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, show what would follow.")]

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Whose.", autocompletion=services)]


def group_of(help_text: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """Make a group of these commands, by the names that one types."""
    group = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode="markdown")
    for name, command in commands.items():
        group.command(name)(command)
    return group
