"""Says what a replay would be before anything is sent."""

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from rich.table import Table

from cli.databases import shown
from cli.events.sources import Found, Source
from cli.events.targets import Sieve, Target
from contracts.registry import by_ce_type


@dataclass(slots=True)
class Plan:
    """What a replay would be."""

    messages: int = 0
    dropped: int = 0
    purged: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    tenants: set[UUID] = field(default_factory=set)
    purged_tenants: set[UUID] = field(default_factory=set)
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, kept: Sequence[Found], purged: Sequence[Found], dropped: int) -> None:
        """Count a page."""
        self.messages += len(kept)
        self.dropped += dropped
        self.purged += len(purged)
        self.purged_tenants |= {each.tenant_id for each in purged if each.tenant_id}
        for each in kept:
            self.by_type[each.type] += 1
            self.oldest = min(self.oldest or each.said_at, each.said_at)
            self.newest = max(self.newest or each.said_at, each.said_at)
            if each.tenant_id is not None:
                self.tenants.add(each.tenant_id)


async def plan_of(source: Source, sieve: Sieve, *, force: bool) -> Plan:
    """Read all that a replay would send, and send nothing."""
    plan = Plan()
    async with aclosing(source.pages({})) as pages:
        async for found, _ in pages:
            kept, purged = await sieve.sift(found)
            plan.add(kept, purged, 0 if force else await sieve.dropped(kept))
    return plan


def table_of(plan: Plan, target: Target, *, force: bool) -> Table:
    """Lay a plan out for whoever has to confirm it."""
    table = Table(show_header=False)
    table.add_row("to", f"{target.service}, by {target.topic.name}")
    for each, number in sorted(plan.by_type.items()):
        known = by_ce_type(each)
        table.add_row(known.name if known else each, f"{number}")
    table.add_row("messages", f"{plan.messages}")
    table.add_row("tenants", f"{len(plan.tenants)}")
    if plan.oldest is not None and plan.newest is not None:
        table.add_row("oldest", shown(plan.oldest))
        table.add_row("newest", shown(plan.newest))
    inbox = "is not asked, all are handled again" if force else f"will drop {plan.dropped}"
    table.add_row("the inbox", inbox)
    if plan.purged:
        table.add_row(
            "left out", f"{plan.purged} of {len(plan.purged_tenants)} tenants that are purged"
        )
    return table
