"""What owners say of what they hold, and what purger asks where that is not what it should be."""

from typing import Annotated, Final, Literal

from pydantic import Field

from contracts.classes import FieldClass
from contracts.messages import Count, Instant, Message, Pseudonym, Sha256, TenantClass, Word
from contracts.tenants import Version

BUCKETS: Final = 256
"""Tenants are counted in buckets, by the last byte of their ids, which is random."""

Bucket = Annotated[int, Field(ge=0, lt=BUCKETS), FieldClass.PROCESS]


class Tally(Message):
    """Of which tenants an owner holds data of one class, as one digest for each bucket.

    A digest is the SHA-256 of ``<tenant_id> <epoch> <n>`` of the bucket's tenants in the order of
    their ids, with commas between: the version is that of the tenant's state as the owner knows
    it, zeros where it knows none.
    """

    data_class: TenantClass
    tenants: Count
    digests: Annotated[tuple[Sha256, ...], Field(min_length=BUCKETS, max_length=BUCKETS)]


class CensusTaken(Message):
    """What an owner holds at one moment; what changes meanwhile is in the next census."""

    owner: Word
    census_id: Pseudonym
    taken_at: Instant
    tallies: tuple[Tally, ...]


class CensusDoubted(Message):
    """These buckets of an owner's census are not what purger expects: it is to list them."""

    owner: Word
    census_id: Pseudonym
    data_class: TenantClass
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)]


class HeldTenant(Message):
    """A tenant of which data is held, at the version of its state that the holder knows."""

    tenant_id: Pseudonym
    version: Version


class CensusListed(Message):
    """All tenants of these buckets, as they are when this is said; ``last`` ends an answer."""

    owner: Word
    census_id: Pseudonym
    data_class: TenantClass
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)]
    tenants: tuple[HeldTenant, ...]
    last: Annotated[bool, FieldClass.PROCESS]


class StatesDoubted(Message):
    """Somebody knows another state of these tenants than the installer's: it is to restate them."""

    owner: Annotated[Literal["installer"], FieldClass.PROCESS] = "installer"
    tenant_ids: Annotated[tuple[Pseudonym, ...], Field(min_length=1)]
