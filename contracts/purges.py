"""What purger plans and asks for, and what the owners of data answer."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import Field

from contracts.classes import TENANT_CLASSES, DataClass, FieldClass
from contracts.messages import Count, Instant, Message, Pseudonym, Sha256, TenantClass, Word
from contracts.tenants import Version

_PURGES = UUID("6a1d3e0c-3f0e-5c58-9d0b-8a7a2f1f6f42")
"""The namespace of purge ids; to change it is to plan every purge a second time."""

ReceiptCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$"), FieldClass.PSEUDONYM]
"""The code under which anyone who was given it can look up a receipt."""


Classes = Annotated[tuple[TenantClass, ...], Field(min_length=1)]


class Scope(StrEnum):
    """What part of a tenant's data a purge takes."""

    EVERYTHING = "everything"
    SERVICE_DATA = "service-data"
    PEOPLE = "people"

    @property
    def classes(self) -> tuple[DataClass, ...]:
        """The classes of data in this scope, in the order of ``TENANT_CLASSES``."""
        match self:
            case Scope.EVERYTHING:
                return TENANT_CLASSES
            case Scope.SERVICE_DATA:
                return (DataClass.INSTALLATION, DataClass.CONTENT, DataClass.ERRORS)
            case Scope.PEOPLE:
                return (DataClass.TICKETS, DataClass.CONTACTS)


class Phase(StrEnum):
    """How far a purge has come."""

    PLANNED = "planned"
    REQUESTED = "requested"
    """Wave 0: installer was asked, and may still refuse."""
    ERASING = "erasing"
    """Wave 1 is open; nothing comes back any more."""
    ERASED = "erased"
    """The receipt's first entry is written; wave 2 is open."""
    CLOSED = "closed"
    WITHDRAWN = "withdrawn"


class ClockKind(StrEnum):
    """The known values of ``Plan.clock``; readers must bear with others."""

    UNINSTALLED = "uninstalled"
    SUBSCRIPTION_ENDED = "subscription-ended"
    FORGE_CONTENT = "forge-content"
    ERASURE_ASKED = "erasure-asked"
    MERGED = "merged"


class Plan(Message):
    """One purge of a tenant with its dates, each explained by the clock and the rule's version.

    ``classes`` are there where it takes only a part of its scope. One that is
    ``held`` stays planned, whatever its dates say, until a legal hold is released.
    """

    purge_id: Pseudonym
    scope: Annotated[Scope, FieldClass.PROCESS]
    clock: Word
    clock_started_at: Instant
    rule_version: Count
    deadline: Instant
    erase_by: Instant
    start_at: Instant
    phase: Annotated[Phase, FieldClass.PROCESS]
    classes: Classes | None = None
    held: Annotated[bool, FieldClass.PROCESS] = False

    @property
    def takes(self) -> tuple[DataClass, ...]:
        """The classes of data that go with this purge."""
        return self.scope.classes if self.classes is None else self.classes


class WishedBy(StrEnum):
    """The known values of ``Wish.by``; readers must bear with others."""

    CUSTOMER = "customer"
    PRIVACY = "privacy"
    """Our own privacy role, whom the customer wrote to."""


class Wish(Message):
    """Somebody asked for a tenant's erasure before its time, and has not withdrawn it."""

    wish_id: Pseudonym
    asked_at: Instant
    by: Word


class LegalBasis(StrEnum):
    """The known values of ``Hold.basis``; readers must bear with others."""

    LEGAL_OBLIGATION = "legal-obligation"
    """GDPR Art. 17(3)(b): a law demands that it is kept."""
    LEGAL_CLAIMS = "legal-claims"
    """GDPR Art. 17(3)(e): somebody needs it to establish, exercise or defend a claim."""


class Hold(Message):
    """A legal hold that stands: these classes are kept although their time may have come."""

    hold_id: Pseudonym
    classes: Classes
    basis: Word
    placed_at: Instant


class PurgeState(Message):
    """All purges of a tenant, as purger sees them now, with the wishes and holds that stand.

    Why a hold was placed and by whom is not said. ``withdrawn_wishes`` are those that a purger
    restored from a copy may hear of once more, when it would be too late to withdraw them.
    """

    tenant_id: Pseudonym
    version: Version
    plans: tuple[Plan, ...]
    wishes: tuple[Wish, ...] = ()
    holds: tuple[Hold, ...] = ()
    withdrawn_wishes: tuple[Pseudonym, ...] = ()


class ErasureAsked(Message):
    """The customer asks for everything to be erased before its time."""

    wish_id: Pseudonym
    tenant_id: Pseudonym
    asked_at: Instant


class ErasureWithdrawn(Message):
    """The customer no longer wants that; too late once the installer has been asked."""

    wish_id: Pseudonym
    tenant_id: Pseudonym
    withdrawn_at: Instant


BY_A_PERSON = "person"
"""How an answer says that a person gave their word for it."""


class PurgeRequested(Message):
    """Wave 0: installer is asked whether the tenant is still as the plan saw it."""

    purge_id: Pseudonym
    step: Word
    tenant_id: Pseudonym
    tenant_version: Version
    classes: Classes
    owner: Annotated[Literal["installer"], FieldClass.PROCESS] = "installer"


class PurgeStarted(Message):
    """Waves 1 and 2: an owner has to erase these classes of a tenant.

    ``(purge_id, step)`` identifies it, so an owner that is asked again looks
    again and answers again. ``receipt_code`` comes with wave 2, to be mailed
    before the contacts are forgotten. Where ``merged_into`` names another
    tenant, people and content move there instead, and nobody is written to.
    """

    purge_id: Pseudonym
    step: Word
    wave: Annotated[int, Field(ge=1, le=2), FieldClass.PROCESS]
    tenant_id: Pseudonym
    owner: Word
    classes: Classes
    ledger_number: Count
    receipt_code: ReceiptCode | None = None
    merged_into: Pseudonym | None = None


class PurgeReminder(Message):
    """Notifier has to remind a tenant's people of a purge that is planned and has not begun.

    ``(purge_id, step)`` identifies it: there is one for each number of days
    before ``start_at``. Nothing waits for it, and nobody answers it.
    """

    purge_id: Pseudonym
    step: Word
    tenant_id: Pseudonym
    classes: Classes
    clock: Word
    start_at: Instant
    erase_by: Instant
    days_before: Count
    owner: Annotated[Literal["notifier"], FieldClass.PROCESS] = "notifier"


class PurgeAccepted(Message):
    """Installer passed the point of no return."""

    purge_id: Pseudonym
    step: Word
    tenant_id: Pseudonym
    tenant_version: Version
    accepted_at: Instant


REFUSED_FOR_NEWER_STATE = "newer-state"
"""The ``reason`` of a refusal when the tenant has changed since the version that was asked about."""


class PurgeRefused(Message):
    """Installer knows a newer state than the plan's, or cannot purge for another ``reason``."""

    purge_id: Pseudonym
    step: Word
    tenant_id: Pseudonym
    tenant_version: Version
    reason: Word
    refused_at: Instant


class DataErased(Message):
    """An owner erased, looked again and says what it found.

    ``counts`` is the number of rows erased by class, ``remaining`` what the
    second look still saw: 0 when clean. ``data_map_hash`` says by which data
    map it looked. ``restored_at`` is there where a restore had brought the rows
    back: when that began. ``by`` is ``person`` where somebody gave their word
    for what no program could see.
    """

    purge_id: Pseudonym
    step: Word
    tenant_id: Pseudonym
    owner: Word
    ledger_number: Count
    counts: dict[TenantClass, Count]
    remaining: Count
    data_map_hash: Sha256
    erased_at: Instant
    restored_at: Instant | None = None
    by: Word | None = None


def purge_id(
    tenant_id: UUID,
    scope: Scope,
    clock_started_at: datetime,
    classes: tuple[DataClass, ...] | None = None,
) -> UUID:
    """Name a purge by what it is, so that a restored purger plans the same purge again.

    ``classes`` are given where it takes only a part of its scope, in the order
    of ``TENANT_CLASSES``. The same instant gives the same id in whatever zone it
    is written. Raises ``ValueError`` for a time without a zone.
    """
    if clock_started_at.tzinfo is None:
        raise ValueError("a clock's start needs a zone")
    instant = clock_started_at.astimezone(UTC).isoformat(timespec="microseconds")
    taken = scope if classes is None else f"{scope}:{'+'.join(classes)}"
    return uuid5(_PURGES, f"{tenant_id}/{taken}/{instant}")
