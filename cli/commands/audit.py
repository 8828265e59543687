"""What members of staff did: `keepword audit`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import Service, group_of


def verify_audit(
    service: Service,
    copy: Annotated[
        Path | None,
        typer.Option("--copy", metavar="FILE", help="The file that KEEPWORD_AUDIT_FILE names."),
    ] = None,
) -> None:
    """Walk all that staff did in a service, entry by entry: is anything changed or missing?

    Reads the database at KEEPWORD_CONFIG_DATABASE_URL, and likewise INSTALLER, PURGER and NOTIFIER.
    That its end was cut off shows by the copy alone, which lies outside the database.

    Example: `keepword audit verify config --copy audit.jsonl`

    Exit status 3 where the audit was tampered with. Exit status 1 where the database cannot be used.
    """
    from cli.audit_chain import run_verify  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_verify(service, copy))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "What members of staff did, as each service wrote it down.", {"verify": verify_audit}
    )
