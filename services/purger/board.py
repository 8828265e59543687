"""What the board for staff shows: every purge with its progress and the reason of its dates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.ledger import LedgerEntry
from contracts.purges import Phase
from services.purger.brake import Standing
from services.purger.domain.steps import steps_of
from services.purger.domain.watch import Level, levels_reached
from services.purger.explanations import Explanation, explain
from services.purger.forecast import Month, Week
from services.purger.store.board import OpenPurge
from services.purger.store.chain import LedgerCheck
from services.purger.store.holds import HeldCounts

_BEGUN: Final = frozenset({Phase.ERASING, Phase.ERASED})
_OVER: Final = frozenset({Phase.CLOSED, Phase.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class Shown:
    """One purge as the board shows it."""

    purge: OpenPurge
    explanation: Explanation
    level: Level | None
    steps: int
    steps_done: int


def shown(purge: OpenPurge, *, now: datetime) -> Shown:
    """Say how far a purge is and how near its last day; steps count as done when answered."""
    plan = purge.plan
    steps = len(steps_of(plan.scope, plan.classes))
    if plan.phase is Phase.CLOSED:
        done = steps
    else:
        done = steps - len(purge.open_steps) if plan.phase in _BEGUN else 0
    may_start = plan.start_at <= now and not plan.held
    is_due = plan.phase not in _OVER and (plan.phase is not Phase.PLANNED or may_start)
    reached = (level for level, until in levels_reached(now).items() if plan.erase_by <= until)
    return Shown(purge, explain(plan), next(reached, None) if is_due else None, steps, done)


@dataclass(frozen=True, slots=True)
class Board:
    """All that is on the board at a moment, except what was searched for."""

    now: datetime
    phases: Mapping[Phase, int]
    levels: Mapping[Level, int]
    waiting: int
    held: HeldCounts
    brake: Standing
    swept_ago: timedelta | None
    overdue: Sequence[Shown]
    running: Sequence[Shown]
    due: Sequence[Shown]
    weeks: Sequence[Week]
    months: Sequence[Month]
    receipts: Sequence[LedgerEntry]
    ledger_number: int
    ledger_check: LedgerCheck

    @property
    def overdue_count(self) -> int:
        """How many purges are late; the number that has to be 0."""
        return self.levels.get(Level.OVERDUE, 0)

    @property
    def near_count(self) -> int:
        """How many purges may become late within a week."""
        return sum(self.levels.values()) - self.overdue_count

    @property
    def running_count(self) -> int:
        """How many purges have begun and are not over."""
        return sum(self.phases.get(each, 0) for each in (Phase.REQUESTED, *_BEGUN))

    @property
    def planned_count(self) -> int:
        """How many purges have not begun."""
        return self.phases.get(Phase.PLANNED, 0)

    @property
    def most_a_week(self) -> int:
        """The fullest week, by which the chart is drawn."""
        return max((week.ending for week in self.weeks), default=0)
