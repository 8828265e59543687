"""`keepword tickets`: whose support tickets are not erased yet, and a person's word that they are."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.clock import Clock
from chassis.database import Connection
from cli.databases import rehearsed, run_by_somebody, run_on, shown
from cli.running import FAILED, MISUSED
from services.notifier.domain.tickets import EVIDENCE_KEPT, complaint_about_evidence
from services.notifier.store import tickets as store
from services.notifier.store.tickets import OpenTicketErasure

_SHOWN: Final = 500


def run_list() -> int:
    """Show the purges whose tickets may still be at the service desk."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        waiting = await store.open_ticket_erasures(connection, limit=_SHOWN)
        if waiting:
            console.print(_table(waiting))
        more = " or more" if len(waiting) == _SHOWN else ""
        console.print(f"Purges with open tickets: {len(waiting)}{more}.")
        return 0

    return run_on("notifier", show)


def run_done(purge_id: UUID, *, by: str, evidence: str, dry_run: bool) -> int:
    """Note a person's word that a purge's tickets are gone, or show whether it would be taken."""
    complaint = complaint_about_evidence(evidence)
    if complaint is not None:
        Console().print(complaint)
        return MISUSED

    async def attest(connection: Connection, clock: Clock, console: Console) -> int:
        async with rehearsed(connection, dry_run=dry_run):
            noted = await store.attest_ticket_erasure(
                connection, purge_id, by=by, evidence=evidence, now=clock.now()
            )
        if not noted:
            console.print("No tickets of this purge are open; nothing was noted.")
            return FAILED
        if dry_run:
            console.print("Your word would be taken. Nothing was noted.")
            return 0
        console.print(
            f"Noted, by {escape(by)}; the receipt will say that a person did it. Name and evidence"
            f" are kept for {EVIDENCE_KEPT.days} days: the evidence must name nobody of the"
            " customer's.",
            soft_wrap=True,
        )
        return 0

    return run_by_somebody("notifier", by, attest)


def _table(waiting: Iterable[OpenTicketErasure]) -> Table:
    table = Table("purge", "since", "who", "why", "tried", "licences")
    for each in waiting:
        table.add_row(
            str(each.purge_id),
            shown(each.opened_at),
            "a person" if each.by_hand else "the job, where the desk may be reached",
            each.trouble or "",
            str(each.attempts),
            ", ".join(each.licence_numbers),
        )
    return table
