"""Grants: whether one opens what a customer keeps to a member of staff, and why not."""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final
from uuid import UUID

LENGTHS: Final = tuple(timedelta(minutes=minutes) for minutes in (15, 30, 60))
"""How long a grant may last; whoever needs longer asks again, and that is seen."""

MOST_TOLD: Final = 500

# A key of the service desk's; it names no customer and no person.
_TICKET: Final = re.compile(r"[A-Z][A-Z0-9]{1,9}-[1-9][0-9]{0,8}")


class Category(StrEnum):
    """Why a member of staff has to look, in a word that the customer sees."""

    QUESTION = "question"
    """The customer has asked something."""
    FAULT = "fault"
    """Something does not work and has to be mended."""
    SECURITY = "security"
    """The customer's data may be in danger."""


class BadReason(ValueError):  # noqa: N818 - reads as the fact it states
    """A reason lacks what it needs; the message says what, in words for who gave it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why somebody has to look. Without a ticket it is break-glass, and has to be told."""

    category: Category
    ticket: str | None = field(repr=False)
    told: str = field(repr=False)

    @property
    def breaks_glass(self) -> bool:
        """Whether all privacy officers hear of it at once, and one of them has to review it."""
        return self.ticket is None

    def hash(self, salt: bytes) -> bytes:
        """Bind the reason to what cannot be erased: once the salt is gone it tells nothing."""
        words = [self.category.value, self.ticket, self.told]
        return sha256(salt + json.dumps(words, ensure_ascii=False).encode()).digest()


def reason_of(category: str, ticket: str, told: str, *, breaks_glass: bool) -> Reason:
    """Read a reason that somebody typed; raises ``BadReason``."""
    ticket, told = ticket.strip().upper(), " ".join(told.replace("\x00", "").split())
    if category not in set(Category):
        raise BadReason("Choose what it is about.")
    if len(told) > MOST_TOLD:
        raise BadReason(f"Say it in {MOST_TOLD} characters.")
    if breaks_glass:
        if ticket:
            raise BadReason("There is a ticket, so nothing has to be broken: ask under it.")
        if not told:
            raise BadReason("Without a ticket, say in words why it cannot wait for one.")
        return Reason(Category(category), None, told)
    if not _TICKET.fullmatch(ticket):
        raise BadReason("Give the number of the ticket, such as SUP-123.")
    return Reason(Category(category), ticket, told)


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave for one member of staff to look at what one tenant keeps, for a while."""

    grant_id: UUID
    tenant_id: UUID
    subject: str
    role: str
    category: Category
    reason_hash: bytes = field(repr=False)
    break_glass: bool
    renews: UUID | None
    granted_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    reviewed_at: datetime | None = None
    reviewed_by: str | None = None
    justified: bool | None = None

    def is_open(self, now: datetime) -> bool:
        """Whether it opens anything now."""
        return self.revoked_at is None and self.granted_at <= now < self.expires_at

    @property
    def waits_for_review(self) -> bool:
        """Whether a privacy officer has still to say what to think of it."""
        return self.break_glass and self.reviewed_at is None


class Closed(StrEnum):
    """Why a tenant's content does not open to somebody."""

    NO_GRANT = "no-grant"
    REVOKED = "revoked"
    OVER = "over"


def why_closed(
    grant: Grant | None, *, subject: str, tenant_id: UUID, now: datetime
) -> Closed | None:
    """Say why a grant does not open a tenant's content to somebody now; None where it does.

    A grant of somebody else's, or for another tenant, is none.
    """
    if grant is None or grant.subject != subject or grant.tenant_id != tenant_id:
        return Closed.NO_GRANT
    if grant.revoked_at is not None:
        return Closed.REVOKED
    return None if grant.is_open(now) else Closed.OVER


def may_revoke(grant: Grant, *, subject: str, is_privacy: bool, now: datetime) -> bool:
    """Say whether somebody may end a grant early: who holds it, and whoever watches over privacy."""
    return grant.is_open(now) and (is_privacy or grant.subject == subject)


def may_review(grant: Grant, *, subject: str) -> bool:
    """Say whether somebody may review a broken glass: nobody does so for themselves, or twice."""
    return grant.waits_for_review and grant.subject != subject
