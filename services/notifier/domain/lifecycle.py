"""What people are told about their tenant's life, and when that is news to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict

from contracts.classes import DataClass
from contracts.exports import ExportLink
from contracts.purges import ClockKind, Hold, Phase, Plan, PurgeReminder, PurgeState, Wish
from contracts.tenants import Platform
from services.notifier.domain.campaigns import Kind

_NOTICES: Final = UUID("0e7f0e6c-6a7e-5b0b-8d53-2f3c1f3f7a58")
"""The namespace of notices' campaign ids; to change it is to tell everything a second time."""

NEWS_FOR: Final = timedelta(days=14)
"""So long what happened is worth a message; after that it is old news, and not sent any more."""

CATCHING_UP: Final = timedelta(days=1)
"""So long after a restore what is heard may be what the lost database had told people of."""


class Event(StrEnum):
    """What people are told of."""

    WELCOME = "welcome"
    REMINDER = "reminder"
    WELCOME_BACK = "welcome-back"
    HOLD_PLACED = "hold-placed"
    HOLD_RELEASED = "hold-released"
    ERASURE_ASKED = "erasure-asked"
    ERASURE_WITHDRAWN = "erasure-withdrawn"


KIND_OF: Final[Mapping[Event, Kind]] = {
    Event.WELCOME: Kind.WELCOME,
    Event.REMINDER: Kind.REMINDER,
    Event.WELCOME_BACK: Kind.WELCOME_BACK,
    Event.HOLD_PLACED: Kind.HOLD,
    Event.HOLD_RELEASED: Kind.HOLD,
    Event.ERASURE_ASKED: Kind.EARLY_ERASURE,
    Event.ERASURE_WITHDRAWN: Kind.EARLY_ERASURE,
}


class Facts(BaseModel):
    """What a notice says, as far as it is not the same for everybody; nothing of a person."""

    model_config = ConfigDict(frozen=True)

    platform: Platform | None = None
    classes: tuple[DataClass, ...] = ()
    clock: str | None = None
    start_at: datetime | None = None
    erase_by: datetime | None = None
    basis: str | None = None
    asked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """What one notice says, and what a link in it may open."""

    event: Event
    facts: Facts
    opens: ExportLink | None = None

    @classmethod
    def of(cls, event: Event, facts: Facts, tenant_id: UUID, subject: str) -> "Word":
        """Make a word of a notice that is kept; the reminder of a purge of content opens its export."""
        if event is not Event.REMINDER or DataClass.CONTENT not in facts.classes:
            return cls(event, facts)
        assert facts.erase_by is not None
        purge_id = UUID(subject.partition("/")[0])
        return cls(event, facts, ExportLink(tenant_id, purge_id, facts.erase_by))


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell a tenant's people, once.

    ``subject`` names what it is about, such as a hold; ``answers`` the notices
    that it ends: then only those are told who were told of these. ``since`` is
    when it became true, where that is known.
    """

    event: Event
    subject: str
    facts: Facts
    expires_at: datetime
    since: datetime | None = None
    answers: tuple[UUID, ...] = field(default=())

    def campaign_id(self, tenant_id: UUID) -> UUID:
        """The same whenever it is told, so that it is told once."""
        return notice_id(tenant_id, self.event, self.subject)


def notice_id(tenant_id: UUID, event: Event, subject: str) -> UUID:
    """Name what a tenant's people are told by what it is about."""
    return uuid5(_NOTICES, f"{tenant_id}/{event}/{subject}")


Told: TypeAlias = Mapping[tuple[Event, str], Facts]
"""What a tenant's people were told before, by event and subject."""


def welcome(tenant_id: UUID, platform: Platform, *, now: datetime) -> Notice:
    """Word to the first people of a tenant."""
    return Notice(
        Event.WELCOME, str(tenant_id), Facts(platform=platform), expires_at=now + NEWS_FOR
    )


def reminder(command: PurgeReminder, *, now: datetime) -> Notice | None:
    """Word of a purge that will start; None where there is nothing to remind of any more."""
    if command.start_at <= now:
        return None
    return Notice(
        Event.REMINDER,
        f"{command.purge_id}/{command.step}",
        Facts(
            classes=command.classes,
            clock=command.clock,
            start_at=command.start_at,
            erase_by=command.erase_by,
        ),
        expires_at=command.start_at,
        since=command.start_at - timedelta(days=command.days_before),
    )


def news_of(state: PurgeState, told: Told, *, now: datetime) -> list[Notice]:
    """Compare what stands with what people were told; what differs is news.

    It does not matter which message brought the state, nor how many were
    missed: what came and went unheard is not told at all.
    """
    return [
        *(
            _hold_placed(hold, now)
            for hold in state.holds
            if (Event.HOLD_PLACED, str(hold.hold_id)) not in told
        ),
        *(
            notice
            for wish in state.wishes
            if (Event.ERASURE_ASKED, str(wish.wish_id)) not in told
            and (notice := _erasure_asked(wish, state.plans, now)) is not None
        ),
        *_ended(state, told, Event.HOLD_PLACED, Event.HOLD_RELEASED, now),
        *_ended(state, told, Event.ERASURE_ASKED, Event.ERASURE_WITHDRAWN, now),
        *_cancelled(state, told, now),
    ]


_TO_COME: Final = frozenset({Phase.PLANNED, Phase.REQUESTED})
_OPEN: Final = frozenset({*_TO_COME, Phase.ERASING, Phase.ERASED})


def _hold_placed(hold: Hold, now: datetime) -> Notice:
    facts = Facts(classes=hold.classes, basis=hold.basis)
    return Notice(Event.HOLD_PLACED, str(hold.hold_id), facts, now + NEWS_FOR, since=hold.placed_at)


def _erasure_asked(wish: Wish, plans: Sequence[Plan], now: datetime) -> Notice | None:
    """None where it can be withdrawn no longer: what follows is the receipt."""
    if any(plan.phase in {Phase.ERASING, Phase.ERASED, Phase.CLOSED} for plan in plans):
        return None
    start_at, erase_by = _next_dates(plans)
    return Notice(
        Event.ERASURE_ASKED,
        str(wish.wish_id),
        Facts(start_at=start_at, erase_by=erase_by, asked_by=wish.by),
        start_at if start_at is not None and start_at > now else now + NEWS_FOR,
        since=wish.asked_at,
    )


def _ended(
    state: PurgeState, told: Told, began: Event, ended: Event, now: datetime
) -> Iterable[Notice]:
    """What people were told of and stands no longer, holds or wishes."""
    standing = {str(hold.hold_id) for hold in state.holds}
    standing |= {str(wish.wish_id) for wish in state.wishes}
    for (event, subject), facts in told.items():
        if event is not began or subject in standing or (ended, subject) in told:
            continue
        plans = [plan for plan in state.plans if not facts.classes or _shares(plan, facts.classes)]
        start_at, erase_by = _next_dates(plans)
        yield Notice(
            ended,
            subject,
            facts.model_copy(update={"start_at": start_at, "erase_by": erase_by}),
            now + NEWS_FOR,
            answers=(notice_id(state.tenant_id, began, subject),),
        )


def _cancelled(state: PurgeState, told: Told, now: datetime) -> Iterable[Notice]:
    """One word for all purges that people were reminded of and that will not be.

    A purge whose data is in another plan was planned anew, not cancelled. That
    old content goes after a move to Forge is another matter.
    """
    going = {
        data_class
        for plan in state.plans
        if plan.phase in _OPEN and plan.clock != ClockKind.FORGE_CONTENT
        for data_class in plan.takes
    }
    phases = {str(plan.purge_id): plan.phase for plan in state.plans}
    told_back = {
        each for event, said in told if event is Event.WELCOME_BACK for each in said.split()
    }
    cancelled = {
        subject: subject.partition("/")[0]
        for (event, subject), facts in told.items()
        if event is Event.REMINDER and going.isdisjoint(facts.classes)
    }
    cancelled = {
        subject: purge_id
        for subject, purge_id in cancelled.items()
        if phases.get(purge_id, Phase.WITHDRAWN) is Phase.WITHDRAWN and purge_id not in told_back
    }
    if cancelled:
        yield Notice(
            Event.WELCOME_BACK,
            " ".join(sorted(set(cancelled.values()))),
            Facts(),
            now + NEWS_FOR,
            answers=tuple(
                notice_id(state.tenant_id, Event.REMINDER, subject) for subject in cancelled
            ),
        )


def withdrawn(state: PurgeState) -> list[UUID]:
    """List the purges of which nobody is to be reminded any more."""
    return [plan.purge_id for plan in state.plans if plan.phase is Phase.WITHDRAWN]


def _shares(plan: Plan, classes: Sequence[DataClass]) -> bool:
    return not set(plan.takes).isdisjoint(classes)


def _next_dates(plans: Iterable[Plan]) -> tuple[datetime | None, datetime | None]:
    """When the first of these purges starts that nothing holds, and by when it is done."""
    coming = [plan for plan in plans if plan.phase in _TO_COME and not plan.held]
    first = min(coming, key=lambda plan: plan.start_at, default=None)
    return (None, None) if first is None else (first.start_at, first.erase_by)


def may_have_been_told(
    since: datetime | None, *, restored_at: datetime | None, now: datetime
) -> bool:
    """Whether a database that was lost may have told people of this before ``restored_at``.

    Where nobody knows since when it is true, only while what was lost is read again.
    """
    if restored_at is None:
        return False
    return since <= restored_at if since is not None else now <= restored_at + CATCHING_UP
