"""Messages between services: `keepword contracts`."""

from typing import Annotated

import typer

from cli.commands.options import group_of


def diff_contracts(
    types: Annotated[
        list[str] | None, typer.Argument(metavar="[TYPE]...", help="Only these messages.")
    ] = None,
) -> None:
    """Compare today's models with the released schemas, and say why a change is refused.

    Old data and old readers stay for ever, so a message may only gain optional fields with a
    default. Reads contracts/schemas of the checkout that it runs from; changes nothing.

    Example: `keepword contracts diff data-erased`

    Exit status 1 where a change is refused, or waits for a new version.
    """
    from cli.contracts import run_diff  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_diff(types or []))


def new_contract_version(
    name: Annotated[str, typer.Argument(metavar="TYPE", help="The message, as data-erased.")],
) -> None:
    """Write the next version of a message's schema, and a golden sample to fill in.

    Only where the model has changed in a way that is allowed. Earlier files are never touched.
    What remains to be done by hand is said at the end. Exit status 1 where it is not allowed, or
    nothing has changed.

    Example: `keepword contracts new-version data-erased`
    """
    from cli.contracts import run_new_version  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_new_version(name))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Messages between services: what has changed since their last release.",
        {"diff": diff_contracts, "new-version": new_contract_version},
    )
