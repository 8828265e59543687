"""Campaigns on their way: `keepword mail`."""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import DryRun, group_of


def list_mail() -> None:
    """Show each campaign: kind, state, its deliveries by state, how many a minute.

    Reads notifier's database at KEEPWORD_NOTIFIER_DATABASE_URL, or, in notifier's own pod, at
    KEEPWORD_DATABASE_URL. So do the commands beside this one.
    """
    from cli.mail import run_list  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_list())


def list_uncertain_mail() -> None:
    """Show the messages of which an attempt ended without anybody knowing how.

    Each is named by its campaign and the beginning of its address's keyed hash, never by an
    address. What is owed to everybody was sent once more, with the same Message-ID; news never.
    """
    from cli.mail import run_uncertain  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_uncertain())


def resume_mail(
    campaign_id: Annotated[UUID, typer.Argument(metavar="CAMPAIGN_ID", help="The campaign.")],
    dry_run: DryRun = False,
) -> None:
    """Let a paused campaign go on, as after a restore, or when its template is mended.

    What may have gone out before the restore is not sent again. Exit status 1 where it is not
    paused.

    Example: `keepword mail resume CAMPAIGN --dry-run`
    """
    from cli.mail import run_resume  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_resume(campaign_id, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "How far campaigns have come, what is in doubt, and letting one go on.",
        {"list": list_mail, "uncertain": list_uncertain_mail, "resume": resume_mail},
    )
