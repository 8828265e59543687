"""Support tickets that are not erased yet: `keepword tickets`."""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import By, DryRun, group_of


def list_tickets() -> None:
    """Show the purges whose support tickets may still be at the service desk, and who is to act.

    Reads notifier's database at KEEPWORD_NOTIFIER_DATABASE_URL, or, in notifier's own pod, at
    KEEPWORD_DATABASE_URL. So does the command beside this one.
    """
    from cli.tickets import run_list  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_list())


def attest_tickets(
    purge_id: Annotated[UUID, typer.Argument(metavar="PURGE_ID", help="The purge.")],
    by: By,
    evidence: Annotated[
        str,
        typer.Option("--evidence", metavar="TEXT", help="How you know it; kept, so name nobody."),
    ],
    dry_run: DryRun = False,
) -> None:
    """Note your word that no ticket of a purge's licences is left at the service desk.

    Look for them by the licence numbers that the list shows, and leave what another customer's
    licence names too. The receipt says that a person did this step; your name and the evidence
    stay with us for 400 days. Exit status 1 where none of the purge's tickets are open.

    Example: `keepword tickets done PURGE --by Kim --evidence "no issue of SEN-1 in project HELP"`
    """
    from cli.tickets import run_done  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_done(purge_id, by=by, evidence=evidence, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Support tickets that are not erased yet, and a person's word that they are.",
        {"list": list_tickets, "done": attest_tickets},
    )
