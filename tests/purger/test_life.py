"""A tenant's whole life, in any order that messages can take, on the rules alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import Phase, Plan
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    TenantState,
    TenantStatus,
    Version,
)
from services.purger.domain import (
    Retention,
    Schedule,
    StartWaveTwo,
    Step,
    Withdraw,
    WriteFirstReceipt,
    WriteLastReceipt,
    adopt_purge,
    compare_plans,
    next_act,
    plan_purges,
    steps_of,
    too_late_to_hold,
    wish_is_past_return,
)
from tests.purger.builders import ACTIVE, CREATED_AT, DAY, NO_LICENCE, a_tenant, ended

RETENTION = Retention()


@dataclass(frozen=True)
class Asked:
    """A question to the installer."""

    purge_id: UUID
    version: Version
    classes: tuple[DataClass, ...]
    wished_at: datetime | None
    held: frozenset[DataClass]


@dataclass(frozen=True)
class Answered:
    """The installer's answer."""

    purge_id: UUID
    accepted: bool


@dataclass(frozen=True)
class Ordered:
    """What an owner is told."""

    purge_id: UUID
    step: str


@dataclass(frozen=True)
class Erased:
    """An owner's answer."""

    purge_id: UUID
    step: str


OnTheWay = TenantState | Asked | Answered | Ordered | Erased


@dataclass
class Installer:
    """The installer's part: the truth about the tenant."""

    state: TenantState
    acceptances: list[tuple[Asked, TenantState]] = field(default_factory=list)

    def say(self, **changes: object) -> list[OnTheWay]:
        version = Version(epoch=1, n=self.state.version.n + 1)
        self.state = self.state.model_copy(update={**changes, "version": version})
        return [self.state]

    def hear(self, asked: Asked) -> list[OnTheWay]:
        if asked.purge_id in {known.purge_id for known, _ in self.acceptances}:
            return [Answered(asked.purge_id, accepted=True)]
        live = all(self.state.classes[each] is ClassState.LIVE for each in asked.classes)
        if asked.version != self.state.version or not live:
            return [Answered(asked.purge_id, accepted=False)]
        self.acceptances.append((asked, self.state))
        classes = {**self.state.classes, **dict.fromkeys(asked.classes, ClassState.PURGING)}
        said = self.say(classes=classes, purge_id=asked.purge_id, licence_numbers=())
        return [*said, Answered(asked.purge_id, accepted=True)]


@dataclass
class Purger:
    """Purger's part: what its handlers and jobs do with the rules, without a database."""

    seen: TenantState | None = None
    plans: dict[UUID, Plan] = field(default_factory=dict)
    steps: dict[UUID, list[Step]] = field(default_factory=dict)
    ledger: list[tuple[UUID, str]] = field(default_factory=list)
    wished_at: datetime | None = None
    withdrawn_late: bool = False
    held: frozenset[DataClass] = frozenset()

    def wish(self, now: datetime) -> None:
        self.wished_at = self.wished_at or now
        self.replan()

    def withdraw_wish(self) -> None:
        if wish_is_past_return(self.plans.values()):
            self.withdrawn_late = True
        else:
            self.wished_at = None
            self.replan()

    def hold(self, data_class: DataClass) -> None:
        assert self.seen is not None
        if not too_late_to_hold([data_class], self.seen, self.plans.values()):
            self.held |= {data_class}
            self.replan()

    def release(self, data_class: DataClass) -> None:
        self.held -= {data_class}
        self.replan()

    def follow(self, state: TenantState) -> None:
        if self.seen is not None and state.version <= self.seen.version:
            return
        self.seen = state
        self.replan()

    def replan(self) -> None:
        state = self.seen
        if state is None:
            return
        known = list(self.plans.values())
        wanted = plan_purges(state, RETENTION, wished_at=self.wished_at, held=self.held)
        for decision in [
            *compare_plans(known, wanted, state),
            *adopt_purge(known, state, RETENTION, wished_at=self.wished_at),
        ]:
            match decision:
                case Schedule(plan):
                    self.plans[plan.purge_id] = plan
                case Withdraw(purge_id):
                    self._move(purge_id, Phase.WITHDRAWN)

    def ask(self, now: datetime) -> list[OnTheWay]:
        asked: list[OnTheWay] = []
        for plan in list(self.plans.values()):
            due = plan.phase is Phase.PLANNED and plan.start_at <= now and not plan.held
            if due or plan.phase is Phase.REQUESTED:
                assert self.seen is not None
                self._move(plan.purge_id, Phase.REQUESTED)
                asked.append(
                    Asked(plan.purge_id, self.seen.version, plan.takes, self.wished_at, self.held)
                )
        for purge_id, steps in self.steps.items():
            open_steps = [step for step in steps if step.started and not step.answered]
            asked += [Ordered(purge_id, step.plan.step) for step in open_steps]
        return asked

    def hear(self, answered: Answered, now: datetime) -> list[OnTheWay]:
        plan = self.plans.get(answered.purge_id)
        if plan is None:
            return []
        if not answered.accepted:
            if plan.phase is Phase.REQUESTED:
                self._move(plan.purge_id, Phase.PLANNED)
                if self.withdrawn_late:
                    self.wished_at, self.withdrawn_late = None, False
                self.replan()
            return []
        if plan.phase not in {Phase.PLANNED, Phase.REQUESTED, Phase.WITHDRAWN}:
            return []
        self._move(plan.purge_id, Phase.ERASING)
        self.steps[plan.purge_id] = [Step(step) for step in steps_of(plan.scope, plan.classes)]
        if any(step.plan.wave == 1 for step in self.steps[plan.purge_id]):
            return self._start(plan.purge_id, 1)
        return self.advance(plan.purge_id, now)

    def hear_erased(self, erased: Erased, now: datetime) -> list[OnTheWay]:
        steps = self.steps.get(erased.purge_id, [])
        for n, step in enumerate(steps):
            if step.plan.step == erased.step and step.started and not step.answered:
                steps[n] = replace(step, erased_at=now)
        return self.advance(erased.purge_id, now)

    def advance(self, purge_id: UUID, now: datetime) -> list[OnTheWay]:
        said: list[OnTheWay] = []
        while plan := self.plans.get(purge_id):
            steps = self.steps.get(purge_id, [])
            match next_act(plan.phase, steps, now=now, erase_by=plan.erase_by):
                case WriteFirstReceipt():
                    self._record(purge_id, "receipt-erased")
                    self._move(purge_id, Phase.ERASED)
                case StartWaveTwo():
                    said += self._start(purge_id, 2)
                case WriteLastReceipt():
                    self._record(purge_id, "receipt-closed")
                    self._move(purge_id, Phase.CLOSED)
                case None:
                    break
        return said

    def _start(self, purge_id: UUID, wave: int) -> list[OnTheWay]:
        number = self._record(purge_id, f"wave-{wave}")
        started = [
            replace(step, ledger_number=number) if step.plan.wave == wave else step
            for step in self.steps[purge_id]
        ]
        self.steps[purge_id] = started
        return [Ordered(purge_id, step.plan.step) for step in started if step.plan.wave == wave]

    def _record(self, purge_id: UUID, part: str) -> int:
        self.ledger.append((purge_id, part))
        return len(self.ledger)

    def _move(self, purge_id: UUID, phase: Phase) -> None:
        self.plans[purge_id] = self.plans[purge_id].model_copy(update={"phase": phase})


class ATenantsLife(RuleBasedStateMachine):
    """Installs, leaves, pays, comes back, while messages overtake each other and come twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = CREATED_AT
        self.installer = Installer(a_tenant())
        self.purger = Purger()
        self.on_the_way: list[OnTheWay] = [self.installer.state]
        self.erased: list[tuple[UUID, str]] = []

    @property
    def tenant(self) -> TenantState:
        return self.installer.state

    def changes(self, **changes: object) -> None:
        self.on_the_way += self.installer.say(**changes)

    # -- what people do -------------------------------------------------------------------------

    @precondition(lambda self: self.tenant.status is TenantStatus.INSTALLED)
    @rule()
    def uninstall(self) -> None:
        left = Departure(at=self.now, how=DepartureKind.UNINSTALLED)
        self.changes(departure=left, status=TenantStatus.UNINSTALLED)

    @precondition(
        lambda self: (
            self.tenant.status is TenantStatus.UNINSTALLED
            and self.tenant.classes[DataClass.INSTALLATION] is ClassState.LIVE
        )
    )
    @rule()
    def reinstall(self) -> None:
        self.changes(departure=None, status=TenantStatus.INSTALLED)

    @precondition(lambda self: self.tenant.classes[DataClass.INSTALLATION] is ClassState.LIVE)
    @rule()
    def move_to_the_other_platform(self) -> None:
        on_forge = self.tenant.platform is Platform.FORGE
        platform = Platform.CONNECT if on_forge else Platform.FORGE
        self.changes(platform=platform, platform_since=self.now)

    @precondition(lambda self: self.tenant.classes[DataClass.CONTACTS] is ClassState.LIVE)
    @rule(which=st.sampled_from(["none", "active", "ended"]))
    def subscribe(self, which: str) -> None:
        subscription: dict[str, Subscription] = {
            "none": NO_LICENCE,
            "active": ACTIVE,
            "ended": ended(self.now),
        }
        self.changes(subscription=subscription[which])

    @rule()
    def ask_for_erasure(self) -> None:
        self.purger.wish(self.now)

    @rule()
    def withdraw_that(self) -> None:
        self.purger.withdraw_wish()

    @precondition(lambda self: self.purger.seen is not None)
    @rule(data_class=st.sampled_from(TENANT_CLASSES))
    def place_a_hold(self, data_class: DataClass) -> None:
        self.purger.hold(data_class)

    @rule(data_class=st.sampled_from(TENANT_CLASSES))
    def release_a_hold(self, data_class: DataClass) -> None:
        self.purger.release(data_class)

    @rule(days=st.integers(min_value=1, max_value=200))
    def time_passes(self, days: int) -> None:
        self.now += days * DAY

    @rule()
    def purger_looks_at_the_clock(self) -> None:
        self.on_the_way += self.purger.ask(self.now)
        for purge_id in list(self.purger.steps):
            self.on_the_way += self.purger.advance(purge_id, self.now)

    # -- what the network does --------------------------------------------------------------------

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data(), again=st.booleans())
    def one_message_arrives(self, data: st.DataObject, again: bool) -> None:
        n = data.draw(st.integers(min_value=0, max_value=len(self.on_the_way) - 1))
        message = self.on_the_way[n]
        if not again:
            del self.on_the_way[n]
        self.arrive(message)

    def arrive(self, message: OnTheWay) -> None:
        match message:
            case TenantState():
                self.purger.follow(message)
            case Asked():
                self.on_the_way += self.installer.hear(message)
            case Answered():
                self.on_the_way += self.purger.hear(message, self.now)
            case Ordered(purge_id, step):
                if (purge_id, step) not in self.erased:
                    self.erased.append((purge_id, step))
                self.on_the_way.append(Erased(purge_id, step))
            case Erased():
                self.on_the_way += self.purger.hear_erased(message, self.now)

    # -- what holds ---------------------------------------------------------------------------------

    @invariant()
    def nobody_is_purged_whose_six_months_did_not_run(self) -> None:
        for asked, state in self.installer.acceptances:
            plans = plan_purges(state, RETENTION, wished_at=asked.wished_at, held=asked.held)
            (plan,) = [plan for plan in plans if plan.purge_id == asked.purge_id]
            left = state.departure is not None or state.subscription.ended_at is not None
            on_forge = state.platform is Platform.FORGE and plan.takes == (DataClass.CONTENT,)
            assert left or on_forge or asked.wished_at is not None
            assert plan.start_at <= self.now

    @invariant()
    def nothing_is_purged_that_is_held(self) -> None:
        purging = {
            each for each in TENANT_CLASSES if self.tenant.classes[each] is not ClassState.LIVE
        }
        assert not purging & self.purger.held

    @invariant()
    def no_class_is_purged_twice(self) -> None:
        taken = [each for asked, _ in self.installer.acceptances for each in asked.classes]
        assert len(taken) == len(set(taken))

    @invariant()
    def nothing_is_recorded_twice_and_nothing_before_it_was_accepted(self) -> None:
        ledger = self.purger.ledger
        assert len(ledger) == len(set(ledger))
        accepted = {asked.purge_id for asked, _ in self.installer.acceptances}
        assert {purge_id for purge_id, _ in ledger} <= accepted

    @invariant()
    def nothing_is_erased_that_was_not_accepted(self) -> None:
        accepted = {asked.purge_id for asked, _ in self.installer.acceptances}
        assert {purge_id for purge_id, _ in self.erased} <= accepted

    def teardown(self) -> None:
        """Once everything has arrived, everybody who left in time is purged to the end."""
        self.now += 400 * DAY
        for _ in range(12):
            self.on_the_way += self.purger.ask(self.now)
            waiting, self.on_the_way = self.on_the_way, []
            for message in waiting:
                self.arrive(message)
            self.nothing_is_recorded_twice_and_nothing_before_it_was_accepted()
            self.nobody_is_purged_whose_six_months_did_not_run()
        gone = {
            each
            for purge_id, part in self.purger.ledger
            if part == "receipt-closed"
            for each in self.purger.plans[purge_id].takes
        }
        assert gone == set(self.due())

    def due(self) -> Sequence[DataClass]:
        """The classes that must be gone 400 days after nothing happened any more."""
        plans = plan_purges(
            self.tenant, RETENTION, wished_at=self.purger.wished_at, held=self.purger.held
        )
        planned = [each for plan in plans if not plan.held for each in plan.takes]
        purging = [
            each for each in TENANT_CLASSES if self.tenant.classes[each] is ClassState.PURGING
        ]
        return [*planned, *purging]


TestATenantsLife = ATenantsLife.TestCase
TestATenantsLife.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=timedelta(seconds=5)
)
