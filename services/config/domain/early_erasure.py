"""The rules of an erasure that the customer asks for early: what it sees of it, and may still do."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from contracts.classes import DataClass
from contracts.purges import ClockKind, Phase, PurgeState, Wish


class Stage(StrEnum):
    """Where the erasure of a tenant stands, as far as its wish can move it."""

    NONE = "none"
    """Nobody asks for it; what is planned, is planned for other reasons."""
    ASKED = "asked"
    WITHDRAWING = "withdrawing"
    """No longer asked for; purger has not said so yet, and may have begun."""
    ERASING = "erasing"
    """Past the point of no return, or the installer is being asked about it."""
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """What was last asked for here; what was asked for before ``withdrawn_at`` is not wanted."""

    wish_id: UUID
    asked_at: datetime
    heard: bool = False
    withdrawn_at: datetime | None = None


_UNDER_WAY = frozenset({Phase.REQUESTED, Phase.ERASING, Phase.ERASED})


def stage_of(
    said: PurgeState | None, own: ErasureRequest | None, erased: Collection[DataClass]
) -> Stage:
    """Say where the erasure stands, by what purger last said and by what was asked for here.

    Where purger says nothing any more the guard tells who is gone from who has
    nothing planned. That old content goes after a move to Forge is no erasure of
    the tenant. While some of it is held, what has gone is not all of it.
    """
    if said is None and DataClass.CONTENT in erased:
        return Stage.ERASED
    plans = [plan for plan in said.plans if plan.clock != ClockKind.FORGE_CONTENT] if said else []
    phases = {plan.phase for plan in plans} - {Phase.WITHDRAWN}
    if phases == {Phase.CLOSED}:
        return Stage.ERASED
    if phases & {*_UNDER_WAY, Phase.CLOSED}:
        return Stage.ERASING
    standing = wishes_of(said, own)
    if own is None or own.withdrawn_at is None:
        return Stage.ASKED if standing else Stage.NONE
    if any(wish.asked_at > own.withdrawn_at for wish in standing):
        return Stage.ASKED
    return Stage.WITHDRAWING if standing else Stage.NONE


def wishes_of(said: PurgeState | None, own: ErasureRequest | None) -> tuple[Wish, ...]:
    """List the wishes that stand: those that purger names, and ours that it has not heard yet."""
    named = said.wishes if said else ()
    if own is None or own.withdrawn_at is not None:
        return named
    if any(wish.wish_id == own.wish_id for wish in named):
        return named
    return (*named, Wish(wish_id=own.wish_id, asked_at=own.asked_at, by="customer"))


def begins_at(said: PurgeState | None) -> datetime | None:
    """Say until when a wish can surely be withdrawn; None before purger has planned it."""
    wished = (
        plan.start_at
        for plan in (said.plans if said else ())
        if plan.clock == ClockKind.ERASURE_ASKED and plan.phase is Phase.PLANNED
    )
    return min(wished, default=None)


def content_goes_at(said: PurgeState | None) -> datetime | None:
    """Say from when on content is erased; None where that is not planned."""
    coming = (
        plan.start_at
        for plan in (said.plans if said else ())
        if plan.phase in {Phase.PLANNED, Phase.REQUESTED} and DataClass.CONTENT in plan.takes
    )
    return min(coming, default=None)
