"""When a purge is due, what it takes, and what comes next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given
from hypothesis import strategies as st

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import ClockKind, Phase, Plan, Scope, purge_id
from contracts.tenants import ClassState, Platform, TenantState, Version
from contracts.topics import PURGER_PURGES
from services.purger.domain.brake import Sweep, enough_tenants, same_person, why_to_brake
from services.purger.domain.dates import SHORTEST_TERM, TOPIC_RESIDUE, Retention, dates_of
from services.purger.domain.plans import (
    Schedule,
    Withdraw,
    adopt_purge,
    compare_plans,
    nothing_left,
    plan_purges,
)
from services.purger.domain.reconciliation import (
    ROUNDS_APART,
    DifferenceKind,
    Expected,
    Mend,
    Seen,
    Unexplained,
    difference,
    judge_difference,
)
from services.purger.domain.steps import (
    StartWaveTwo,
    Step,
    WriteFirstReceipt,
    WriteLastReceipt,
    next_act,
    steps_of,
)
from tests.purger.builders import ACTIVE, CREATED_AT, DAY, LEFT_AT, a_tenant, ended

RETENTION = Retention()
LATER = LEFT_AT + 20 * DAY

instants = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 - the zone is given beside
    max_value=datetime(2060, 1, 1),  # noqa: DTZ001 - likewise
    timezones=st.just(UTC),
)
days = st.timedeltas(min_value=timedelta(), max_value=400 * DAY)


@st.composite
def sound(draw: st.DrawFn) -> Retention:
    residue = draw(st.integers(min_value=14, max_value=120))
    run_margin = draw(st.integers(min_value=7, max_value=179 - residue))
    grace = draw(st.integers(min_value=0, max_value=179 - residue - run_margin))
    return Retention(grace * DAY, residue * DAY, run_margin * DAY)


def scopes(plans: list[Plan]) -> dict[Scope, datetime]:
    return {plan.scope: plan.clock_started_at for plan in plans}


# -- dates ------------------------------------------------------------------------------------


@given(instants, st.builds(Retention, grace=days, residue=days, run_margin=days))
def test_a_purge_never_starts_after_it_must_be_done(start: datetime, retention: Retention) -> None:
    dates = dates_of(start, retention)

    assert dates.start_at <= dates.erase_by <= dates.deadline


@given(instants, sound())
def test_what_was_erased_is_gone_from_copies_within_six_months(
    start: datetime, retention: Retention
) -> None:
    dates = dates_of(start, retention)

    assert dates.erase_by + retention.residue <= start + relativedelta(months=6)


@given(instants, sound())
def test_settings_that_are_accepted_leave_both_the_grace_and_the_margin(
    start: datetime, retention: Retention
) -> None:
    dates = dates_of(start, retention)

    assert retention.complaints(copies_kept={"backups": 14 * DAY}) == []
    assert dates.start_at >= start + retention.grace
    assert dates.erase_by - dates.start_at >= retention.run_margin


@given(instants)
def test_no_six_months_are_shorter_than_the_shortest_term(start: datetime) -> None:
    assert dates_of(start, RETENTION).deadline - start >= SHORTEST_TERM


def test_the_usual_dates() -> None:
    dates = dates_of(LEFT_AT, RETENTION)

    assert dates.deadline == datetime(2026, 9, 9, tzinfo=UTC)
    assert dates.erase_by == datetime(2026, 8, 26, tzinfo=UTC)
    assert dates.start_at == datetime(2026, 8, 12, tzinfo=UTC)


def test_the_last_day_wins_over_the_grace() -> None:
    dates = dates_of(LEFT_AT, Retention(grace=300 * DAY))

    assert dates.start_at == dates.erase_by


@pytest.mark.parametrize(
    "retention",
    [
        Retention(grace=-DAY),
        Retention(residue=13 * DAY),
        Retention(run_margin=6 * DAY),
        Retention(grace=152 * DAY),
        Retention(residue=136 * DAY),
    ],
)
def test_times_that_cannot_keep_the_promise_are_complained_of(retention: Retention) -> None:
    assert len(retention.complaints(copies_kept={"backups": 14 * DAY})) == 1


def test_times_at_the_very_limit_are_accepted() -> None:
    assert Retention(grace=151 * DAY).complaints(copies_kept={"backups": 14 * DAY}) == []


def test_topics_remember_no_longer_than_the_residue_assumes() -> None:
    lag = int(PURGER_PURGES.config["max.compaction.lag.ms"])
    segment = int(PURGER_PURGES.config["segment.ms"])

    assert timedelta(milliseconds=lag + segment) <= TOPIC_RESIDUE


# -- plans ------------------------------------------------------------------------------------


def test_an_installed_tenant_has_no_plan() -> None:
    assert plan_purges(a_tenant(), RETENTION) == []
    assert plan_purges(a_tenant(subscription=ACTIVE), RETENTION) == []


def test_everything_goes_with_an_uninstall_where_there_was_no_licence() -> None:
    tenant = a_tenant(left_at=LEFT_AT)

    (plan,) = plan_purges(tenant, RETENTION)

    assert plan.scope is Scope.EVERYTHING
    assert plan.clock == ClockKind.UNINSTALLED
    assert plan.purge_id == purge_id(tenant.tenant_id, Scope.EVERYTHING, LEFT_AT)
    assert plan.phase is Phase.PLANNED


def test_people_stay_while_their_licence_runs() -> None:
    plans = plan_purges(a_tenant(left_at=LEFT_AT, subscription=ACTIVE), RETENTION)

    assert scopes(plans) == {Scope.SERVICE_DATA: LEFT_AT}


def test_people_go_with_the_end_of_the_licence_if_that_is_later() -> None:
    plans = plan_purges(a_tenant(left_at=LEFT_AT, subscription=ended(LATER)), RETENTION)

    assert scopes(plans) == {Scope.SERVICE_DATA: LEFT_AT, Scope.PEOPLE: LATER}


def test_everything_goes_with_the_end_of_the_licence_if_the_uninstall_is_later() -> None:
    plans = plan_purges(a_tenant(left_at=LATER, subscription=ended(LEFT_AT)), RETENTION)

    assert scopes(plans) == {Scope.EVERYTHING: LEFT_AT}


def test_the_end_of_the_licence_counts_while_the_app_is_still_installed() -> None:
    plans = plan_purges(a_tenant(subscription=ended(LATER)), RETENTION)

    assert scopes(plans) == {Scope.EVERYTHING: LATER}
    assert plans[0].clock == ClockKind.SUBSCRIPTION_ENDED


def test_no_clock_starts_before_the_tenant_was_created() -> None:
    plans = plan_purges(a_tenant(subscription=ended(CREATED_AT - 300 * DAY)), RETENTION)

    assert scopes(plans) == {Scope.EVERYTHING: CREATED_AT}


def test_a_scope_past_the_point_of_no_return_is_left_alone() -> None:
    tenant = a_tenant(left_at=LEFT_AT, subscription=ended(LATER))
    gone = dict.fromkeys(Scope.SERVICE_DATA.classes, ClassState.PURGING)
    purging = tenant.model_copy(update={"classes": {**tenant.classes, **gone}})

    assert scopes(plan_purges(purging, RETENTION)) == {Scope.PEOPLE: LATER}


# -- content after a move to Forge ----------------------------------------------------------------

MOVED_AT = LEFT_AT - 40 * DAY


def on_forge(**changes: Any) -> TenantState:
    return a_tenant(platform=Platform.FORGE, platform_since=MOVED_AT, **changes)


def test_content_goes_60_days_after_a_move_to_forge_and_nothing_else_does() -> None:
    tenant = on_forge(subscription=ACTIVE)

    (plan,) = plan_purges(tenant, RETENTION)

    assert plan.takes == (DataClass.CONTENT,)
    assert (plan.scope, plan.clock) == (Scope.SERVICE_DATA, ClockKind.FORGE_CONTENT)
    assert plan.start_at == MOVED_AT + 60 * DAY
    assert plan.erase_by == plan.start_at + RETENTION.run_margin
    assert plan.deadline == plan.erase_by + RETENTION.residue
    assert plan.purge_id == purge_id(
        tenant.tenant_id, Scope.SERVICE_DATA, MOVED_AT, (DataClass.CONTENT,)
    )


def test_who_began_on_forge_or_is_back_on_connect_has_no_old_content() -> None:
    assert plan_purges(a_tenant(platform=Platform.FORGE), RETENTION) == []
    assert plan_purges(a_tenant(platform_since=MOVED_AT), RETENTION) == []


def test_content_goes_with_the_clock_that_wants_it_gone_first() -> None:
    content, rest = sorted(
        plan_purges(on_forge(left_at=LEFT_AT), RETENTION), key=lambda plan: len(plan.takes)
    )
    long_gone = {"left_at": MOVED_AT - 150 * DAY, "created_at": MOVED_AT - 400 * DAY}
    (everything,) = plan_purges(on_forge(**long_gone), RETENTION)

    assert content.takes == (DataClass.CONTENT,)
    assert set(rest.takes) == set(TENANT_CLASSES) - {DataClass.CONTENT}
    assert (rest.scope, rest.clock) == (Scope.EVERYTHING, ClockKind.UNINSTALLED)
    assert everything.takes == TENANT_CLASSES


def test_what_is_left_after_the_content_goes_in_the_same_purge_as_was_planned() -> None:
    tenant = on_forge(left_at=LEFT_AT)
    gone = {**tenant.classes, DataClass.CONTENT: ClassState.ERASED}
    after = tenant.model_copy(update={"classes": gone})

    (rest,) = plan_purges(after, RETENTION)

    assert rest in plan_purges(tenant, RETENTION)


@given(sound(), instants)
def test_no_clock_leaves_more_than_six_months(retention: Retention, moved_at: datetime) -> None:
    tenant = a_tenant(
        platform=Platform.FORGE, platform_since=moved_at, created_at=moved_at - 1_000 * DAY
    )

    (plan,) = plan_purges(tenant, retention)

    longest = dates_of(moved_at, retention)
    assert plan.start_at <= plan.erase_by <= longest.erase_by
    assert plan.erase_by + retention.residue <= plan.deadline <= longest.deadline


@given(st.sets(st.sampled_from(TENANT_CLASSES), min_size=1))
def test_the_steps_of_a_part_are_those_of_its_scope_without_the_rest(
    classes: set[DataClass],
) -> None:
    steps = steps_of(Scope.EVERYTHING, classes)

    assert sorted(each for step in steps for each in step.classes) == sorted(classes)
    assert {step.step for step in steps} <= {step.step for step in steps_of(Scope.EVERYTHING)}


@given(
    st.none() | instants,
    st.none() | instants,
    st.booleans(),
    st.sets(st.sampled_from([Scope.SERVICE_DATA, Scope.PEOPLE])),
)
def test_plans_never_overlap_and_never_wait_longer_than_their_clock_allows(
    left_at: datetime | None, ended_at: datetime | None, active: bool, gone: set[Scope]
) -> None:
    subscription = ended(ended_at) if ended_at and not active else ACTIVE
    tenant = a_tenant(
        left_at=left_at, subscription=subscription, created_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    erased = {each: ClassState.ERASED for scope in gone for each in scope.classes}
    tenant = tenant.model_copy(update={"classes": {**tenant.classes, **erased}})

    plans = plan_purges(tenant, RETENTION)

    taken = [each for plan in plans for each in plan.scope.classes]
    assert len(taken) == len(set(taken))
    assert not set(taken) & erased.keys()
    clocks = [at for at in (left_at, subscription.ended_at) if at]
    for plan in plans:
        if DataClass.CONTENT in plan.scope.classes:
            assert plan.clock_started_at == min(clocks)
        else:
            assert plan.clock_started_at == subscription.ended_at or len(clocks) == 1


def test_a_first_plan_is_scheduled_and_then_left_alone() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    wanted = plan_purges(tenant, RETENTION)

    assert compare_plans([], wanted, tenant) == [Schedule(wanted[0])]
    assert compare_plans(wanted, wanted, tenant) == []


def test_a_reinstall_withdraws_the_purge_and_leaving_again_plans_it_anew() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (plan,) = plan_purges(tenant, RETENTION)
    withdrawn = plan.model_copy(update={"phase": Phase.WITHDRAWN})

    assert compare_plans([plan], [], tenant) == [Withdraw(plan.purge_id)]
    assert compare_plans([withdrawn], [], tenant) == []
    assert compare_plans([withdrawn], [plan], tenant) == [Schedule(plan)]


def test_a_purge_that_was_asked_for_keeps_its_dates_whatever_the_settings_become() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (plan,) = plan_purges(tenant, RETENTION)
    others = plan_purges(tenant, Retention(residue=30 * DAY, run_margin=30 * DAY))
    assert [each.start_at for each in others] != [plan.start_at]

    assert compare_plans([plan], others, tenant) == [Schedule(each) for each in others]
    for phase in (Phase.REQUESTED, Phase.ERASING, Phase.ERASED, Phase.CLOSED):
        begun = plan.model_copy(update={"phase": phase})
        assert compare_plans([begun], others, tenant) == []


def test_a_purge_that_was_asked_for_is_withdrawn_only_while_nothing_is_purging() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (plan,) = plan_purges(tenant, RETENTION)
    asked = plan.model_copy(update={"phase": Phase.REQUESTED})
    purging = tenant.model_copy(
        update={"classes": dict.fromkeys(TENANT_CLASSES, ClassState.PURGING)}
    )

    assert compare_plans([asked], [], tenant) == [Withdraw(plan.purge_id)]
    assert compare_plans([asked], [], purging) == []
    assert compare_plans([asked], [plan], tenant) == []


@pytest.mark.parametrize("phase", [Phase.ERASING, Phase.ERASED, Phase.CLOSED])
def test_a_purge_under_way_is_neither_withdrawn_nor_planned_again(phase: Phase) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (plan,) = plan_purges(tenant, RETENTION)
    under_way = plan.model_copy(update={"phase": phase})

    assert compare_plans([under_way], [], tenant) == []
    assert compare_plans([under_way], [plan], tenant) == []


def purging_state(tenant: TenantState, scope: Scope, clock_started_at: datetime) -> TenantState:
    classes = dict.fromkeys(scope.classes, ClassState.PURGING)
    return tenant.model_copy(
        update={
            "classes": {**tenant.classes, **classes},
            "purge_id": purge_id(tenant.tenant_id, scope, clock_started_at),
        }
    )


def test_a_purge_that_a_restored_purger_does_not_know_is_taken_up_with_its_dates() -> None:
    tenant = a_tenant(left_at=LEFT_AT, subscription=ended(LATER))
    original = plan_purges(tenant, RETENTION)[0]
    state = purging_state(tenant, Scope.SERVICE_DATA, LEFT_AT)

    (taken_up,) = adopt_purge([], state, RETENTION)

    assert taken_up.plan == original.model_copy(update={"phase": Phase.REQUESTED})


def test_a_purge_that_nobody_can_explain_is_taken_up_and_due_at_once() -> None:
    state = a_tenant(purge_id=uuid4(), classes=dict.fromkeys(TENANT_CLASSES, ClassState.PURGING))

    (taken_up,) = adopt_purge([], state, RETENTION)

    assert taken_up.plan.purge_id == state.purge_id
    assert taken_up.plan.scope is Scope.EVERYTHING
    assert taken_up.plan.clock_started_at == CREATED_AT


def test_a_purge_of_a_part_that_a_restored_purger_does_not_know_is_taken_up_as_what_it_was() -> (
    None
):
    tenant = on_forge(left_at=LEFT_AT)
    for original in plan_purges(tenant, RETENTION):
        classes = dict.fromkeys(original.takes, ClassState.PURGING)
        state = tenant.model_copy(
            update={"classes": {**tenant.classes, **classes}, "purge_id": original.purge_id}
        )

        (taken_up,) = adopt_purge([], state, RETENTION)

        assert taken_up.plan == original.model_copy(update={"phase": Phase.REQUESTED})


def test_a_purge_that_nobody_can_explain_takes_no_more_than_what_is_purging() -> None:
    classes = dict.fromkeys(TENANT_CLASSES, ClassState.LIVE)
    classes[DataClass.CONTENT] = ClassState.PURGING

    (taken_up,) = adopt_purge([], a_tenant(purge_id=uuid4(), classes=classes), RETENTION)

    assert taken_up.plan.takes == (DataClass.CONTENT,)


def test_a_withdrawn_purge_that_was_accepted_all_the_same_is_taken_up() -> None:
    state = purging_state(a_tenant(left_at=LEFT_AT), Scope.EVERYTHING, LEFT_AT)
    plan = plan_purges(a_tenant(left_at=LEFT_AT, tenant_id=state.tenant_id), RETENTION)[0]
    withdrawn = plan.model_copy(update={"phase": Phase.WITHDRAWN})

    assert adopt_purge([withdrawn], state, RETENTION) == [
        Schedule(plan.model_copy(update={"phase": Phase.REQUESTED}))
    ]
    for phase in (Phase.REQUESTED, Phase.ERASING, Phase.ERASED, Phase.CLOSED):
        known = plan.model_copy(update={"phase": phase})
        assert adopt_purge([known], state, RETENTION) == []


def test_a_planned_purge_that_the_state_names_is_not_withdrawn() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    plan = plan_purges(tenant, RETENTION)[0]
    state = purging_state(tenant, Scope.EVERYTHING, LEFT_AT)

    assert compare_plans([plan], plan_purges(state, RETENTION), state) == []


def test_a_tenant_is_spoken_of_until_all_five_classes_are_erased() -> None:
    tenant = a_tenant(left_at=LEFT_AT, subscription=ended(LATER))
    service, people = plan_purges(tenant, RETENTION)
    closed = {"phase": Phase.CLOSED}

    def is_over(*plans: Plan, known: bool, asked_for: bool = False) -> bool:
        return nothing_left(plans, tenant_known=known, asked_for=asked_for)

    service_closed, people_closed = (plan.model_copy(update=closed) for plan in (service, people))
    assert not is_over(service_closed, people, known=True)
    assert not is_over(service_closed, known=True)
    assert is_over(service_closed, known=False)
    assert not is_over(service_closed, known=False, asked_for=True)
    assert is_over(service_closed, people_closed, known=True, asked_for=True)
    assert not is_over(service, people, known=False)


def test_a_tenant_that_lost_its_content_alone_is_still_spoken_of() -> None:
    (content,) = plan_purges(on_forge(), RETENTION)

    closed = content.model_copy(update={"phase": Phase.CLOSED})
    assert not nothing_left([closed], tenant_known=True, asked_for=False)


# -- steps ------------------------------------------------------------------------------------

ERASE_BY = datetime(2026, 8, 26, tzinfo=UTC)
EARLY = ERASE_BY - 10 * DAY


def steps(scope: Scope, *, started: int = 1, answered: set[str] = frozenset()) -> list[Step]:  # type: ignore[assignment]
    return [
        Step(
            plan,
            ledger_number=7 if plan.wave <= started else None,
            erased_at=EARLY if plan.step in answered else None,
        )
        for plan in steps_of(scope)
    ]


def test_every_class_of_a_scope_is_erased_by_exactly_one_step() -> None:
    for scope in Scope:
        classes = [each for step in steps_of(scope) for each in step.classes]
        assert sorted(classes) == sorted(scope.classes)


WAVE_ONE = {"erase-installer", "erase-config", "erase-notifier"}


def test_the_first_receipt_waits_for_all_of_wave_one() -> None:
    some = steps(Scope.EVERYTHING, answered={"erase-config", "erase-notifier"})
    every = steps(Scope.EVERYTHING, answered=WAVE_ONE)

    assert next_act(Phase.ERASING, some, now=EARLY, erase_by=ERASE_BY) is None
    assert next_act(Phase.ERASING, every, now=EARLY, erase_by=ERASE_BY) == WriteFirstReceipt()


def test_five_days_before_the_last_day_the_first_receipt_waits_for_nobody() -> None:
    none = steps(Scope.EVERYTHING)

    late = ERASE_BY - 5 * DAY
    assert next_act(Phase.ERASING, none, now=late, erase_by=ERASE_BY) == WriteFirstReceipt()
    just_before = late - timedelta(microseconds=1)
    assert next_act(Phase.ERASING, none, now=just_before, erase_by=ERASE_BY) is None


def test_people_are_forgotten_in_a_wave_of_their_own_and_then_it_is_over() -> None:
    before = steps(Scope.EVERYTHING, answered=WAVE_ONE)
    during = steps(Scope.EVERYTHING, started=2, answered=WAVE_ONE)
    after = steps(Scope.EVERYTHING, started=2, answered={*WAVE_ONE, "erase-contacts"})

    assert next_act(Phase.ERASED, before, now=EARLY, erase_by=ERASE_BY) == StartWaveTwo()
    assert next_act(Phase.ERASED, during, now=EARLY, erase_by=ERASE_BY) is None
    assert next_act(Phase.ERASED, after, now=EARLY, erase_by=ERASE_BY) == WriteLastReceipt()
    assert next_act(Phase.CLOSED, after, now=EARLY, erase_by=ERASE_BY) is None


def test_a_purge_without_people_is_over_after_wave_one() -> None:
    done = steps(Scope.SERVICE_DATA, answered={"erase-installer", "erase-config"})

    assert next_act(Phase.ERASED, done, now=EARLY, erase_by=ERASE_BY) == WriteLastReceipt()


def test_a_step_left_open_holds_the_last_receipt_but_not_the_people() -> None:
    waiting = steps(Scope.EVERYTHING, answered={"erase-installer", "erase-config"})
    told = steps(
        Scope.EVERYTHING, started=2, answered={*WAVE_ONE - {"erase-notifier"}, "erase-contacts"}
    )

    assert next_act(Phase.ERASED, waiting, now=EARLY, erase_by=ERASE_BY) == StartWaveTwo()
    assert next_act(Phase.ERASED, told, now=EARLY, erase_by=ERASE_BY) is None


# -- brake ------------------------------------------------------------------------------------

NOW = Sweep(EARLY, EARLY)


def test_a_clock_that_runs_on_is_ordinary_even_after_a_long_standstill() -> None:
    later = Sweep(EARLY + 3 * DAY, EARLY + 3 * DAY)

    assert why_to_brake(NOW, later, tenants_due=0, tenants=100) is None
    assert why_to_brake(None, later, tenants_due=0, tenants=100) is None


@pytest.mark.parametrize(("minutes", "reason"), [(60, None), (61, "clock-jumped"), (-600, None)])
def test_business_time_may_be_an_hour_ahead_of_its_pace_and_no_more(
    minutes: int, reason: str | None
) -> None:
    moved = Sweep(EARLY + timedelta(minutes=minutes, seconds=5), EARLY + timedelta(seconds=5))

    assert why_to_brake(NOW, moved, tenants_due=0, tenants=100) == reason


@pytest.mark.parametrize(
    ("due", "tenants", "reason"),
    [
        (9, 20, None),
        (10, 20, "too-many-due"),
        (10, 500, None),
        (11, 500, "too-many-due"),
        (200, 10_000, None),
        (201, 10_000, "too-many-due"),
    ],
)
def test_two_per_cent_of_the_tenants_may_leave_in_a_day_and_nine_in_any_case(
    due: int, tenants: int, reason: str | None
) -> None:
    assert why_to_brake(NOW, NOW, tenants_due=due, tenants=tenants) == reason


def test_a_person_is_one_person_however_the_name_is_written() -> None:
    assert same_person("  Ada   Lovelace ") == same_person("ada lovelace")
    assert same_person("Ada") != same_person("Grace")


def test_counting_may_stop_where_so_many_due_ones_are_few() -> None:
    for due in range(10, 20_000):
        enough = enough_tenants(due)
        assert why_to_brake(NOW, NOW, tenants_due=due, tenants=enough) is None
        assert why_to_brake(NOW, NOW, tenants_due=due, tenants=enough - 1) == "too-many-due"


# -- reconciliation -----------------------------------------------------------------------------

V1, V2 = Version(epoch=1, n=1), Version(epoch=1, n=2)
LIVE_AT_1 = Expected(version=V1, state=ClassState.LIVE)


@pytest.mark.parametrize(
    ("owner", "held", "expected", "kind"),
    [
        ("config", V1, LIVE_AT_1, None),
        ("config", V2, LIVE_AT_1, DifferenceKind.OTHER_VERSION),
        ("config", None, LIVE_AT_1, DifferenceKind.NOT_HELD),
        # A licence alone is a tenant too, and the installer holds no installation of it.
        ("installer", None, LIVE_AT_1, None),
        ("installer", V2, LIVE_AT_1, DifferenceKind.OTHER_VERSION),
        ("config", V1, Expected(), DifferenceKind.UNKNOWN),
        ("config", None, Expected(), None),
        ("config", V1, Expected(version=V1, state=ClassState.PURGING), None),
        ("config", None, Expected(version=V1, state=ClassState.PURGING), None),
        # A state that calls erased what the ledger does not know cannot be.
        ("config", V1, Expected(version=V1, state=ClassState.ERASED), DifferenceKind.UNKNOWN),
        ("config", V1, Expected(erased=True), DifferenceKind.ERASED_BUT_HELD),
        ("config", V1, Expected(erased=True, under_way=True), None),
        ("config", None, Expected(erased=True), None),
        # The ledger counts before a state that has not come yet.
        (
            "config",
            V1,
            Expected(version=V1, state=ClassState.LIVE, erased=True),
            DifferenceKind.ERASED_BUT_HELD,
        ),
        ("config", None, Expected(version=V1, state=ClassState.LIVE, erased=True), None),
    ],
)
def test_what_an_owner_holds_differs_where_nothing_explains_it(
    owner: str, held: Version | None, expected: Expected, kind: DifferenceKind | None
) -> None:
    assert difference(owner, held, expected) is kind


def test_a_difference_is_mended_after_two_rounds_and_unexplained_when_that_did_not_help() -> None:
    fresh = Seen(DifferenceKind.UNKNOWN, uuid4(), LEFT_AT, None)
    mended = replace(fresh, mended_at=LEFT_AT + ROUNDS_APART)
    moment = timedelta(seconds=1)

    assert judge_difference(fresh, LEFT_AT) is None
    assert judge_difference(fresh, LEFT_AT + ROUNDS_APART - moment) is None
    assert judge_difference(fresh, LEFT_AT + ROUNDS_APART) == Mend()
    assert judge_difference(mended, LEFT_AT + 2 * ROUNDS_APART - moment) is None
    assert judge_difference(mended, LEFT_AT + 2 * ROUNDS_APART) == Unexplained()


# -- the brake against the forecast ------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "forecast", "reason"),
    [
        (30, 10, None),
        (31, 10, "more-than-forecast"),
        (10, 3, "more-than-forecast"),
        (9, 0, None),
        (31, None, None),
        (201, 1000, "too-many-due"),
    ],
)
def test_three_times_the_forecast_of_a_day_is_held(
    due: int, forecast: int | None, reason: str | None
) -> None:
    sweep = Sweep(LEFT_AT, LEFT_AT)

    assert why_to_brake(sweep, sweep, tenants_due=due, tenants=10_000, forecast=forecast) == reason
