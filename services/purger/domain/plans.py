"""What is purged, when and of which classes: planned, adopted, compared, held back."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import TypeAlias
from uuid import UUID

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.deadlines import RULE_VERSION
from contracts.purges import (
    REFUSED_FOR_NEWER_STATE,
    ClockKind,
    Phase,
    Plan,
    PurgeRefused,
    Scope,
    purge_id,
)
from contracts.tenants import ClassState, TenantState
from services.purger.domain.clocks import (
    Clock,
    clock_of,
    dates_by,
    forge_content_clock,
    open_clocks,
    wish_clock,
)
from services.purger.domain.dates import Dates, Retention


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
