"""What is kept of whom: `keepword privacy`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import ControllerFile, group_of


def privacy_record(
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="md, json or html.")
    ] = "md",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to. [default: standard output]"),
    ] = None,
    controller: ControllerFile = None,
) -> None:
    """Write the record of processing (GDPR, Article 30), made of the services' data maps.

    The page in HTML is one file that fetches nothing.

    Example: `keepword privacy record --format html --output record.html`
    """
    from cli.privacy import run_record  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_record(format_name, output=output, controller=controller))


def privacy_table(controller: ControllerFile = None) -> None:
    """Write how long each store remembers, in Markdown: the table for customers to see."""
    from cli.privacy import run_table  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_table(controller=controller))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "What is kept of whom, why and until when.",
        {"record": privacy_record, "table": privacy_table},
    )
