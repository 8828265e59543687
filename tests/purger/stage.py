"""Installer, purger and the owners of data on their rules alone, and what is on the way between them.

Whatever is decided here is decided by the services' own rules; only what their stores do with rows
is done with dictionaries. A copy of a service is a copy of its dictionaries.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self, TypeAlias
from uuid import UUID, uuid5

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    Receipt,
    ReceiptStage,
    Restoration,
    UnsealedEntry,
    seal,
    verify_chain,
)
from contracts.messages import Message
from contracts.purges import (
    DataErased,
    ErasureAsked,
    ErasureWithdrawn,
    Hold,
    Phase,
    Plan,
    PurgeAccepted,
    PurgeRefused,
    PurgeRequested,
    PurgeStarted,
    PurgeState,
    Wish,
    WishedBy,
)
from contracts.tenants import (
    ClassState,
    DepartureKind,
    Platform,
    TenantState,
    TenantStatus,
    Version,
)
from services.installer.domain import tenants as rules_of_installer
from services.installer.domain.access import Leave, Standing, decide_departure
from services.installer.domain.licences import (
    Licence,
    licence_numbers_of,
    renewed,
    subscription_of,
)
from services.installer.domain.takeover import Adopt, Bury, Renew, decide_take_over
from services.installer.domain.tenants import Accept, AcceptAgain, Refuse
from services.purger.domain.dates import Retention
from services.purger.domain.plans import (
    Schedule,
    Withdraw,
    adopt_purge,
    compare_plans,
    held_too_late,
    nothing_left,
    plan_purges,
    too_late_to_hold,
    wait_after_refusal,
    wish_is_past_return,
)
from services.purger.domain.steps import (
    WAVE_OF_CONTACTS,
    StartWaveTwo,
    Step,
    WriteFirstReceipt,
    WriteLastReceipt,
    next_act,
    steps_of,
)
from services.purger.domain.takeover import (
    entries_beyond,
    part_of,
    plan_taken_over,
    restoration_part,
)
from services.purger.ledger import _proof
from services.purger.ledger_key import LedgerKey
from tests.purger.builders import answer

RETENTION: Final = Retention()
SILENCE: Final = timedelta(minutes=1)
KEY: Final = LedgerKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
_NAMES: Final = UUID("3b1f0d3e-6a0c-5a53-8f5e-2f0d1c9b7a64")
_BEFORE_NO_RETURN: Final = frozenset({Phase.PLANNED, Phase.REQUESTED, Phase.WITHDRAWN})
_UNDER_WAY: Final = frozenset({Phase.ERASING, Phase.ERASED})
_LEDGER_STEP: Final = "erase-installer"


# -- what is between them -------------------------------------------------------------------------


@dataclass(frozen=True)
class Gone:
    """The tombstone of a tenant's state."""

    tenant_id: UUID


Spoken: TypeAlias = Message | Gone


@dataclass
class Channel:
    """What was said to a service, and which of it is still on its way there."""

    log: list[tuple[datetime, Spoken] | None] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)

    def say(self, spoken: Spoken, *, at: datetime) -> None:
        self.pending.append(len(self.log))
        self.log.append((at, spoken))

    def take(self, n: int, *, again: bool = False) -> Spoken:
        """Let the n-th of what is on its way arrive; ``again`` it will come once more.

        No state of a tenant comes after its tombstone: a partition keeps that order.
        """
        offset = self.pending[n]
        said = self.log[offset]
        assert said is not None
        if isinstance(said[1], Gone):
            self._drop(
                each for each in self.pending if each < offset and self._is_of(each, said[1])
            )
        if not again:
            self.pending.remove(offset)
        return said[1]

    def say_again(self, last: int) -> None:
        """Send the last few of all that was said once more, as a relay does that died in between."""
        for offset in range(max(0, len(self.log) - last), len(self.log)):
            if self.log[offset] is not None and offset not in self.pending:
                self.pending.append(offset)

    def compact(self) -> None:
        """Keep the last state of each tenant alone."""
        last = {tenant_id: offset for offset, tenant_id in self._states()}
        for offset, tenant_id in list(self._states()):
            if last[tenant_id] != offset:
                self.log[offset] = None
        self.rewind(self.position())

    def position(self) -> tuple[tuple[int, ...], int]:
        return tuple(self.pending), len(self.log)

    def rewind(self, position: tuple[tuple[int, ...], int]) -> None:
        """Let everything that was not handled at a position be on its way, if it is still there."""
        waiting, end = position
        offsets = [*waiting, *range(end, len(self.log))]
        self.pending = [each for each in offsets if self.log[each] is not None]

    def last_states(self) -> list[tuple[datetime, TenantState]]:
        """What stands of each tenant, in the order of what was said."""
        last = {tenant_id: offset for offset, tenant_id in self._states()}
        said = (self.log[offset] for offset in last.values())
        return [
            (each[0], each[1])
            for each in said
            if each is not None and isinstance(each[1], TenantState)
        ]

    def _states(self) -> Iterator[tuple[int, UUID]]:
        for offset, said in enumerate(self.log):
            if said is not None and isinstance(said[1], (TenantState, Gone)):
                yield offset, said[1].tenant_id

    def _is_of(self, offset: int, gone: Gone) -> bool:
        said = self.log[offset]
        is_state = said is not None and isinstance(said[1], TenantState)
        return is_state and said is not None and said[1].tenant_id == gone.tenant_id  # type: ignore[union-attr]

    def _drop(self, offsets: Iterable[int]) -> None:
        dropped = set(offsets)
        self.pending = [each for each in self.pending if each not in dropped]


@dataclass
class Stage:
    """Kafka and the clock."""

    now: datetime
    to_purger: Channel = field(default_factory=Channel)
    to_installer: Channel = field(default_factory=Channel)
    to_owners: Channel = field(default_factory=Channel)
    ledger: list[LedgerEntry] = field(default_factory=list)
    purges: dict[UUID, PurgeState | None] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self.to_purger, self.to_installer, self.to_owners)

    def tell_purger(self, spoken: Spoken) -> None:
        self.to_purger.say(spoken, at=self.now)

    def tell_installer(self, spoken: Spoken) -> None:
        self.to_installer.say(spoken, at=self.now)

    def order(self, order: PurgeStarted) -> None:
        channel = self.to_installer if order.owner == "installer" else self.to_owners
        channel.say(order, at=self.now)


class Copied:
    """Something whose whole state lies in its fields."""

    def copy(self: Self) -> Self:
        """Take a copy that shares nothing that changes."""
        own: dict[str, Any] = {
            each.name: getattr(self, each.name)
            for each in fields(self)  # type: ignore[arg-type]
        }
        copied = {
            name: type(value)(value) if isinstance(value, (dict, list, set)) else value
            for name, value in own.items()
        }
        return replace(self, **copied)  # type: ignore[type-var]


# -- installer --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AcceptedPurge:
    """A purge past the point of no return."""

    tenant_id: UUID
    classes: frozenset[DataClass]
    accepted_at: datetime


@dataclass(frozen=True)
class Access:
    """What a site has answered of late."""

    last_seen_at: datetime
    losses: int = 0
    first_lost_at: datetime | None = None
    last_lost_at: datetime | None = None


@dataclass
class Installer(Copied):
    """The truth about tenants; ``installations`` are the tenants of whom it holds one."""

    stage: Stage
    epoch: int = 1
    tenants: dict[UUID, TenantState] = field(default_factory=dict)
    installations: set[UUID] = field(default_factory=set)
    accesses: dict[UUID, Access] = field(default_factory=dict)
    accepted: dict[UUID, AcceptedPurge] = field(default_factory=dict)
    guards: dict[UUID, frozenset[DataClass]] = field(default_factory=dict)
    applied: int = 0

    def record(self, said: TenantState | None) -> None:
        """Make this a tenant's state, and say it."""
        if said is not None:
            self.tenants[said.tenant_id] = said
            self.stage.tell_purger(said)

    def living(self, tenant_id: UUID | None) -> TenantState | None:
        """Find a tenant that can be called by its name: one with an installation that is live."""
        tenant = self.tenants.get(tenant_id) if tenant_id else None
        if tenant is None or tenant.tenant_id not in self.installations:
            return None
        guarded = DataClass.INSTALLATION in self.guards.get(tenant.tenant_id, ())
        is_live = tenant.classes[DataClass.INSTALLATION] is ClassState.LIVE
        return tenant if is_live and not guarded else None

    def ask_site(self, tenant_id: UUID, *, lets_us_in: bool, licence: Licence | None) -> None:
        """Ask a tenant's site for access, and note whether it has left or is back."""
        tenant = self.living(tenant_id)
        if tenant is None:
            return
        now = self.stage.now
        if lets_us_in:
            self.accesses[tenant_id] = Access(now)
            self.record(rules_of_installer.show_life(tenant, epoch=self.epoch))
        elif tenant.status is TenantStatus.INSTALLED:
            known = self.accesses[tenant_id]
            first = known.first_lost_at or now
            self.accesses[tenant_id] = Access(known.last_seen_at, known.losses + 1, first, now)
            standing = Standing(
                losses=known.losses + 1,
                first_lost_at=first,
                last_lost_at=now,
                last_seen_at=known.last_seen_at,
                confirmed=False,
                on_forge=tenant.platform is Platform.FORGE,
                subscription=tenant.subscription.status,
                licence_known=licence is not None,
                licence_active=licence is not None and licence.is_active,
                report_began_at=now,
                held=False,
            )
            decision = decide_departure(standing)
            if isinstance(decision, Leave):
                self.record(
                    rules_of_installer.leave(
                        tenant, DepartureKind.ACCESS_LOST, epoch=self.epoch, at=decision.at
                    )
                )

    def hear_report(self, tenant_id: UUID, licence: Licence | None) -> None:
        """Let the Marketplace's report say whether a tenant pays."""
        tenant = self.tenants.get(tenant_id)
        if tenant is None or tenant.merged_into is not None:
            return
        if ClassState.LIVE not in tenant.classes.values():
            return
        licences = [licence] if licence else []
        subscription = subscription_of(
            licences,
            None,
            tenant.subscription,
            departed=tenant.departure is not None,
            created_at=tenant.created_at,
            now=self.stage.now,
        )
        numbers = licence_numbers_of((), licences)
        self.record(renewed(tenant, subscription, numbers, epoch=self.epoch))

    def hear(self, spoken: Spoken) -> None:
        match spoken:
            case PurgeRequested():
                self._decide(spoken)
            case PurgeStarted():
                self._erase(spoken)

    def _decide(self, request: PurgeRequested) -> None:
        tenant, known = self.tenants.get(request.tenant_id), self.accepted.get(request.purge_id)
        decision = rules_of_installer.decide_purge(
            tenant, request, accepted_at=known.accepted_at if known else None, epoch=self.epoch
        )
        match decision:
            case Accept(said):
                self._remember(request.purge_id, said.tenant_id, request.classes)
                self.record(said)
                self._accept(request, said.version, self.stage.now)
            case AcceptAgain(accepted_at):
                assert tenant is not None
                self._accept(request, tenant.version, accepted_at)
            case Refuse(reason):
                self.stage.tell_purger(
                    PurgeRefused(
                        purge_id=request.purge_id,
                        step=request.step,
                        tenant_id=request.tenant_id,
                        tenant_version=tenant.version if tenant else request.tenant_version,
                        reason=reason,
                        refused_at=self.stage.now,
                    )
                )

    def _accept(self, request: PurgeRequested, version: Version, at: datetime) -> None:
        self.stage.tell_purger(
            PurgeAccepted(
                purge_id=request.purge_id,
                step=request.step,
                tenant_id=request.tenant_id,
                tenant_version=version,
                accepted_at=at,
            )
        )

    def _erase(self, order: PurgeStarted, *, restored_at: datetime | None = None) -> None:
        """Set the guard, erase, answer."""
        self._guard(order.tenant_id, order.classes)
        held = order.tenant_id in self.installations
        self.installations.discard(order.tenant_id)
        self._begin(order.tenant_id, order.purge_id, order.classes)
        said = answer(order, self.stage.now, rows=1 if held else 0)
        self.stage.tell_purger(said.model_copy(update={"restored_at": restored_at}))

    def follow_ledger(self, *, restored_at: datetime | None = None) -> None:
        """Apply what the ledger has beyond what is applied, in its order."""
        for entry in self.stage.ledger[self.applied :]:
            self.applied = entry.number
            if entry.tenant_id is None:
                self._finish(entry)
                continue
            if DataClass.INSTALLATION in entry.classes and entry.tenant_id in self.installations:
                self._erase(_order_of(entry), restored_at=restored_at)
            self._guard(entry.tenant_id, entry.classes)
            self._begin(entry.tenant_id, entry.purge_id, entry.classes)

    def take_over(self, *, cut_off_after: int | None = None) -> list[UUID]:
        """Make up for what a restore lost; return the tenants that were orphaned.

        A start may be cut off ``after`` so many tenants, and then comes again.
        """
        orphans = []
        for said_at, state in self.stage.to_purger.last_states()[:cut_off_after]:
            tenant_id = state.tenant_id
            decision = decide_take_over(
                self.tenants.get(tenant_id),
                state,
                said_at=said_at,
                erased=self.guards.get(tenant_id, frozenset()),
            )
            match decision:
                case Renew(said, seen_at):
                    self._take(said)
                    if seen_at is not None:
                        self.accesses[tenant_id] = Access(seen_at)
                case Adopt(said):
                    self._take(said)
                    orphans.append(tenant_id)
                case Bury():
                    self.stage.tell_purger(Gone(tenant_id))
                case None:
                    pass
        return orphans

    def begin_next_life(self) -> None:
        """Count refusals anew, apply the ledger, then say everything again."""
        for tenant_id, known in self.accesses.items():
            tenant = self.tenants.get(tenant_id)
            if tenant is not None and tenant.status is TenantStatus.INSTALLED and known.losses:
                self.accesses[tenant_id] = Access(known.last_lost_at or known.last_seen_at)
        self.follow_ledger(restored_at=self.stage.now)
        for tenant in list(self.tenants.values()):
            self.record(rules_of_installer.restated(tenant, epoch=self.epoch))

    def _take(self, said: TenantState) -> None:
        self.tenants[said.tenant_id] = said
        classes = [each for each, is_at in said.classes.items() if is_at is ClassState.PURGING]
        if said.purge_id is not None and classes:
            self._remember(said.purge_id, said.tenant_id, classes)

    def _begin(self, tenant_id: UUID, purge_id: UUID, classes: Iterable[DataClass]) -> None:
        tenant = self.tenants.get(tenant_id)
        if tenant is None:
            return
        said = rules_of_installer.begin_purge(tenant, purge_id, classes, epoch=self.epoch)
        if said is not None:
            self._remember(purge_id, tenant_id, classes)
            self.record(said)

    def _finish(self, entry: LedgerEntry) -> None:
        purge = self.accepted.get(entry.purge_id)
        tenant = self.tenants.get(purge.tenant_id) if purge else None
        if purge is None or tenant is None or entry.receipt is None:
            return
        erased = rules_of_installer.erased_by(entry.receipt, purge.classes)
        said = rules_of_installer.finish_purge(tenant, erased, epoch=self.epoch)
        if said is not None and rules_of_installer.is_gone(said):
            del self.tenants[said.tenant_id]
            self.installations.discard(said.tenant_id)
            self.stage.tell_purger(Gone(said.tenant_id))
        else:
            self.record(said)

    def _remember(self, purge_id: UUID, tenant_id: UUID, classes: Iterable[DataClass]) -> None:
        known = self.accepted.get(purge_id, AcceptedPurge(tenant_id, frozenset(), self.stage.now))
        self.accepted[purge_id] = replace(known, classes=known.classes | frozenset(classes))

    def _guard(self, tenant_id: UUID, classes: Iterable[DataClass]) -> None:
        self.guards[tenant_id] = self.guards.get(tenant_id, frozenset()) | frozenset(classes)


def _order_of(entry: LedgerEntry) -> PurgeStarted:
    assert entry.tenant_id is not None
    return PurgeStarted(
        purge_id=entry.purge_id,
        step=_LEDGER_STEP,
        wave=1,
        tenant_id=entry.tenant_id,
        owner="installer",
        classes=(DataClass.INSTALLATION,),
        ledger_number=entry.number,
    )


# -- the other owners -------------------------------------------------------------------------------


@dataclass
class Owners:
    """Config and notifier, who do as they are told and are asked again."""

    stage: Stage

    def hear(self, spoken: Spoken) -> None:
        assert isinstance(spoken, PurgeStarted)
        self.stage.tell_purger(answer(spoken, self.stage.now))


# -- purger -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A purge as purger's table has it."""

    tenant_id: UUID
    plan: Plan
    ask_again_at: datetime | None = None
    receipt_code: str | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class KeptWish:
    """A wish; withdrawn ones are kept."""

    tenant_id: UUID
    asked_at: datetime | None
    withdrawn: bool = False
    withdrawn_late: bool = False


@dataclass
class Purger(Copied):
    """Plans, purges and the ledger."""

    stage: Stage
    epoch: int = 1
    tenants: dict[UUID, TenantState] = field(default_factory=dict)
    purges: dict[UUID, Kept] = field(default_factory=dict)
    wishes: dict[UUID, KeptWish] = field(default_factory=dict)
    holds: dict[UUID, tuple[UUID, DataClass]] = field(default_factory=dict)
    versions: dict[UUID, Version] = field(default_factory=dict)
    spoken_of: set[UUID] = field(default_factory=set)
    ledger: list[LedgerEntry] = field(default_factory=list)
    parts: dict[tuple[UUID, str], LedgerEntry] = field(default_factory=dict)
    published: int = 0
    braked: bool = False

    # -- what it hears ------------------------------------------------------------------------------

    def hear(self, spoken: Spoken) -> None:
        match spoken:
            case TenantState():
                self._follow(spoken)
            case Gone(tenant_id):
                self._forget(tenant_id)
            case PurgeAccepted():
                self._start(spoken)
            case PurgeRefused():
                self._postpone(spoken)
            case DataErased():
                self._keep_answer(spoken)
            case ErasureAsked():
                if spoken.wish_id not in self.wishes:
                    self.wishes[spoken.wish_id] = KeptWish(spoken.tenant_id, spoken.asked_at)
                    self._replan_and_say(spoken.tenant_id)
            case ErasureWithdrawn():
                self._drop_wish(spoken)

    def _follow(self, state: TenantState) -> None:
        known = self.tenants.get(state.tenant_id)
        if known is not None and state.version <= known.version:
            return
        self.tenants[state.tenant_id] = state
        has_changed = self._replan(state)
        for purge_id, kept in self._purges_of(state.tenant_id):
            if kept.plan.phase is Phase.PLANNED:
                self.purges[purge_id] = replace(kept, ask_again_at=None)
        if has_changed:
            self._say(state.tenant_id)

    def _forget(self, tenant_id: UUID) -> None:
        for purge_id, _ in self._purges_of(tenant_id):
            self._withdraw(purge_id)
        self.tenants.pop(tenant_id, None)
        if tenant_id in self.spoken_of:
            self._say(tenant_id, gone=True)

    def _start(self, accepted: PurgeAccepted) -> None:
        kept = self.purges.get(accepted.purge_id)
        if kept is None or kept.plan.phase not in _BEFORE_NO_RETURN:
            return
        steps = steps_of(kept.plan.scope, kept.plan.classes)
        code = self._code_in_ledger(accepted.purge_id) or self._new_code(accepted.purge_id)
        self.purges[accepted.purge_id] = replace(
            kept, receipt_code=code, steps=tuple(Step(step) for step in steps)
        )
        self._move(accepted.purge_id, Phase.ERASING)
        if any(step.wave == 1 for step in steps):
            self._start_wave(accepted.purge_id, 1)
        else:
            self._advance(accepted.purge_id)
        self._say(kept.tenant_id)

    def _postpone(self, refused: PurgeRefused) -> None:
        kept = self.purges.get(refused.purge_id)
        if kept is None or kept.plan.phase is not Phase.REQUESTED:
            return
        wait = wait_after_refusal(refused, self.tenants.get(kept.tenant_id), silence=SILENCE)
        self._move(refused.purge_id, Phase.PLANNED, ask_again_at=self.stage.now + wait)
        for wish_id, wish in self.wishes.items():
            if wish.tenant_id == kept.tenant_id and wish.withdrawn_late:
                self.wishes[wish_id] = replace(wish, withdrawn=True)
        self._replan_and_say(kept.tenant_id)

    def _keep_answer(self, said: DataErased) -> None:
        self._record_owners_restore(said)
        kept = self.purges.get(said.purge_id)
        if kept is None or kept.plan.phase not in _UNDER_WAY:
            return
        steps = tuple(
            replace(
                step,
                counts=said.counts,
                data_map_hash=said.data_map_hash,
                erased_at=said.erased_at,
            )
            if step.plan.step == said.step and step.started and not step.answered
            else step
            for step in kept.steps
        )
        if steps != kept.steps:
            self.purges[said.purge_id] = replace(kept, steps=steps)
            if self._advance(said.purge_id):
                self._say(kept.tenant_id)

    def _drop_wish(self, withdrawn: ErasureWithdrawn) -> None:
        known = self.wishes.get(withdrawn.wish_id)
        if wish_is_past_return(self._plans(withdrawn.tenant_id)):
            self.wishes[withdrawn.wish_id] = (
                replace(known, withdrawn_late=True)
                if known is not None
                else KeptWish(withdrawn.tenant_id, None, withdrawn=True)
            )
            return
        standing = known is not None and not known.withdrawn
        at = known.asked_at if known else None
        self.wishes[withdrawn.wish_id] = KeptWish(withdrawn.tenant_id, at, withdrawn=True)
        if standing:
            self._replan_and_say(withdrawn.tenant_id)

    # -- what people decide ---------------------------------------------------------------------------

    def hold(self, hold_id: UUID, tenant_id: UUID, data_class: DataClass) -> bool:
        """Keep a class; False where that is too late, or nobody knows the tenant."""
        tenant = self.tenants.get(tenant_id)
        if tenant is None or too_late_to_hold([data_class], tenant, self._plans(tenant_id)):
            return False
        self.holds[hold_id] = (tenant_id, data_class)
        self._replan_and_say(tenant_id)
        return True

    def release(self, hold_id: UUID) -> None:
        tenant_id, _ = self.holds.pop(hold_id)
        self._replan_and_say(tenant_id)

    # -- what it does by the clock --------------------------------------------------------------------

    def sweep(self, *, cut_off_after: int | None = None) -> int:
        """Do what is due, each in a transaction of its own, and count the questions and orders.

        The process may die ``after`` so many of these transactions.
        """
        asked = 0
        for transaction in [*self._due(), *self._unanswered(), *self._late(), "publish"][
            :cut_off_after
        ]:
            match transaction:
                case ("ask", UUID() as purge_id):
                    asked += 1
                    self._ask(purge_id)
                case ("order", PurgeStarted() as order):
                    asked += 1
                    self.stage.order(order)
                case ("advance", UUID() as purge_id):
                    if self._advance(purge_id):
                        self._say(self.purges[purge_id].tenant_id)
                case "publish":
                    self.stage.ledger += self.ledger[self.published :]
                    self.published = len(self.ledger)
        return asked

    def _due(self) -> list[tuple[str, UUID]]:
        return [
            ("ask", purge_id)
            for purge_id, kept in self.purges.items()
            if not self.braked
            and kept.plan.phase is Phase.PLANNED
            and kept.plan.start_at <= self.stage.now
            and not kept.plan.held
            and (kept.ask_again_at is None or kept.ask_again_at <= self.stage.now)
            and kept.tenant_id in self.tenants
        ]

    def _unanswered(self) -> list[tuple[str, UUID] | tuple[str, PurgeStarted]]:
        asked: list[tuple[str, UUID] | tuple[str, PurgeStarted]] = [
            ("ask", purge_id)
            for purge_id, kept in self.purges.items()
            if kept.plan.phase is Phase.REQUESTED and kept.tenant_id in self.tenants
        ]
        for purge_id, kept in self.purges.items():
            asked += [
                ("order", self._order(purge_id, step))
                for step in kept.steps
                if step.started and not step.answered and kept.plan.phase in _UNDER_WAY
            ]
        return asked

    def _late(self) -> list[tuple[str, UUID]]:
        return [
            ("advance", purge_id)
            for purge_id, kept in self.purges.items()
            if kept.plan.phase is Phase.ERASING
        ]

    def _ask(self, purge_id: UUID) -> None:
        kept = self.purges[purge_id]
        is_first = kept.plan.phase is Phase.PLANNED
        self._move(purge_id, Phase.REQUESTED)
        self.stage.tell_installer(
            PurgeRequested(
                purge_id=purge_id,
                step="accept",
                tenant_id=kept.tenant_id,
                tenant_version=self.tenants[kept.tenant_id].version,
                classes=kept.plan.takes,
            )
        )
        if is_first:
            self._say(kept.tenant_id)

    # -- after a restore ------------------------------------------------------------------------------

    def take_over(self, *, cut_off_after: int | None = None) -> None:
        """Make up for what a restore lost, from what it has said itself."""
        end = self.ledger[-1] if self.ledger else None
        known = {entry.number: entry.hash for entry in self.ledger}
        last_hash = end.hash if end else GENESIS
        beyond = entries_beyond(len(self.ledger), last_hash, known, self.stage.ledger)
        verify_chain(beyond, KEY.public_keys, start_hash=last_hash)
        for entry in beyond:
            self._append(entry, part_of(entry))
        self.published = max(self.published, len(self.stage.ledger))
        for tenant_id, state in list(self.stage.purges.items())[:cut_off_after]:
            own = self.versions.get(tenant_id)
            if state is not None and (own is None or own < state.version):
                self._take(state)

    def begin_next_life(self) -> None:
        """Agree with the ledger, record the restore there, hold everything, say everything again."""
        recorded = {
            purge_id
            for purge_id, part in self.parts
            if part in {"wave-1", "wave-2", "receipt-closed"}
        }
        for purge_id in recorded & self.purges.keys():
            phase = self.purges[purge_id].plan.phase
            if (purge_id, "receipt-closed") in self.parts:
                self._move(purge_id, Phase.CLOSED)
            elif phase in {Phase.PLANNED, Phase.WITHDRAWN}:
                self._move(purge_id, Phase.REQUESTED)
        told = Restoration(service="purger", restored_at=self.stage.now, counts={})
        self._record(
            uuid5(_NAMES, f"restore {self.epoch}"),
            restoration_part(told, ()),
            EntryKind.RESTORED,
            classes=(),
            restoration=told,
        )
        self.braked = True
        for tenant_id in list(self.spoken_of):
            self._say(tenant_id)

    def _take(self, state: PurgeState) -> None:
        for said in state.plans:
            kept = self.purges.get(said.purge_id)
            plan = plan_taken_over(said, kept.plan if kept else None)
            if plan is not None:
                taken = kept or Kept(state.tenant_id, plan)
                self.purges[said.purge_id] = replace(taken, plan=plan, ask_again_at=None)
        standing = {wish.wish_id for wish in state.wishes}
        for wish_id in state.withdrawn_wishes:
            known = self.wishes.get(wish_id, KeptWish(state.tenant_id, None))
            self.wishes[wish_id] = replace(known, withdrawn=True)
        for told in state.wishes:
            self.wishes.setdefault(told.wish_id, KeptWish(state.tenant_id, told.asked_at))
        for wish_id, wish in self.wishes.items():
            counts = wish.tenant_id == state.tenant_id and wish.asked_at is not None
            if counts and wish_id not in standing:
                self.wishes[wish_id] = replace(wish, withdrawn=True)
        others = {each: of for each, of in self.holds.items() if of[0] != state.tenant_id}
        held = {each.hold_id: (state.tenant_id, each.classes[0]) for each in state.holds}
        self.holds = {**others, **held}
        self.versions[state.tenant_id] = state.version
        self.spoken_of.add(state.tenant_id)

    # -- planning ---------------------------------------------------------------------------------------

    def _replan_and_say(self, tenant_id: UUID) -> None:
        tenant = self.tenants.get(tenant_id)
        if tenant is not None:
            self._replan(tenant)
        if tenant is not None or tenant_id in self.spoken_of:
            self._say(tenant_id)

    def _replan(self, tenant: TenantState) -> bool:
        planned, wished_at = self._plans(tenant.tenant_id), self._wished_at(tenant.tenant_id)
        late = held_too_late(self.held(tenant.tenant_id), tenant)
        ended = self._end_holds(tenant.tenant_id, late)
        held = self.held(tenant.tenant_id)
        wanted = plan_purges(tenant, RETENTION, wished_at=wished_at, held=held)
        decisions = [
            *compare_plans(planned, wanted, tenant),
            *adopt_purge(planned, tenant, RETENTION, wished_at=wished_at),
        ]
        for decision in decisions:
            match decision:
                case Schedule(plan):
                    self._schedule(tenant.tenant_id, plan)
                case Withdraw(purge_id):
                    self._withdraw(purge_id)
        return bool(decisions or ended)

    def _end_holds(self, tenant_id: UUID, classes: Collection[DataClass]) -> bool:
        ended = [each for each, of in self.holds.items() if of[0] == tenant_id and of[1] in classes]
        for hold_id in ended:
            del self.holds[hold_id]
        return bool(ended)

    def _schedule(self, tenant_id: UUID, plan: Plan) -> None:
        if (plan.purge_id, "receipt-closed") in self.parts:
            plan = plan.model_copy(update={"phase": Phase.CLOSED})
        known = self.purges.get(plan.purge_id)
        if known is None:
            self.purges[plan.purge_id] = Kept(tenant_id, plan)
        elif known.plan.phase in {Phase.PLANNED, Phase.WITHDRAWN}:
            self.purges[plan.purge_id] = replace(known, plan=plan, ask_again_at=None)

    def _withdraw(self, purge_id: UUID) -> None:
        if self.purges[purge_id].plan.phase in {Phase.PLANNED, Phase.REQUESTED}:
            self._move(purge_id, Phase.WITHDRAWN)

    def _move(self, purge_id: UUID, phase: Phase, *, ask_again_at: datetime | None = None) -> None:
        kept = self.purges[purge_id]
        plan = kept.plan.model_copy(update={"phase": phase})
        self.purges[purge_id] = replace(kept, plan=plan, ask_again_at=ask_again_at)

    def standing_wishes(self, tenant_id: UUID) -> dict[UUID, datetime]:
        """The wishes of a tenant that count."""
        return {
            wish_id: wish.asked_at
            for wish_id, wish in self.wishes.items()
            if wish.tenant_id == tenant_id and wish.asked_at is not None and not wish.withdrawn
        }

    def held(self, tenant_id: UUID) -> frozenset[DataClass]:
        """The classes of a tenant that a hold keeps."""
        return frozenset(each for whose, each in self.holds.values() if whose == tenant_id)

    def _wished_at(self, tenant_id: UUID) -> datetime | None:
        return min(self.standing_wishes(tenant_id).values(), default=None)

    def _plans(self, tenant_id: UUID) -> list[Plan]:
        return [kept.plan for _, kept in self._purges_of(tenant_id)]

    def _purges_of(self, tenant_id: UUID) -> list[tuple[UUID, Kept]]:
        return [each for each in self.purges.items() if each[1].tenant_id == tenant_id]

    def _say(self, tenant_id: UUID, *, gone: bool = False) -> None:
        last = self.versions.get(tenant_id, Version(epoch=0, n=0))
        version = Version(epoch=max(self.epoch, last.epoch), n=last.n + 1)
        self.versions[tenant_id] = version
        plans, is_known = self._plans(tenant_id), tenant_id in self.tenants
        stands = bool(self.standing_wishes(tenant_id) or self.held(tenant_id))
        if nothing_left(plans, tenant_known=is_known, asked_for=stands and not gone):
            self.stage.purges[tenant_id] = None
            self.spoken_of.discard(tenant_id)
            return
        self.spoken_of.add(tenant_id)
        self.stage.purges[tenant_id] = PurgeState(
            tenant_id=tenant_id,
            version=version,
            plans=tuple(plans),
            wishes=tuple(
                Wish(wish_id=wish_id, asked_at=asked_at, by=WishedBy.CUSTOMER)
                for wish_id, asked_at in self.standing_wishes(tenant_id).items()
            ),
            holds=tuple(
                Hold(
                    hold_id=hold_id, classes=(each,), basis="legal-claims", placed_at=self.stage.now
                )
                for hold_id, (whose, each) in self.holds.items()
                if whose == tenant_id
            ),
            withdrawn_wishes=tuple(
                wish_id
                for wish_id, wish in self.wishes.items()
                if wish.tenant_id == tenant_id and wish.withdrawn
            ),
        )

    # -- erasing ----------------------------------------------------------------------------------------

    def _advance(self, purge_id: UUID) -> bool:
        moved = False
        while True:
            kept = self.purges[purge_id]
            act = next_act(
                kept.plan.phase, kept.steps, now=self.stage.now, erase_by=kept.plan.erase_by
            )
            match act:
                case WriteFirstReceipt():
                    self._record_receipt(purge_id, ReceiptStage.ERASED)
                    self._move(purge_id, Phase.ERASED)
                case StartWaveTwo():
                    self._start_wave(purge_id, WAVE_OF_CONTACTS)
                case WriteLastReceipt():
                    self._record_receipt(purge_id, ReceiptStage.CLOSED)
                    self._move(purge_id, Phase.CLOSED)
                case None:
                    return moved
            moved = True

    def _start_wave(self, purge_id: UUID, wave: int) -> None:
        kept = self.purges[purge_id]
        classes = tuple(
            each for step in kept.steps if step.plan.wave == wave for each in step.plan.classes
        )
        entry = self._record(
            purge_id,
            f"wave-{wave}",
            EntryKind.TENANT_ERASED,
            tenant_id=kept.tenant_id,
            classes=classes,
            receipt_code=kept.receipt_code if wave == WAVE_OF_CONTACTS else None,
        )
        started = [
            replace(step, ledger_number=entry.number) if step.plan.wave == wave else step
            for step in kept.steps
        ]
        self.purges[purge_id] = replace(kept, steps=tuple(started))
        for step in started:
            if step.plan.wave == wave:
                self.stage.order(self._order(purge_id, step))

    def _order(self, purge_id: UUID, step: Step) -> PurgeStarted:
        assert step.ledger_number is not None
        return PurgeStarted(
            purge_id=purge_id,
            step=step.plan.step,
            wave=step.plan.wave,
            tenant_id=self.purges[purge_id].tenant_id,
            owner=step.plan.owner,
            classes=step.plan.classes,
            ledger_number=step.ledger_number,
        )

    # -- the ledger ---------------------------------------------------------------------------------------

    def _record_receipt(self, purge_id: UUID, stage: ReceiptStage) -> None:
        kept = self.purges[purge_id]
        assert kept.receipt_code is not None
        receipt = Receipt(
            stage=stage,
            receipt_code=kept.receipt_code,
            steps=tuple(_proof(step) for step in kept.steps),
            deadline=kept.plan.deadline,
            erase_by=kept.plan.erase_by,
        )
        self._record(
            purge_id,
            f"receipt-{stage}",
            EntryKind.RECEIPT,
            classes=kept.plan.takes,
            receipt=receipt,
        )

    def _record_owners_restore(self, said: DataErased) -> None:
        if said.restored_at is None or not any(said.counts.values()):
            return
        told = Restoration(
            service=said.owner, restored_at=said.restored_at, counts=dict(said.counts)
        )
        self._record(
            said.purge_id,
            restoration_part(told, told.counts),
            EntryKind.RESTORED,
            classes=tuple(told.counts),
            restoration=told,
        )

    def _record(self, purge_id: UUID, part: str, kind: EntryKind, **told: Any) -> LedgerEntry:
        """Append an entry, or find what is recorded of this part already."""
        known = self.parts.get((purge_id, part))
        if known is not None:
            return known
        unsealed = UnsealedEntry(
            number=len(self.ledger) + 1,
            kind=kind,
            at=self.stage.now,
            purge_id=purge_id,
            previous_hash=self.ledger[-1].hash if self.ledger else GENESIS,
            **told,
        )
        return self._append(seal(unsealed, KEY.private_key, KEY.key_id), part)

    def _append(self, entry: LedgerEntry, part: str) -> LedgerEntry:
        assert (entry.purge_id, part) not in self.parts
        self.parts[entry.purge_id, part] = entry
        self.ledger.append(entry)
        return entry

    def _new_code(self, purge_id: UUID) -> str:
        return f"code-{uuid5(_NAMES, f'{purge_id} {self.epoch} {len(self.ledger)}')}"

    def _code_in_ledger(self, purge_id: UUID) -> str | None:
        entries = (entry for (of, _), entry in self.parts.items() if of == purge_id)
        codes = (
            entry.receipt.receipt_code if entry.receipt else entry.receipt_code for entry in entries
        )
        return next(filter(None, codes), None)
