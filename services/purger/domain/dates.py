"""How long what may lie: from a clock's start to the day by which all must be gone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.deadlines import deadline as deadline_of

ESCALATION_BEFORE_ERASE_BY = timedelta(days=7)
"""The first warning that a purge may come late; a run must have begun by then."""

TOPIC_RESIDUE = timedelta(days=5)
"""How long a compacted topic may hold what was overwritten; see ``contracts.topics``."""

SHORTEST_TERM = timedelta(days=179, hours=12)
"""Between a clock's start and its deadline lies at least this: the shortest six months have 181
days, and what is still Monday at UTC-12 ends on Tuesday at noon in UTC."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How the six months are divided.

    ``grace`` is how long a tenant can come back and find its data. ``residue``
    is how long backups, topics and logs may remember what was erased, and
    ``run_margin`` is left for the erasure itself, with failures and holidays.
    """

    grace: timedelta = timedelta(days=30)
    residue: timedelta = timedelta(days=14)
    run_margin: timedelta = timedelta(days=14)

    def complaints(self, *, copies_kept: Mapping[str, timedelta]) -> list[str]:
        """Say why these times cannot keep the promise; empty when they can.

        ``copies_kept`` is how long stores outside the databases remember, by their names.
        """
        found = []
        if self.grace < timedelta():
            found.append("the grace is negative")
        kept = {**copies_kept, "topics": TOPIC_RESIDUE}
        if longer := {name: each for name, each in kept.items() if each > self.residue}:
            remember = ", ".join(f"{name} ({each.days} days)" for name, each in longer.items())
            found.append(
                f"the residue is shorter than the time for which these remember: {remember}"
            )
        if self.run_margin < ESCALATION_BEFORE_ERASE_BY:
            found.append(
                f"the run margin is under {ESCALATION_BEFORE_ERASE_BY.days} days, so the first"
                " warning would come before the run begins"
            )
        if self.grace + self.residue + self.run_margin > SHORTEST_TERM:
            found.append(
                "grace, residue and run margin together are longer than the shortest six months"
                f" ({SHORTEST_TERM / timedelta(days=1)} days)"
            )
        return found


@dataclass(frozen=True, slots=True)
class Dates:
    """When a purge starts, is to be done, and must be without a trace."""

    start_at: datetime
    erase_by: datetime
    deadline: datetime


def dates_of(clock_started_at: datetime, retention: Retention) -> Dates:
    """Say what a clock's start means; always ``start_at <= erase_by <= deadline``.

    The purge starts not before the grace is over, unless that would be too late.
    """
    deadline = deadline_of(clock_started_at)
    erase_by = deadline - retention.residue
    after_grace = clock_started_at + retention.grace
    start_at = min(max(erase_by - retention.run_margin, after_grace), erase_by)
    return Dates(start_at, erase_by, deadline)
