"""The rules of leaving: when a purge is due, what it takes, when it is proved and closed."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from typing import TypeAlias
from uuid import UUID

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.deadlines import RULE_VERSION
from contracts.deadlines import deadline as deadline_of
from contracts.ledger import EntryKind, LedgerEntry, Restoration, RestoredEntry
from contracts.purges import (
    REFUSED_FOR_NEWER_STATE,
    ClockKind,
    Phase,
    Plan,
    PurgeRefused,
    Scope,
    purge_id,
)
from contracts.tenants import ClassState, Platform, SubscriptionStatus, TenantState, Version

SHORTEST_TERM = timedelta(days=179, hours=12)
"""Between a clock's start and its deadline lies at least this: the shortest six months have 181
days, and what is still Monday at UTC-12 ends on Tuesday at noon in UTC."""

TOPIC_RESIDUE = timedelta(days=5)
"""How long a compacted topic may hold what was overwritten; see ``contracts.topics``."""

ESCALATION_BEFORE_ERASE_BY = timedelta(days=7)
"""The first warning that a purge may come late; a run must have begun by then."""

OPEN_STEPS_NAMED_BEFORE_ERASE_BY = timedelta(days=5)
"""From then on a receipt no longer waits for a step, but names it as open."""

FORGE_CONTENT_KEPT = timedelta(days=60)
"""So long after a tenant's move to Forge its old content can still be exported."""

COOLING_OFF = timedelta(days=7)
"""So long nothing happens after an erasure was asked for, so that it can be withdrawn."""

WISH_FULFILLED_WITHIN = timedelta(days=21)
"""From the asking; a month is what the law leaves (GDPR Art. 12(3))."""

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


# -- clocks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clock:
    """What began the time that is left for an erasure, and when."""

    kind: str
    started_at: datetime


def open_clocks(tenant: TenantState) -> list[Clock]:
    """List the clocks that run for a tenant, the earliest first.

    None runs before the tenant was created: what was then, was another tenant's.
    One for which another tenant goes on has nothing left to wait for, and of its
    clocks the earliest is left.
    """
    found = []
    if tenant.departure is not None:
        found.append((ClockKind.UNINSTALLED, tenant.departure.at))
    if tenant.subscription.ended_at is not None:
        found.append((ClockKind.SUBSCRIPTION_ENDED, tenant.subscription.ended_at))
    clocks = [Clock(kind, max(at, tenant.created_at)) for kind, at in found]
    clocks.sort(key=lambda clock: clock.started_at)
    if tenant.merged_into is not None and tenant.departure is not None:
        return [Clock(ClockKind.MERGED, clocks[0].started_at)]
    return clocks


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


def forge_content_clock(tenant: TenantState) -> Clock | None:
    """What a tenant kept with us before it moved to Forge goes, though it stays (promise P11)."""
    if tenant.platform is not Platform.FORGE or tenant.platform_since is None:
        return None
    return Clock(ClockKind.FORGE_CONTENT, max(tenant.platform_since, tenant.created_at))


def wish_clock(tenant: TenantState, wished_at: datetime | None) -> Clock | None:
    """Who asked for its erasure is erased, also while it is installed and pays."""
    if wished_at is None:
        return None
    return Clock(ClockKind.ERASURE_ASKED, max(wished_at, tenant.created_at))


def clock_of(
    data_class: DataClass,
    tenant: TenantState,
    retention: Retention,
    *,
    wished_at: datetime | None = None,
) -> Clock | None:
    """Find the clock by which a class of a tenant's data goes: the one that wants it gone first.

    Which began first does not matter, as some leave less time than others.
    ``wished_at`` is when the first wish for its erasure that stands was made.
    """
    found = (
        people_clock(tenant) if data_class in Scope.PEOPLE.classes else service_data_clock(tenant)
    )
    if found is not None and found.kind == ClockKind.MERGED:
        return found
    forge = forge_content_clock(tenant) if data_class is DataClass.CONTENT else None
    return min(
        filter(None, (found, forge, wish_clock(tenant, wished_at))),
        key=lambda clock: dates_by(clock, retention).erase_by,
        default=None,
    )


def dates_by(clock: Clock, retention: Retention) -> Dates:
    """Say what a clock means; none leaves more than the six months."""
    dates = dates_of(clock.started_at, retention)
    match clock.kind:
        case ClockKind.MERGED:
            return replace(dates, start_at=min(clock.started_at, dates.start_at))
        case ClockKind.FORGE_CONTENT:
            start_at = clock.started_at + FORGE_CONTENT_KEPT
            return _sooner(dates, start_at, start_at + retention.run_margin, retention)
        case ClockKind.ERASURE_ASKED:
            start_at = clock.started_at + COOLING_OFF
            erase_by = clock.started_at + WISH_FULFILLED_WITHIN
            return _sooner(dates, start_at, erase_by, retention)
        case _:
            return dates


def _sooner(dates: Dates, start_at: datetime, erase_by: datetime, retention: Retention) -> Dates:
    erase_by = min(erase_by, dates.erase_by)
    return Dates(
        min(start_at, erase_by), erase_by, min(erase_by + retention.residue, dates.deadline)
    )


# -- plans ------------------------------------------------------------------------------------


def plan_purges(
    tenant: TenantState,
    retention: Retention,
    *,
    wished_at: datetime | None = None,
    held: Collection[DataClass] = (),
) -> list[Plan]:
    """Say what a tenant's present state means for the erasure of each class of its data.

    Clocks are read from the state alone, never from the message that brought
    it: after compaction we may have missed every step in between. A class that
    is already being erased no longer comes back, and is left alone. Every other
    one is in one plan at most, and all that go by the same clock are in the same,
    but for those that a legal hold keeps: they have a plan of their own with the
    same dates, so that it can be seen when they should have gone.
    """
    parts: dict[tuple[datetime, Dates, bool], tuple[Clock, list[DataClass]]] = {}
    for each in TENANT_CLASSES:
        clock = clock_of(each, tenant, retention, wished_at=wished_at)
        if clock is not None and tenant.classes[each] is ClassState.LIVE:
            together = (clock.started_at, dates_by(clock, retention), each in held)
            parts.setdefault(together, (clock, []))[1].append(each)
    return [
        _plan(tenant.tenant_id, classes, clock, retention, held=is_held)
        for (_, _, is_held), (clock, classes) in parts.items()
    ]


def adopt_purge(
    planned: Collection[Plan],
    tenant: TenantState,
    retention: Retention,
    *,
    wished_at: datetime | None = None,
) -> list["Schedule"]:
    """Take up a purge that the installer has passed the point of no return for.

    After a restore it may know of one that we forgot, or that we withdrew while
    the answer was on its way. Taken up as asked for, so that it is asked for
    again and answered. Its id is made of the tenant, the classes and the clock's
    start, so its dates are found by trying; where nothing fits it is due at once.
    """
    under_way = [each for each in TENANT_CLASSES if tenant.classes[each] is ClassState.PURGING]
    if tenant.purge_id is None or not under_way:
        return []
    known = next((plan for plan in planned if plan.purge_id == tenant.purge_id), None)
    if known is None:
        clocks = [*open_clocks(tenant), forge_content_clock(tenant), wish_clock(tenant, wished_at)]
        known = _plan_named(tenant, tenant.purge_id, filter(None, clocks), under_way, retention)
    elif known.phase not in {Phase.PLANNED, Phase.WITHDRAWN}:
        return []
    return [Schedule(known.model_copy(update={"phase": Phase.REQUESTED}))]


def _plan_named(
    tenant: TenantState,
    name: UUID,
    clocks: Iterable[Clock],
    under_way: Sequence[DataClass],
    retention: Retention,
) -> Plan:
    for clock in clocks:
        for classes in _PARTS:
            plan = _plan(tenant.tenant_id, classes, clock, retention)
            if plan.purge_id == name:
                return plan
    plan = _plan(tenant.tenant_id, under_way, Clock("unknown", tenant.created_at), retention)
    return plan.model_copy(update={"purge_id": name})


_NARROWEST_FIRST = (Scope.SERVICE_DATA, Scope.PEOPLE, Scope.EVERYTHING)

_PARTS = [
    part
    for size in range(1, len(TENANT_CLASSES) + 1)
    for part in combinations(TENANT_CLASSES, size)
]
"""All that one purge may take."""


def _plan(
    tenant_id: UUID,
    classes: Sequence[DataClass],
    clock: Clock,
    retention: Retention,
    *,
    held: bool = False,
) -> Plan:
    """Plan the erasure of these classes, which are in the order of ``TENANT_CLASSES``."""
    dates = dates_by(clock, retention)
    scope = next(each for each in _NARROWEST_FIRST if set(classes) <= set(each.classes))
    part = None if tuple(classes) == scope.classes else tuple(classes)
    return Plan(
        purge_id=purge_id(tenant_id, scope, clock.started_at, part),
        scope=scope,
        clock=clock.kind,
        clock_started_at=clock.started_at,
        rule_version=RULE_VERSION,
        deadline=dates.deadline,
        erase_by=dates.erase_by,
        start_at=dates.start_at,
        phase=Phase.PLANNED,
        classes=part,
        held=held,
    )


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
        return all(tenant.classes[each] is ClassState.LIVE for each in plan.takes)
    return plan.phase in {Phase.PLANNED, Phase.WITHDRAWN}


def _is_to_be_written_anew(known: Plan, wanted: Plan) -> bool:
    """A purge that was asked for keeps its dates: they are what the asking was about."""
    return known.phase in {Phase.PLANNED, Phase.WITHDRAWN} and known != wanted


def too_late_to_hold(
    classes: Collection[DataClass], tenant: TenantState, plans: Collection[Plan]
) -> frozenset[DataClass]:
    """List those of these classes that are past the point of no return, or may be any moment.

    That is what is no longer live, and what the installer has been asked for.
    """
    asked_for = {each for plan in plans if plan.phase not in _CAN_BE_HELD for each in plan.takes}
    return held_too_late(classes, tenant) | asked_for.intersection(classes)


def held_too_late(held: Collection[DataClass], tenant: TenantState) -> frozenset[DataClass]:
    """List those of the held classes that are past the point of no return all the same."""
    return frozenset(each for each in held if tenant.classes[each] is not ClassState.LIVE)


_CAN_BE_HELD = frozenset({Phase.PLANNED, Phase.WITHDRAWN})


def wish_is_past_return(plans: Collection[Plan]) -> bool:
    """Whether the installer was asked for what a tenant's wish has planned: too late to withdraw.

    Asked, it will say yes unless the tenant has changed; then it is not too late again.
    """
    return any(
        plan.clock == ClockKind.ERASURE_ASKED and plan.phase not in {Phase.PLANNED, Phase.WITHDRAWN}
        for plan in plans
    )


def wait_after_refusal(
    refused: PurgeRefused, known: TenantState | None, *, silence: timedelta
) -> timedelta:
    """Say how long a refused purge rests, unless a newer state of its tenant comes before that.

    Not at all where that state, for which it was refused, has come already.
    """
    has_come = known is not None and known.version >= refused.tenant_version
    return timedelta() if has_come and refused.reason == REFUSED_FOR_NEWER_STATE else silence


def nothing_left(plans: Collection[Plan], *, tenant_known: bool, asked_for: bool) -> bool:
    """Whether a tenant's purges need never be spoken of again.

    That is when none is open and all classes are erased, or the tenant is gone. After a restore
    it may only be unknown so far: then what was ``asked_for``, a wish or a hold, tells that it is.
    """
    if any(plan.phase not in {Phase.CLOSED, Phase.WITHDRAWN} for plan in plans):
        return False
    erased = {each for plan in plans if plan.phase is Phase.CLOSED for each in plan.takes}
    return erased == set(TENANT_CLASSES) or not (tenant_known or asked_for)


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


def steps_of(scope: Scope, classes: Collection[DataClass] | None = None) -> tuple[StepPlan, ...]:
    """List the steps of a purge, or of one that takes only these ``classes`` of its scope.

    Contacts come in a wave of their own, after their receipt.
    """
    taken = scope.classes if classes is None else classes
    parts = (
        replace(step, classes=tuple(each for each in step.classes if each in taken))
        for step in _STEPS
    )
    return tuple(step for step in parts if step.classes)


@dataclass(frozen=True, slots=True)
class Step:
    """How far one owner's part has come."""

    plan: StepPlan
    ledger_number: int | None = None
    counts: dict[DataClass, int] | None = None
    data_map_hash: str | None = None
    erased_at: datetime | None = None
    answered_by: str | None = None

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


# -- after a restore ----------------------------------------------------------------------------


class ForkedLedgerError(Exception):
    """Topic and table hold different ledgers, so neither can be continued before a person looked."""


def entries_beyond(
    number: int, last_hash: str, known: Mapping[int, str], said: Iterable[LedgerEntry]
) -> list[LedgerEntry]:
    """List what the topic has of the ledger beyond our last entry; ``known`` are our own hashes.

    What was said twice counts once. Raises ``ForkedLedgerError`` where the topic
    disagrees with what we hold, or does not reach back to it.
    """
    hashes, beyond = dict(known), list[LedgerEntry]()
    for entry in said:
        if entry.number > number + 1:
            raise ForkedLedgerError(
                f"ledger entry {number + 1} is missing, the topic goes on with {entry.number}:"
                " restore a younger copy of purger's database"
            )
        follows = entry.previous_hash == last_hash
        if hashes.get(entry.number, entry.hash if follows else None) != entry.hash:
            raise ForkedLedgerError(
                f"ledger entry {entry.number} of the topic is not the one of this database:"
                " one of them was written by a purger that should not have run"
            )
        if entry.number == number + 1:
            hashes[entry.number] = entry.hash
            number, last_hash = entry.number, entry.hash
            beyond.append(entry)
    return beyond


def part_of(entry: LedgerEntry) -> str:
    """Name the part of its purge that an entry records, of which there is one each."""
    match entry.kind:
        case EntryKind.TENANT_ERASED:
            return f"wave-{WAVE_OF_CONTACTS if DataClass.CONTACTS in entry.classes else 1}"
        case EntryKind.RECEIPT:
            assert entry.receipt is not None
            return f"receipt-{entry.receipt.stage}"
        case EntryKind.RESTORED:
            told = RestoredEntry.model_validate(entry.model_dump()).restoration
            return restoration_part(told, entry.classes)


def restoration_part(restoration: Restoration, classes: Iterable[DataClass]) -> str:
    """Name the part of a purge that a restore brought back: each restore is one of its own."""
    at = restoration.restored_at.isoformat()
    return "/".join(("restored", restoration.service, at, *sorted(classes)))


def plan_taken_over(said: Plan, known: Plan | None) -> Plan | None:
    """Say what a plan of the topic makes of ours; None where ours can go on as it stands.

    A purge past the point of no return whose steps we do not hold is asked for
    again: the installer says yes again, the owners answer again, and the ledger
    still knows what it has recorded of it.
    """
    if known is not None and known.phase in {Phase.ERASING, Phase.ERASED, Phase.CLOSED}:
        return None
    if said.phase in {Phase.ERASING, Phase.ERASED, Phase.CLOSED}:
        return said.model_copy(update={"phase": Phase.REQUESTED})
    return said


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


def enough_tenants(tenants_due: int) -> int:
    """Say from how many tenants on so many due ones are few, so that counting can stop there."""
    return math.ceil(tenants_due / SHARE_OF_TENANTS_A_DAY)


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
    without those that people have already let through; ``tenants`` all that there
    are, as far as `enough_tenants`. ``forecast`` is how many of the due ones were
    expected; None where nobody had made one.
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


# -- reconciliation ---------------------------------------------------------------------------

ROUNDS_APART = timedelta(hours=1)
"""A difference that two rounds so far apart have found is none that was only on its way."""


class DifferenceKind(StrEnum):
    """How what an owner holds differs from what it should hold."""

    ERASED_BUT_HELD = "erased-but-held"
    NOT_HELD = "not-held"
    """The owner does not know a tenant."""
    OTHER_VERSION = "other-version"
    """The owner knows another state of the tenant than we do; one of the two lags."""
    UNKNOWN = "unknown"
    """We know neither the tenant nor that it was erased."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What we know of one class of a tenant: its state, and what the ledger says of its erasure.

    ``under_way`` is whether the erasure was ordered and is not answered yet.
    """

    version: Version | None = None
    state: ClassState | None = None
    erased: bool = False
    under_way: bool = False


def difference(owner: str, held: Version | None, expected: Expected) -> DifferenceKind | None:
    """Say how what an owner holds of a tenant differs; None where that is as it should be.

    ``held`` is the version at which it knows the tenant, None where it holds nothing. The ledger
    counts before the state. What is on its way out may be there or not.
    """
    if held is None:
        # The installer holds nothing of a tenant that is a licence alone.
        missing = expected.state is ClassState.LIVE and owner != "installer"
        return DifferenceKind.NOT_HELD if missing and not expected.erased else None
    if expected.erased:
        return None if expected.under_way else DifferenceKind.ERASED_BUT_HELD
    if expected.state is ClassState.PURGING:
        return None
    if expected.state is not ClassState.LIVE:
        return DifferenceKind.UNKNOWN
    return None if held == expected.version else DifferenceKind.OTHER_VERSION


@dataclass(frozen=True, slots=True)
class Seen:
    """A difference that a round has found: since when it stands, and whether it was to be mended."""

    kind: DifferenceKind
    tenant_id: UUID
    first_seen_at: datetime
    mended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Mend:
    """The difference is no passing one: what mends it is asked for."""


@dataclass(frozen=True, slots=True)
class Unexplained:
    """What should have mended it has not: a person must look."""


def judge_difference(seen: Seen, wall: datetime) -> Mend | Unexplained | None:
    """Say what to do about a difference that was just seen; None while it may pass by itself."""
    if seen.mended_at is not None:
        return Unexplained() if wall - seen.mended_at >= ROUNDS_APART else None
    return Mend() if wall - seen.first_seen_at >= ROUNDS_APART else None


# -- reminders --------------------------------------------------------------------------------

REMINDERS = (30, 7)
"""So many days before a purge starts its people are reminded of it."""

CLOCKS_WITHOUT_REMINDERS = (ClockKind.MERGED, ClockKind.ERASURE_ASKED)
"""Who moves loses nothing, and who asked for it is told the dates when they ask."""


@dataclass(frozen=True, slots=True)
class Reminder:
    """A purge of which people are to be reminded now, for the last time or for the one before."""

    purge_id: UUID
    tenant_id: UUID
    classes: tuple[DataClass, ...]
    clock: str
    start_at: datetime
    erase_by: datetime
    days_before: int

    @property
    def step(self) -> str:
        """By which it is known beside the purge's own steps."""
        return f"remind-{self.days_before}"


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
