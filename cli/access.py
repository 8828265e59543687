"""`keepword access`: whose sites refuse us, and a person's word on it."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Final, assert_never
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.clock import Clock
from chassis.database import Connection
from cli.databases import run_by_somebody, run_on, shown
from cli.running import FAILED
from services.installer.domain.access import Leave, Reason, Wait, decide_departure
from services.installer.store import access as store
from services.installer.store.access import Hold, LostTenant

_PAGE: Final = 500

_REASONS: Final = {
    Reason.ON_FORGE: "stays: it is installed by Forge",
    Reason.TOO_SOON: "waits for three refusals over three days",
    Reason.HELD: "waits: its app is held",
    Reason.NO_REPORT: "waits for the licence report, or a person",
    Reason.PAID_FOR: "stays: it may be paid for; a person may confirm",
}


def run_list() -> int:
    """Show which apps are held, and which tenants' sites refuse us."""
    return run_on("installer", _show_all)


def run_confirm(tenant_id: UUID, *, by: str, dry_run: bool) -> int:
    """Note a person's word that a tenant's site is gone, or show what would follow from it."""

    async def confirm(connection: Connection, clock: Clock, console: Console) -> int:
        lost = await store.lost_tenant(connection, tenant_id)
        if lost is None:
            console.print("No installed tenant of this id has a site that refuses us.")
            return FAILED
        if not dry_run and not await store.confirm_loss(
            connection, tenant_id, by=by, now=clock.now()
        ):
            console.print("The site has just let us in again; nothing was noted.")
            return FAILED
        confirmed = replace(lost, standing=replace(lost.standing, confirmed=True))
        console.print(_tenants([confirmed]))
        console.print("Nothing was noted." if dry_run else f"Noted, by {escape(by)}.")
        return 0

    return run_by_somebody("installer", by, confirm)


def run_release(addon_key: str, *, by: str, dry_run: bool) -> int:
    """Let an app's departures go on, or show which would."""

    async def release(connection: Connection, clock: Clock, console: Console) -> int:
        holds = {hold.addon_key for hold in await store.open_holds(connection)}
        if addon_key not in holds or not (
            dry_run or await store.release_hold(connection, addon_key, by=by, now=clock.now())
        ):
            console.print(f"{escape(addon_key)} is not held.")
            return FAILED
        freed = [
            replace(lost, standing=replace(lost.standing, held=False))
            async for lost in _all_lost(connection)
            if lost.addon_key == addon_key
        ]
        leaving = [lost for lost in freed if isinstance(decide_departure(lost.standing), Leave)]
        console.print(_tenants(leaving))
        console.print(
            f"{len(leaving)} of {len(freed)} lost tenants leave when the installer looks next."
        )
        console.print("Nothing was released." if dry_run else f"Released, by {escape(by)}.")
        return 0

    return run_by_somebody("installer", by, release)


async def _show_all(connection: Connection, _: Clock, console: Console) -> int:
    holds = await store.open_holds(connection)
    if holds:
        console.print(_holds(holds))
    lost = [each async for each in _all_lost(connection)]
    if lost:
        console.print(_tenants(lost))
    console.print(
        f"Held apps: {len(holds)}. Installed tenants whose sites refuse us: {len(lost)}.",
        soft_wrap=True,
    )
    return 0


async def _all_lost(connection: Connection) -> AsyncIterator[LostTenant]:
    after: UUID | None = None
    while page := await store.lost_tenants(connection, after=after, limit=_PAGE):
        for lost in page:
            yield lost
        after = page[-1].tenant_id


def _holds(holds: Iterable[Hold]) -> Table:
    table = Table("held app", "since", "lost", "of")
    for hold in holds:
        table.add_row(hold.addon_key, shown(hold.held_at), str(hold.losses), str(hold.asked))
    return table


def _tenants(tenants: Iterable[LostTenant]) -> Table:
    table = Table("tenant", "app", "losses", "since", "last seen", "subscription", "what follows")
    for lost in tenants:
        standing = lost.standing
        table.add_row(
            str(lost.tenant_id),
            lost.addon_key,
            str(standing.losses),
            shown(standing.first_lost_at),
            shown(standing.last_seen_at),
            standing.subscription,
            _what_follows(lost),
        )
    return table


def _what_follows(lost: LostTenant) -> str:
    decision = decide_departure(lost.standing)
    match decision:
        case Leave(at):
            return f"left {shown(at)}, noted when the installer looks next"
        case Wait(reason):
            return _REASONS[reason]
        case other:
            assert_never(other)
