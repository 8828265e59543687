"""What a receipt says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import StepProof
from contracts.purges import BY_A_PERSON


@dataclass(frozen=True, slots=True)
class ErasedClass:
    """One line of a receipt: what was erased, how many records, when; no time for open work."""

    data_class: str
    what: str
    records: int | None
    erased_at: datetime | None


_WHAT: Final[Mapping[str, str]] = {
    DataClass.INSTALLATION: "the record of the app's installation",
    DataClass.CONTENT: "what was created in the app, such as datasources",
    DataClass.ERRORS: "error reports from browsers",
    DataClass.TICKETS: "support tickets",
    DataClass.CONTACTS: "contacts: names and addresses",
}


ERASE_CONTACTS: Final = "erase-contacts"
"""The step that waits for the receipt's mail, which says so by itself."""


def erased_classes(steps: Sequence[StepProof]) -> tuple[ErasedClass, ...]:
    """Read a receipt's steps as lines; a step that is open and names no class goes by its name.

    The erasure of the contacts is none of them: it begins when they have read this.
    """
    lines: list[ErasedClass] = []
    for step in steps:
        if step.step == ERASE_CONTACTS:
            continue
        erased_at = None if step.open else step.erased_at
        if not step.counts:
            lines.append(ErasedClass(step.step, "a further step", None, erased_at))
        lines += [
            ErasedClass(data_class.value, _WHAT[data_class], _records(step, data_class), erased_at)
            for data_class in TENANT_CLASSES
            if data_class in step.counts
        ]
    return tuple(lines)


def _records(step: StepProof, data_class: DataClass) -> int | None:
    """None where a person erased what no program counted: none would be no true number."""
    counted = step.counts[data_class]
    return None if step.by == BY_A_PERSON and not counted else counted


@dataclass(frozen=True, slots=True)
class Receipt:
    """A purge's first entry in the ledger, as far as its mail repeats it."""

    receipt_code: str
    steps: tuple[StepProof, ...]
