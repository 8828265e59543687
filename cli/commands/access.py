"""Tenants whose sites refuse us: `keepword access`."""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import By, DryRun, group_of


def list_access() -> None:
    """Show which apps' departures are held, and which installed tenants' sites refuse us.

    Reads the installer's database at KEEPWORD_INSTALLER_DATABASE_URL, or, in the installer's own
    pod, at KEEPWORD_DATABASE_URL. So do the commands beside this one.
    """
    from cli.access import run_list  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_list())


def confirm_access(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT_ID", help="The tenant.")],
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Note your word that a tenant's site is gone, in place of the licence report's.

    The tenant leaves after three refusals over three days, on the day when it was last seen. If
    the site answers again, your word is forgotten. Exit status 1 where no site refuses us.

    Example: `keepword access confirm TENANT --by Kim`
    """
    from cli.access import run_confirm  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_confirm(tenant_id, by=by, dry_run=dry_run))


def release_access(
    app: Annotated[str, typer.Argument(metavar="APP", help="The app's key.")],
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Let an app's tenants leave again of which too many were lost at once.

    First make sure that the fault is not ours, nor Atlassian's: does the app still reach sites
    that are there? What was lost until now does not count towards the next hold.
    Exit status 1 where the app is not held.

    Example: `keepword access release com.example.reports --by Kim --dry-run`
    """
    from cli.access import run_release  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_release(app, by=by, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Tenants whose sites refuse us, and a person's word on whether they have left.",
        {"list": list_access, "confirm": confirm_access, "release": release_access},
    )
