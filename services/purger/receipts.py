"""What a receipt says in plain words, to whoever was given its code."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from contracts.classes import DataClass
from contracts.ledger import LedgerEntry, Receipt, ReceiptStage, StepProof

_CLASSES: Final = {
    DataClass.INSTALLATION: "The installation: the site's address, its keys, its licence numbers",
    DataClass.CONTENT: "What was created in the app: datasources, queries, templates, converters",
    DataClass.ERRORS: "Reports of errors in the browser",
    DataClass.TICKETS: "Support tickets",
    DataClass.CONTACTS: "People: the contacts of the licence, with name and address",
}

# An open step has no counts yet, and its classes are known by its name alone.
_STEPS: Final = {
    "erase-installer": _CLASSES[DataClass.INSTALLATION],
    "erase-config": f"{_CLASSES[DataClass.CONTENT]}; reports of errors in the browser",
    "erase-notifier": _CLASSES[DataClass.TICKETS],
    "erase-contacts": _CLASSES[DataClass.CONTACTS],
}


class Standing(StrEnum):
    """How it stands with what a receipt is about."""

    CLOSED = "closed"
    OPEN = "open"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Erased:
    """One class of data that is gone."""

    what: str
    rows: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one service answered, and which list of its tables it looked by."""

    owner: str
    erased: tuple[Erased, ...]
    erased_at: datetime
    data_map_hash: str | None


@dataclass(frozen=True, slots=True)
class OpenPart:
    """What one service has not answered yet."""

    owner: str
    what: str


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt in plain words."""

    standing: Standing
    answers: tuple[Answer, ...]
    open_parts: tuple[OpenPart, ...]
    written_at: datetime
    erase_by: datetime
    deadline: datetime
    entries: tuple[LedgerEntry, ...]


def tell(entries: Sequence[LedgerEntry], *, now: datetime) -> Told:
    """Put a receipt's entries into words, by the latest of them; there must be one.

    Nothing that is open is told as done: not before the last entry says so.
    """
    last = entries[-1]
    receipt = last.receipt
    assert receipt is not None
    return Told(
        standing=_standing(receipt, now),
        answers=tuple(_answer(step) for step in receipt.steps if step.erased_at is not None),
        open_parts=tuple(
            OpenPart(step.owner, _STEPS.get(step.step, step.step))
            for step in receipt.steps
            if step.open
        ),
        written_at=last.at,
        erase_by=receipt.erase_by,
        deadline=receipt.deadline,
        entries=tuple(entries),
    )


def _standing(receipt: Receipt, now: datetime) -> Standing:
    if receipt.stage is ReceiptStage.CLOSED and not any(step.open for step in receipt.steps):
        return Standing.CLOSED
    return Standing.OVERDUE if now >= receipt.erase_by else Standing.OPEN


def _answer(step: StepProof) -> Answer:
    assert step.erased_at is not None
    erased = tuple(Erased(_CLASSES.get(each, each), rows) for each, rows in step.counts.items())
    return Answer(step.owner, erased, step.erased_at, step.data_map_hash)
