"""Purges and their brake: `keepword purges`."""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import By, DryRun, group_of


def list_purges(
    due: Annotated[
        int | None,
        typer.Option("--due", metavar="DAYS", min=0, help="Only what must be done within so many."),
    ] = None,
) -> None:
    """Show the purges that are not over, the most urgent first, with what is still open.

    Reads purger's database at KEEPWORD_PURGER_DATABASE_URL, or, in purger's own pod, at
    KEEPWORD_DATABASE_URL. So do the commands beside this one.

    Example: `keepword purges list --due 14`
    """
    from cli.purges import run_list  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_list(due))


def explain_purges(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say why each purge of a tenant has its dates: clock, event, rule, each sum.

    Exit status 1 where nothing is planned for the tenant.

    Example: `keepword purges explain TENANT`
    """
    from cli.purges import run_explain  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_explain(tenant_id, as_json=as_json))


def forecast_purges() -> None:
    """Show how many purges start, and how many must be done, in each week of six months."""
    from cli.purges import run_forecast  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_forecast())


def dry_run_purge(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
) -> None:
    """Show what an erasure of everything of a tenant would take, and change nothing.

    Looks into each database that is named: KEEPWORD_INSTALLER_DATABASE_URL, likewise CONFIG and
    NOTIFIER, with the conditions of the erasure itself. Services without one are named as not
    looked at. Exit status 1 where a database could not be looked into.

    Example: `keepword purges dry-run TENANT`
    """
    from cli.purges import run_dry_run  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_dry_run(tenant_id))


def pull_brake(
    by: By,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; staff will read it.")
    ] = None,
) -> None:
    """Hold back every purge that has not begun. What is under way goes on.

    Example: `keepword purges brake pull --by Kim --reason "too many at once"`
    """
    from cli.purges import run_brake_pull  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_brake_pull(by=by, reason=reason))


def release_brake(by: By, dry_run: DryRun = False) -> None:
    """Note that you want purges let through; the second person lets them through.

    The same name twice is one person. Exit status 1 where the brake does not hold.

    Example: `keepword purges brake release --by Lee --dry-run`
    """
    from cli.purges import run_brake_release  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_brake_release(by=by, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    purges = group_of(
        "Purges: which are due, why, what is to come, and the brake.",
        {
            "list": list_purges,
            "explain": explain_purges,
            "forecast": forecast_purges,
            "dry-run": dry_run_purge,
        },
    )
    purges.add_typer(
        group_of(
            "Hold back every purge that has not begun: one may pull it, two release it.",
            {"pull": pull_brake, "release": release_brake},
        ),
        name="brake",
    )
    return purges
