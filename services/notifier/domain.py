"""The rules of notifier: who may be kept, when things are tried again, what a receipt says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import StepProof
from contracts.purges import BY_A_PERSON
from contracts.tenants import ClassState

PATIENCE: Final = timedelta(hours=72)
"""How long, in business time, a receipt or a move may delay the erasure of those concerned."""

FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=4)

MOST_DOUBTS: Final = 2
"""A receipt whose fate is unknown is sent once more; when that is unknown too, it is left at it."""

# One mailbox in plain ASCII: what every server takes, and nothing that could end a header.
_ADDRESS: Final = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$"
)


class ContactInput(BaseModel):
    """A contact as it comes in."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant_id: UUID
    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\p{C}]*$")]
    address: Annotated[str, StringConstraints(max_length=254, pattern=_ADDRESS)]

    def __repr__(self) -> str:
        """Name nobody."""
        return f"ContactInput(tenant_id={self.tenant_id!r})"


def one_form(address: str) -> str:
    """The form in which equal addresses are equal; what is written to is the form that was given.

    RFC 5321 section 2.4 lets a server tell cases of a local part apart. None that matters does,
    and one person must not be kept twice.
    """
    return address.strip().lower()


@dataclass(frozen=True, slots=True)
class Tenant:
    """What notifier remembers of a tenant."""

    tenant_id: UUID
    addon_key: str
    contacts: ClassState


class Access(StrEnum):
    """Whether people of a tenant may be kept."""

    OPEN = "open"
    UNKNOWN = "unknown"
    GOING = "going"


def access_to_contacts(tenant: Tenant | None, erased: frozenset[DataClass]) -> Access:
    """Say whether a tenant's contacts may be written; ``erased`` is what the guard says of it.

    An uninstalled tenant still has people: they stay as long as a licence of theirs runs.
    """
    if DataClass.CONTACTS in erased:
        return Access.GOING
    if tenant is None:
        return Access.UNKNOWN
    return Access.OPEN if tenant.contacts is ClassState.LIVE else Access.GOING


class Move(StrEnum):
    """What becomes of people whose tenant goes on as another."""

    NOW = "now"
    LATER = "later"
    """The other tenant was not heard of yet."""
    NEVER = "never"


def decide_move(access: Access, waited: timedelta) -> Move:
    """Say whether people may move to a tenant with this access to its own, after such a wait."""
    match access:
        case Access.OPEN:
            return Move.NOW
        case Access.GOING:
            return Move.NEVER
        case Access.UNKNOWN:
            return Move.LATER if waited < PATIENCE else Move.NEVER


@dataclass(frozen=True, slots=True)
class Accepted:
    """The mail server took the message and answers for it."""

    status_code: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server did not take it and may later; None where it could not be asked at all."""

    status_code: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will never take it."""

    status_code: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """The message was on its way when the connection ended: it may have been taken."""


Outcome = Accepted | Deferred | Refused | Unknown


def pause_after(attempts: int, *, first: timedelta = FIRST_PAUSE) -> timedelta:
    """How long to wait after so many attempts: a minute, doubled each time, never over 4 hours."""
    doubled: timedelta = first * 2 ** min(attempts - 1, 16)
    return min(doubled, LONGEST_PAUSE)


def message_id(
    keyed_hash: Callable[[str, bytes], bytes], purge_id: UUID, contact_id: UUID, domain: str
) -> str:
    """The Message-ID of a contact's receipt, the same whenever it is sent.

    So a mailbox may fold a receipt that had to be sent twice, and a server's
    log can be asked. Who lacks the key learns nothing from it.
    """
    told = keyed_hash("message-id", purge_id.bytes + contact_id.bytes)
    return f"<{told.hex()[:40]}@{domain}>"


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


@dataclass(frozen=True, slots=True)
class Recipient:
    """To whom a receipt goes; lives as long as the message is being written."""

    name: str = field(repr=False)
    address: str = field(repr=False)
    addon_key: str | None


# -- tickets ------------------------------------------------------------------------------------

EVIDENCE_KEPT: Final = timedelta(days=400)
"""How long a person's word that tickets are gone is kept: as long as the ledger's topic."""

FIRST_PAUSE_OF_DESK: Final = timedelta(seconds=5)
"""A desk is asked again sooner than mail is sent again: it is no nuisance to anybody."""

MOST_TICKETS_A_TURN: Final = 200
"""So many tickets of one purge are erased before others have their turn."""


class WhatGoes(StrEnum):
    """What an erasure takes of a ticket."""

    TICKET = "ticket"
    PERSONAL_DATA = "personal-data"
    """Its people, texts, comments and attachments; the ticket itself stays, as a number."""


class TicketsGo(StrEnum):
    """Who erases the tickets of a purge."""

    BY_JOB = "open"
    BY_HAND = "by-hand"


LICENCES_UNKNOWN: Final = "licences are not known"
HISTORY_STAYS: Final = "history of tickets"
"""Why the tickets of a purge take a person."""


def licences_may_be_kept(classes: Mapping[DataClass, ClassState]) -> bool:
    """Whether a tenant's state says by which licence numbers its tickets are found.

    From the point of no return on it says none, and those that were said last
    are what its erasure goes by.
    """
    return all(state is ClassState.LIVE for state in classes.values())


def who_erases_tickets(
    licence_numbers: Sequence[str] | None, *, has_desk: bool, goes_on: bool
) -> TicketsGo | None:
    """Say who looks for a tenant's tickets; None where there is nothing to look for.

    Numbers that were never heard (None) are no proof that there are no tickets:
    then a person looks. Where another tenant goes on for this one, the licence
    and its tickets are that one's.
    """
    if not has_desk or goes_on:
        return None
    if licence_numbers is None:
        return TicketsGo.BY_HAND
    return TicketsGo.BY_JOB if licence_numbers else None


def history_stays(what_goes: WhatGoes, tickets: int) -> bool:
    """Whether what a desk keeps of former texts is left, which no program can reach."""
    return what_goes is WhatGoes.PERSONAL_DATA and tickets > 0


MOST_EVIDENCE: Final = 300
_AN_ADDRESS: Final = "@"


def complaint_about_evidence(evidence: str) -> str | None:
    """Say why a text is no evidence of an erasure; None where it may be kept.

    Nobody can tell a name from other words, so this finds the plainest mistake alone.
    """
    if not evidence.strip() or len(evidence) > MOST_EVIDENCE:
        return f"Say with --evidence how you know it, in at most {MOST_EVIDENCE} characters."
    if not evidence.isprintable():
        return "The evidence has to be one line of text."
    if _AN_ADDRESS in evidence:
        return "The evidence names an address. It is kept, so it must name nobody."
    return None
