"""Says in plain words why a purge has the dates it has: its clock, the rule, each sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from contracts.deadlines import RULE_VERSION, deadline, local_date
from contracts.purges import ClockKind, Phase, Plan

_DAY: Final = timedelta(days=1)

_EVENTS: Final[Mapping[str, str]] = {
    ClockKind.UNINSTALLED: "The customer left",
    ClockKind.SUBSCRIPTION_ENDED: "The subscription ended",
    ClockKind.FORGE_CONTENT: "The app moved to Forge, where content stays in the customer's site",
    ClockKind.ERASURE_ASKED: "Erasure was asked for",
    ClockKind.MERGED: "Another tenant goes on for this one",
}

_PHASES: Final[Mapping[Phase, str]] = {
    Phase.PLANNED: "planned: a customer who comes back before it begins calls it off",
    Phase.REQUESTED: "asked for: the installer has not answered yet, and may still refuse",
    Phase.ERASING: "running: nothing comes back any more",
    Phase.ERASED: "the first receipt is written; what it names as open is still to be done",
    Phase.CLOSED: "finished: every step has answered, and the last receipt is written",
    Phase.WITHDRAWN: "called off: it will not be",
}

_HELD: Final = "kept by a legal hold: it begins when the hold is released and its start has come"


@dataclass(frozen=True, slots=True)
class Sum:
    """One date with the sum that it came from and the reason of the sum."""

    date: str
    at: datetime
    reckoned: str
    because: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a purge has its dates, and how far it is."""

    purge_id: UUID
    scope: str
    classes: tuple[str, ...]
    phase: Phase
    standing: str
    clock: str
    rule_version: int
    event: str
    sums: tuple[Sum, ...]


def explain(plan: Plan) -> Explanation:
    """Explain a purge's dates from what is stored with them, whatever today's settings are.

    A sum that does not come out is never claimed: what no rule of today gives is
    said to be the date that was written down.
    """
    event = _EVENTS.get(plan.clock, f"A clock of the kind {plan.clock} started")
    return Explanation(
        purge_id=plan.purge_id,
        scope=plan.scope.value,
        classes=tuple(each.value for each in plan.takes),
        phase=plan.phase,
        standing=_HELD if plan.held and plan.phase is Phase.PLANNED else _PHASES[plan.phase],
        clock=plan.clock,
        rule_version=plan.rule_version,
        event=f"{event} on {_moment(plan.clock_started_at)}.",
        sums=(_deadline(plan), _erase_by(plan), _start(plan)),
    )


def _deadline(plan: Plan) -> Sum:
    six_months_on = deadline(plan.clock_started_at)
    because = "By then it is gone without a trace, in copies as well."
    if plan.deadline == six_months_on and plan.rule_version == RULE_VERSION:
        began_on = local_date(plan.clock_started_at)
        reckoned = (
            f"{_day(began_on)}, the earliest date that it then was anywhere on earth,"
            f" and six calendar months make {_day(plan.deadline)}"
        )
        because = f"{because} It ends as that day begins in UTC, so no customer counts fewer."
    elif plan.deadline < six_months_on:
        reckoned = (
            f"{_days(plan.deadline - plan.clock_started_at)} after that, and so before the six"
            f" months end on {_day(six_months_on)}"
        )
    else:
        reckoned = f"written down by rule {plan.rule_version}; today's is {RULE_VERSION}"
    return Sum("deadline", plan.deadline, reckoned, because)


def _erase_by(plan: Plan) -> Sum:
    residue = plan.deadline - plan.erase_by
    return Sum(
        "erase_by",
        plan.erase_by,
        f"{_day(plan.deadline)} less {_days(residue)}",
        "So long backups, topics and logs may remember what was erased.",
    )


def _start(plan: Plan) -> Sum:
    margin = plan.erase_by - plan.start_at
    after = plan.start_at - plan.clock_started_at
    if plan.clock == ClockKind.MERGED and after <= timedelta():
        reckoned = "at once"
        because = "The people are looked after by the tenant that goes on, so nobody has to wait."
    elif plan.clock == ClockKind.ERASURE_ASKED:
        reckoned = f"{_days(after)} after it was asked for"
        because = "Until then the wish can be withdrawn."
    elif margin % _DAY and not after % _DAY:
        reckoned = f"{_days(after)} after the clock started"
        because = "So long a customer who comes back finds everything again."
    elif not margin:
        reckoned = "on the last day itself"
        because = "A customer who comes back finds everything again for as long as can be."
    else:
        reckoned = f"{_day(plan.erase_by)} less {_days(margin)}"
        because = "So long the erasure itself may take, with failures and holidays."
    return Sum("start_at", plan.start_at, reckoned, because)


def _days(time: timedelta) -> str:
    days, rest = divmod(time, _DAY)
    hours = rest // timedelta(hours=1)
    told = f"{days} day{'' if days == 1 else 's'}"
    return f"{told} and {hours} h" if hours else told


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _moment(moment: datetime) -> str:
    return f"{_day(moment)} at {moment:%H:%M} UTC"
