"""What is said about staff who look at what a customer keeps: ids, words of ours, and hashes."""

from typing import Annotated

from contracts.classes import FieldClass
from contracts.messages import Instant, Message, Pseudonym, Sha256, Word

StaffIndex = Sha256
"""A member of staff as a keyed hash that only the sender can make; the same person has the same one."""


class AccessGranted(Message):
    """A member of staff may look at what one tenant keeps, until ``expires_at`` at the latest."""

    grant_id: Pseudonym
    tenant_id: Pseudonym
    staff: StaffIndex
    role: Word
    category: Word
    reason_hash: Sha256
    break_glass: Annotated[bool, FieldClass.PROCESS]
    renews: Pseudonym | None = None
    granted_at: Instant
    expires_at: Instant


class AccessRevoked(Message):
    """A grant opens nothing from now on, although its time is not over."""

    grant_id: Pseudonym
    tenant_id: Pseudonym
    by_holder: Annotated[bool, FieldClass.PROCESS]
    revoked_at: Instant


class CustomerDataAccessed(Message):
    """A member of staff was shown something of a tenant's under a grant.

    ``what`` is its kind; without a ``thing_id`` it was a list of that kind.
    """

    look_id: Pseudonym
    grant_id: Pseudonym
    tenant_id: Pseudonym
    what: Word
    thing_id: Pseudonym | None = None
    accessed_at: Instant
