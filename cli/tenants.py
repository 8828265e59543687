"""`keepword tenants`: what the installer knows of a tenant, and a person's word on an import."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.unit_of_work import Units
from cli.databases import run_units_by_somebody, run_units_on, shown
from cli.running import FAILED, MISUSED
from contracts.tenants import TenantState
from services.installer.domain.links import Refusal
from services.installer.domain.tenants import Installation
from services.installer.links import link_tenants, why_not_link
from services.installer.store import links, timelines
from services.installer.store import tenants as store
from services.installer.store.links import Link
from services.installer.store.timelines import TimelineEntry

_LONGEST_REASON: Final = 500

_REFUSALS: Final = {
    Refusal.OLD_IS_GONE: "the old tenant is not known here, or its purge has begun",
    Refusal.LINKED_ALREADY: "another tenant goes on for the old one already",
    Refusal.NOT_SUPERSEDED: "the old tenant did not give way to another site at its address",
    Refusal.BEING_ERASED: "something of the old tenant is being erased already",
    Refusal.STILL_AWAITS_DATA: "data of a third tenant is still on its way to the old one; try"
    " again when that has gone",
    Refusal.NEW_IS_NOT_INSTALLED: "the new tenant is not installed, or is being erased",
    Refusal.NEW_IS_ON_FORGE: "the new tenant is on Forge, where Atlassian keeps the content",
    Refusal.NOT_AT_ONE_SITE: "the two are not of one app at one address",
}


def run_show(tenant_id: UUID) -> int:
    """Show what is known of a tenant, and never a secret."""

    async def show(units: Units[Any], console: Console) -> int:
        known = await _read(units, tenant_id)
        if known.tenant is None and not known.links:
            console.print("There is no such tenant.")
            return FAILED
        if known.tenant is None:
            console.print("This tenant is gone. What is known is who goes on for it:")
        else:
            console.print(_state(known.tenant, known.installation, known.replaced_by))
            console.print(_timeline(known.timeline))
        if known.links:
            console.print(_links(known.links))
        return 0

    return run_units_on("installer", show)


def run_link(old_id: UUID, new_id: UUID, *, by: str, reason: str, dry_run: bool) -> int:
    """Let one tenant go on for another, or show whether it might."""
    if not 0 < len(reason.strip()) <= _LONGEST_REASON:
        Console().print("Say with --reason why, in a sentence.")
        return MISUSED

    async def link(units: Units[Any], console: Console) -> int:
        refusal = await (
            why_not_link(units, old_id, new_id)
            if dry_run
            else link_tenants(units, old_id, new_id, by=by.strip(), reason=reason.strip())
        )
        if refusal is not None:
            console.print(f"Not linked: {_REFUSALS[refusal]}.", soft_wrap=True)
            return FAILED
        console.print(
            f"{new_id} goes on for {old_id}: its purge is due at once, people and content move.",
            soft_wrap=True,
        )
        console.print("Nothing was linked." if dry_run else f"Linked, by {escape(by.strip())}.")
        return 0

    return run_units_by_somebody("installer", by, link)


@dataclass(frozen=True, slots=True)
class _Known:
    tenant: TenantState | None
    installation: Installation | None
    replaced_by: Sequence[UUID]
    timeline: Sequence[TimelineEntry]
    links: Sequence[Link]


async def _read(units: Units[Any], tenant_id: UUID) -> _Known:
    async with units.begin() as uow:
        tenant = await store.read_tenant(uow.connection, tenant_id)
        stored = await store.installation_of(uow.connection, tenant_id)
        replaced_by = (
            await store.find_other_tenants_at(
                uow.connection,
                stored.installation.addon_key,
                stored.installation.base_url,
                than=tenant_id,
            )
            if stored is not None and not stored.present
            else []
        )
    return _Known(
        tenant,
        stored.installation if stored is not None else None,
        replaced_by,
        await timelines.timeline_of(units.pool, tenant_id),
        await links.links_of(units.pool, tenant_id),
    )


def _state(
    tenant: TenantState, installation: Installation | None, replaced_by: Sequence[UUID]
) -> Table:
    departure, subscription = tenant.departure, tenant.subscription
    told = {
        "tenant": str(tenant.tenant_id),
        "app": tenant.addon_key,
        "product": tenant.product_type,
        "platform": tenant.platform,
        "began": shown(tenant.created_at),
        "status": tenant.status,
        "left": f"{departure.how}, {shown(departure.at)}" if departure else "no",
        "installed at its address": ", ".join(map(str, replaced_by)) or None,
        "merged into": str(tenant.merged_into) if tenant.merged_into else None,
        "subscription": subscription.status,
        "subscription ended": shown(subscription.ended_at) if subscription.ended_at else None,
        "licences": ", ".join(tenant.licence_numbers) or None,
        "data": ", ".join(f"{name} {state}" for name, state in tenant.classes.items()),
        "purge": str(tenant.purge_id) if tenant.purge_id else None,
        # Shown on the terminal of whoever may read the database anyway, and nowhere else.
        "base URL": installation.base_url if installation else None,
        "client key": installation.client_key if installation else None,
    }
    table = Table(show_header=False)
    for name, value in told.items():
        if value is not None:
            table.add_row(name, escape(value))
    return table


def _timeline(entries: Sequence[TimelineEntry]) -> Table:
    table = Table("when", "what was heard")
    for entry in entries:
        table.add_row(shown(entry.at), entry.what)
    return table


def _links(made: Sequence[Link]) -> Table:
    table = Table("who goes on", "for whom", "linked", "by", "why", "undone")
    for link in made:
        table.add_row(
            str(link.tenant_id),
            str(link.old_tenant_id),
            shown(link.linked_at),
            escape(link.linked_by),
            escape(link.reason),
            shown(link.undone_at) if link.undone_at else "",
        )
    return table
