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
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The public key, in PEM, of what KEEPWORD_AUDIT_KEY_FILE names.",
        ),
    ] = None,
) -> None:
    """Walk all that staff did in a service, entry by entry: is anything changed or missing?

    Reads the database at KEEPWORD_CONFIG_DATABASE_URL, and likewise INSTALLER, PURGER and NOTIFIER.
    That its end was cut off shows by the copy alone, which lies outside the database; who signed
    how far it had come before old months went, by the key alone.

    Example: `keepword audit verify config --copy audit.jsonl --key audit.pub.pem`

    Exit status 3 where the audit was tampered with. Exit status 1 where the database cannot be used.
    Exit status 2 where the key is none.
    """
    from cli.audit_chain import run_verify  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_verify(service, copy, key))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "What members of staff did, as each service wrote it down.", {"verify": verify_audit}
    )
