"""The rules of leaving: when a purge is due, what it takes, when it is proved and closed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.deadlines import RULE_VERSION
from contracts.deadlines import deadline as deadline_of
from contracts.purges import ClockKind, Phase, Plan, Scope, purge_id
from contracts.tenants import ClassState, SubscriptionStatus, TenantState

SHORTEST_TERM = timedelta(days=179, hours=12)
"""Between a clock's start and its deadline lies at least this: the shortest six months have 181
days, and what is still Monday at UTC-12 ends on Tuesday at noon in UTC."""

TOPIC_RESIDUE = timedelta(days=5)
"""How long a compacted topic may hold what was overwritten; see ``contracts.topics``."""

ESCALATION_BEFORE_ERASE_BY = timedelta(days=7)
"""The first warning that a purge may come late; a run must have begun by then."""

OPEN_STEPS_NAMED_BEFORE_ERASE_BY = timedelta(days=5)
"""From then on a receipt no longer waits for a step, but names it as open."""

LONGEST_SILENCE = timedelta(hours=6)
"""Asking again grows rarer up to this: a person's step may take days."""


# -- dates ------------------------------------------------------------------------------------


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

    def complaints(self, *, backups_kept: timedelta) -> list[str]:
        """Say why these times cannot keep the promise; empty when they can."""
        found = []
        if self.grace < timedelta():
            found.append("the grace is negative")
        if self.residue < max(backups_kept, TOPIC_RESIDUE):
            found.append(
                "the residue is shorter than the time for which backups"
                f" ({backups_kept.days} days) and topics ({TOPIC_RESIDUE.days} days) remember"
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


# -- plans ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clock:
    """What began the six months, and when."""

    kind: str
    started_at: datetime


def open_clocks(tenant: TenantState) -> list[Clock]:
    """List the clocks that run for a tenant, the earliest first.

    None runs before the tenant was created: what was then, was another tenant's.
    One for which another tenant goes on has nothing left to wait for.
    """
    if tenant.merged_into is not None and tenant.departure is not None:
        return [Clock(ClockKind.MERGED, max(tenant.departure.at, tenant.created_at))]
    found = []
    if tenant.departure is not None:
        found.append((ClockKind.UNINSTALLED, tenant.departure.at))
    if tenant.subscription.ended_at is not None:
        found.append((ClockKind.SUBSCRIPTION_ENDED, tenant.subscription.ended_at))
    clocks = [Clock(kind, max(at, tenant.created_at)) for kind, at in found]
    return sorted(clocks, key=lambda clock: clock.started_at)


def service_data_clock(tenant: TenantState) -> Clock | None:
    """What the vendor's service holds goes with the first clock that opened."""
    return next(iter(open_clocks(tenant)), None)


def people_clock(tenant: TenantState) -> Clock | None:
    """People stay while a licence of theirs runs, and go with whichever came later.

    That is the first clock that opened or the end of the last licence (privacy
    policy: contacts are removed six months after the subscription's end). Of a
    tenant that goes on as another they move there at once.
    """
    clocks = open_clocks(tenant)
    if not clocks or clocks[0].kind == ClockKind.MERGED:
        return next(iter(clocks), None)
    if tenant.subscription.status is SubscriptionStatus.ACTIVE:
        return None
    ended = [clock for clock in clocks if clock.kind == ClockKind.SUBSCRIPTION_ENDED]
    return ended[0] if ended else clocks[0]


def plan_purges(tenant: TenantState, retention: Retention) -> list[Plan]:
    """Say what a tenant's present state means for the erasure of each scope.

    Clocks are read from the state alone, never from the message that brought
    it: after compaction we may have missed every step in between. A scope that
    is already being erased no longer comes back, and is left alone.
    """
    service = service_data_clock(tenant) if _holds(tenant, Scope.SERVICE_DATA) else None
    people = people_clock(tenant) if _holds(tenant, Scope.PEOPLE) else None
    if service and people and service.started_at == people.started_at:
        return [_plan(tenant.tenant_id, Scope.EVERYTHING, service, retention)]
    return [
        _plan(tenant.tenant_id, scope, clock, retention)
        for scope, clock in ((Scope.SERVICE_DATA, service), (Scope.PEOPLE, people))
        if clock is not None
    ]


def adopt_purge(
    planned: Collection[Plan], tenant: TenantState, retention: Retention
) -> list["Schedule"]:
    """Take up a purge that the installer has passed the point of no return for.

    After a restore it may know of one that we forgot, or that we withdrew while
    the answer was on its way. Taken up as asked for, so that it is asked for
    again and answered. Its id is made of the tenant, the scope and the clock's
    start, so its dates are found by trying; where nothing fits it is due at once.
    """
    under_way = {
        data_class for data_class, state in tenant.classes.items() if state is ClassState.PURGING
    }
    if tenant.purge_id is None or not under_way:
        return []
    known = next((plan for plan in planned if plan.purge_id == tenant.purge_id), None)
    if known is None:
        known = _plan_named(tenant, tenant.purge_id, under_way, retention)
    elif known.phase not in {Phase.PLANNED, Phase.WITHDRAWN}:
        return []
    return [Schedule(known.model_copy(update={"phase": Phase.REQUESTED}))]


def _plan_named(
    tenant: TenantState, name: UUID, classes: set[DataClass], retention: Retention
) -> Plan:
    for clock in open_clocks(tenant):
        for scope in Scope:
            plan = _plan(tenant.tenant_id, scope, clock, retention)
            if plan.purge_id == name:
                return plan
    scope = next(scope for scope in _NARROWEST_FIRST if classes <= set(scope.classes))
    clock = Clock("unknown", tenant.created_at)
    plan = _plan(tenant.tenant_id, scope, clock, retention)
    return plan.model_copy(update={"purge_id": name})


_NARROWEST_FIRST = (Scope.SERVICE_DATA, Scope.PEOPLE, Scope.EVERYTHING)


def _plan(tenant_id: UUID, scope: Scope, clock: Clock, retention: Retention) -> Plan:
    dates = dates_of(clock.started_at, retention)
    if clock.kind == ClockKind.MERGED:
        dates = replace(dates, start_at=min(clock.started_at, dates.start_at))
    return Plan(
        purge_id=purge_id(tenant_id, scope, clock.started_at),
        scope=scope,
        clock=clock.kind,
        clock_started_at=clock.started_at,
        rule_version=RULE_VERSION,
        deadline=dates.deadline,
        erase_by=dates.erase_by,
        start_at=dates.start_at,
        phase=Phase.PLANNED,
    )


def _holds(tenant: TenantState, scope: Scope) -> bool:
    return any(tenant.classes[each] is ClassState.LIVE for each in scope.classes)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A purge is to be planned, or planned for other dates."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A purge is no longer to be."""

    purge_id: UUID


Decision: TypeAlias = Schedule | Withdraw


def compare_plans(
    planned: Collection[Plan], wanted: Collection[Plan], tenant: TenantState
) -> list[Decision]:
    """Say what makes the planned purges of a tenant the wanted ones; empty when they are.

    ``planned`` are all purges that we know of the tenant, in whatever phase. One
    that passed the point of no return is left alone, one that was withdrawn
    comes back under its own id.
    """
    known = {plan.purge_id: plan for plan in planned}
    wanted_ids = {plan.purge_id for plan in wanted}
    withdrawn = [
        Withdraw(plan.purge_id)
        for plan in planned
        if plan.purge_id not in wanted_ids
        and plan.phase is not Phase.WITHDRAWN
        and _can_still_change(plan, tenant)
    ]
    scheduled = [
        Schedule(plan)
        for plan in wanted
        if plan.purge_id not in known or _is_to_be_written_anew(known[plan.purge_id], plan)
    ]
    return [*withdrawn, *scheduled]


def _can_still_change(plan: Plan, tenant: TenantState) -> bool:
    """A purge that was asked for is past it as soon as the state shows a class as not live.

    The answer to the asking is then still on its way to us.
    """
    if plan.purge_id == tenant.purge_id:
        return False
    if plan.phase is Phase.REQUESTED:
        return all(tenant.classes[each] is ClassState.LIVE for each in plan.scope.classes)
    return plan.phase in {Phase.PLANNED, Phase.WITHDRAWN}


def _is_to_be_written_anew(known: Plan, wanted: Plan) -> bool:
    """A purge that was asked for keeps its dates: they are what the asking was about."""
    return known.phase in {Phase.PLANNED, Phase.WITHDRAWN} and known != wanted


def nothing_left(plans: Collection[Plan], *, tenant_known: bool) -> bool:
    """Whether a tenant's purges need never be spoken of again.

    That is when none is open and all classes are erased, or the tenant is gone.
    """
    if any(plan.phase not in {Phase.CLOSED, Phase.WITHDRAWN} for plan in plans):
        return False
    erased = {each for plan in plans if plan.phase is Phase.CLOSED for each in plan.scope.classes}
    return not tenant_known or erased == set(TENANT_CLASSES)


# -- steps ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Who has to erase what, in which wave."""

    step: str
    owner: str
    wave: int
    classes: tuple[DataClass, ...]


WAVE_OF_CONTACTS = 2

_STEPS = (
    StepPlan("erase-installer", "installer", 1, (DataClass.INSTALLATION,)),
    StepPlan("erase-config", "config", 1, (DataClass.CONTENT, DataClass.ERRORS)),
    StepPlan("erase-notifier", "notifier", 1, (DataClass.TICKETS,)),
    StepPlan("erase-contacts", "notifier", WAVE_OF_CONTACTS, (DataClass.CONTACTS,)),
)


def steps_of(scope: Scope) -> tuple[StepPlan, ...]:
    """List the steps of a purge; contacts come in a wave of their own, after their receipt."""
    return tuple(step for step in _STEPS if set(step.classes) <= set(scope.classes))


@dataclass(frozen=True, slots=True)
class Step:
    """How far one owner's part has come."""

    plan: StepPlan
    ledger_number: int | None = None
    counts: dict[DataClass, int] | None = None
    data_map_hash: str | None = None
    erased_at: datetime | None = None

    @property
    def started(self) -> bool:
        """Whether the owner was told to begin."""
        return self.ledger_number is not None

    @property
    def answered(self) -> bool:
        """Whether the owner has erased, looked again and found nothing."""
        return self.erased_at is not None


@dataclass(frozen=True, slots=True)
class Purge:
    """A purge with whose it is; the receipt's code is there once it was accepted."""

    tenant_id: UUID
    plan: Plan
    receipt_code: str | None


@dataclass(frozen=True, slots=True)
class WriteFirstReceipt:
    """Wave 1 is done, or it is so late that what is open has to be named as open."""


@dataclass(frozen=True, slots=True)
class StartWaveTwo:
    """The people may be told, and then forgotten."""


@dataclass(frozen=True, slots=True)
class WriteLastReceipt:
    """Every step has answered."""


Act: TypeAlias = WriteFirstReceipt | StartWaveTwo | WriteLastReceipt


def next_act(
    phase: Phase, steps: Sequence[Step], *, now: datetime, erase_by: datetime
) -> Act | None:
    """Say what a purge under way needs next; None while it has to wait.

    A step that a person has to do never holds up the erasure of people: five days
    before ``erase_by`` the first receipt is written whatever is open.
    """
    if phase is Phase.ERASING:
        late = now >= erase_by - OPEN_STEPS_NAMED_BEFORE_ERASE_BY
        if late or all(step.answered for step in steps if step.plan.wave == 1):
            return WriteFirstReceipt()
    elif phase is Phase.ERASED:
        if not all(step.started for step in steps):
            return StartWaveTwo()
        if all(step.answered for step in steps):
            return WriteLastReceipt()
    return None


# -- brake ------------------------------------------------------------------------------------

CLOCK_MAY_JUMP = timedelta(hours=1)
SHARE_OF_TENANTS_A_DAY = 0.02
TENANTS_A_DAY = 10
"""So many tenants may leave in a day however few there are."""

TIMES_THE_FORECAST = 3
"""So many times more than was forecast for a day may leave in it."""

FORECAST_DAYS_AHEAD = 7
"""So long before a day its forecast is made, and then not changed: what floods in later is news."""

PULLED = "pulled"
"""The reason of a brake that a person pulled."""

RELEASED_BY = 2

LONGEST_NAME = 200
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Sweep:
    """The two clocks at the moment of a sweep."""

    business_at: datetime
    wall_at: datetime


def clock_jump(last: Sweep, this: Sweep) -> timedelta:
    """How much further business time moved than wall time did."""
    return (this.business_at - last.business_at) - (this.wall_at - last.wall_at)


def why_to_brake(
    last: Sweep | None,
    this: Sweep,
    *,
    tenants_due: int,
    tenants: int,
    forecast: int | None = None,
) -> str | None:
    """Say why no purge may start until two people have looked; None when all is ordinary.

    ``tenants_due`` counts those that are due now or were asked for within a day,
    without those that people have already let through. ``forecast`` is how many
    of them were expected; None where nobody had made one.
    """
    if last is not None and clock_jump(last, this) > CLOCK_MAY_JUMP:
        return "clock-jumped"
    if tenants_due < TENANTS_A_DAY:
        return None
    if tenants_due > SHARE_OF_TENANTS_A_DAY * tenants:
        return "too-many-due"
    if forecast is not None and tenants_due > TIMES_THE_FORECAST * forecast:
        return "more-than-forecast"
    return None


def same_person(name: str) -> str:
    """Spell a name so that one person is one, whatever the case and the spaces."""
    return " ".join(name.split()).casefold()


# -- watch ------------------------------------------------------------------------------------


class Level(StrEnum):
    """How near the last day of a purge is that ought to be finished."""

    SEVEN_DAYS = "seven-days"
    FIVE_DAYS = "five-days"
    TWO_DAYS = "two-days"
    OVERDUE = "overdue"


_LEVELS = {
    Level.OVERDUE: timedelta(),
    Level.TWO_DAYS: timedelta(days=2),
    Level.FIVE_DAYS: OPEN_STEPS_NAMED_BEFORE_ERASE_BY,
    Level.SEVEN_DAYS: ESCALATION_BEFORE_ERASE_BY,
}


def levels_reached(now: datetime) -> dict[Level, datetime]:
    """Say for each level, the gravest first, up to which ``erase_by`` a purge has reached it."""
    return {level: now + before for level, before in _LEVELS.items()}
