"""What every message has in common: frozen, lenient when read, strict about time."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from contracts.classes import TENANT_CLASSES, DataClass, FieldClass


class Kind(StrEnum):
    """What a topic's records are, which decides how they are repeated and kept."""

    STATE = "state"
    """The whole state of its key; the newest version is all one needs."""
    COMMAND = "command"
    """What another has to do; identified by its body, so that asking twice is harmless."""
    EVENT = "event"
    """What was answered; told apart by ``ce_id``."""
    LOG = "log"
    """A numbered sequence that is read whole and in order."""


class Message(BaseModel):
    """A body on the wire: JSON, never changed once made.

    A reader ignores fields that it does not know, so a sender may add optional
    ones. The published schema is closed all the same, and says what we send.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def encode(self) -> bytes:
        """Write the body of a record: compact JSON, times in UTC with a ``Z``."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, body: bytes | str) -> Self:
        """Read the body of a record; raises ``pydantic.ValidationError``.

        Stricter than ``model_validate_json``: a number is no time and a string is no number.
        """
        return cls.model_validate_json(body, strict=True)


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this instant has no date in UTC") from error


def _of_a_tenant(value: DataClass) -> DataClass:
    if value not in TENANT_CLASSES:
        raise ValueError(f"{value} is not a class of tenant data")
    return value


Instant = Annotated[
    AwareDatetime,
    AfterValidator(_in_utc),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$",
        }
    ),
    FieldClass.PROCESS,
]
"""A moment, in UTC whatever zone it was given in; a time without a zone is refused."""

TenantClass = Annotated[
    DataClass,
    AfterValidator(_of_a_tenant),
    WithJsonSchema({"type": "string", "enum": [each.value for each in TENANT_CLASSES]}),
    FieldClass.PROCESS,
]
"""One of the five classes of tenant data."""

Pseudonym = Annotated[UUID, FieldClass.PSEUDONYM]

Word = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64), FieldClass.PROCESS
]
"""A word of ours from an open vocabulary, ``erase-contacts``; too narrow for a host or a person."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1), FieldClass.PROCESS]
"""A whole number from zero that every JSON reader keeps exact (RFC 8259, section 6)."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), FieldClass.EVIDENCE]
"""A SHA-256 hash in lower-case hexadecimal."""
