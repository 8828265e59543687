"""A person's request about their own data: what may be asked, and by when it is answered."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from contracts.deadlines import add_months, local_date

RECORD_KEPT: Final = timedelta(days=3 * 365)
"""How long it is kept that a request was answered: so long a claim about it may come."""


class RequestKind(StrEnum):
    """What a person may ask for, by the article of the GDPR."""

    ACCESS = "access"
    """Article 15."""
    CORRECTION = "correction"
    """Article 16."""
    ERASURE = "erasure"
    """Article 17."""
    OBJECTION = "objection"
    """Article 21: to news of products."""


def due_on(asked_at: datetime | date) -> date:
    """Say by when a request has to be answered: one month on, clamped to the month's end.

    GDPR, Article 12(3). Counted from the earliest date that the moment has
    anywhere on earth, and without the two months more that the law would let us take.
    """
    return add_months(local_date(asked_at), 1)


@dataclass(frozen=True, slots=True)
class PersonRequest:
    """A request as it is recorded, which says nothing of the person."""

    request_id: UUID
    kind: RequestKind
    asked_at: datetime
    due_on: date
    answered_at: datetime | None = None
    answered_by: str | None = None
    records: int | None = None


@dataclass(frozen=True, slots=True)
class OpenRequests:
    """How many requests wait for an answer, and how many of them are late."""

    open: int
    overdue: int


@dataclass(frozen=True, slots=True)
class Place:
    """One contact of a person: where they stand, of which app."""

    tenant_id: UUID
    contact_id: UUID
    addon_key: str | None
    roles: tuple[str, ...]
    language: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """One message to a person, and what became of it."""

    kind: str
    state: str
    planned_at: datetime
    accepted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of a person besides names and addresses, by the index of the address."""

    places: tuple[Place, ...]
    messages: tuple[Sent, ...]
    suppressions: tuple[tuple[str, str, datetime], ...]

    @property
    def records(self) -> int:
        """How many records that is."""
        return len(self.places) + len(self.messages) + len(self.suppressions)


@dataclass(frozen=True, slots=True)
class Card:
    """Name and address of a person as one tenant's contact; None where the key is destroyed."""

    name: str | None = field(repr=False)
    address: str | None = field(repr=False)
