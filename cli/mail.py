"""`keepword mail`: how far campaigns have come, what is in doubt, and letting one go on."""

from typing import Final
from uuid import UUID

from rich.console import Console
from rich.table import Table

from chassis.clock import Clock
from chassis.database import Connection
from cli.databases import rehearsed, run_on, shown
from cli.running import FAILED
from services.notifier.store import campaigns as store

_SHOWN: Final = 500


def run_list() -> int:
    """Show how far campaigns have come."""

    async def show(connection: Connection, clock: Clock, console: Console) -> int:
        found = await store.progress(connection, now=clock.now(), limit=_SHOWN)
        table = Table("campaign", "kind", "state", "since", "deliveries", "a minute")
        for each in found:
            counts = ", ".join(f"{state} {n}" for state, n in sorted(each.counts.items()))
            table.add_row(
                str(each.campaign_id),
                each.kind,
                each.state,
                shown(each.noted_at),
                counts,
                f"{each.per_minute:.1f}",
            )
        if found:
            console.print(table)
        console.print(f"Campaigns: {len(found)}{' or more' if len(found) == _SHOWN else ''}.")
        return 0

    return run_on("notifier", show)


def run_uncertain() -> int:
    """Show the messages of which an attempt ended without anybody knowing how."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        found = await store.doubts(connection, limit=_SHOWN)
        table = Table("campaign", "kind", "address", "now", "doubts", "attempts")
        for each in found:
            table.add_row(
                str(each.campaign_id),
                each.kind,
                each.address_index.hex()[:16],
                each.state,
                str(each.doubts),
                str(each.attempts),
            )
        if found:
            console.print(table)
        console.print(
            f"Messages in doubt: {len(found)}{' or more' if len(found) == _SHOWN else ''}."
        )
        return 0

    return run_on("notifier", show)


def run_resume(campaign_id: UUID, *, dry_run: bool) -> int:
    """Let a paused campaign go on, or show how much it would send."""

    async def resume(connection: Connection, clock: Clock, console: Console) -> int:
        async with rehearsed(connection, dry_run=dry_run):
            resumed = await store.resume_campaign(connection, campaign_id)
            course = await store.course_of(connection, campaign_id, now=clock.now())
        if not resumed or course is None:
            console.print("There is no such campaign, or it is not paused.")
            return FAILED
        console.print(
            f"Mails to be sent: {course.left}. {'It stays paused.' if dry_run else 'It goes on.'}"
        )
        return 0

    return run_on("notifier", resume)
