"""Tenants as the installer knows them: `keepword tenants`."""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.options import By, DryRun, group_of


def show_tenant(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
) -> None:
    """Show what the installer knows of a tenant: how it left, its timeline, who replaced it.

    Its host and its client key are shown, as you have the database; its secret never is.
    Reads the installer's database, as `keepword access` does. Exit status 1 where there is no
    such tenant.

    Example: `keepword tenants show TENANT`
    """
    from cli.tenants import run_show  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_show(tenant_id))


def link_tenants(
    old: Annotated[UUID, typer.Argument(metavar="OLD", help="The tenant that was superseded.")],
    new: Annotated[UUID, typer.Argument(metavar="NEW", help="The tenant that goes on for it.")],
    by: By,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="Why; it is kept. A ticket's number, no names."
        ),
    ],
    dry_run: DryRun = False,
) -> None:
    """Let the new tenant of an imported site go on for the old one, whose data moves to it.

    First make sure that both are one customer: an address can change hands, and what has moved
    does not come back. The old tenant is purged at once instead of in months; until that
    begins, its return undoes the link. Exit status 1 where the two may not be linked.

    Example: `keepword tenants link OLD NEW --by Kim --reason OPS-7 --dry-run`
    """
    from cli.tenants import run_link  # noqa: PLC0415 - help comes at once without it

    raise typer.Exit(run_link(old, new, by=by, reason=reason, dry_run=dry_run))


def group() -> typer.Typer:
    """Put the group together."""
    return group_of(
        "Tenants as the installer knows them, and a person's word on imports of sites.",
        {"show": show_tenant, "link": link_tenants},
    )
