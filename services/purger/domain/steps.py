"""A purge in order: its waves, its steps, and what comes next."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from contracts.classes import DataClass
from contracts.purges import (
    Phase,
    Plan,
    Scope,
)

LONGEST_SILENCE = timedelta(hours=6)
"""Asking again grows rarer up to this: a person's step may take days."""

OPEN_STEPS_NAMED_BEFORE_ERASE_BY = timedelta(days=5)
"""From then on a receipt no longer waits for a step, but names it as open."""


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
