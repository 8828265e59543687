"""A thing as it may be shown, how things are named anew, and how a list of them is paged."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import count
from typing import Any, Final
from uuid import UUID

from services.config.domain.definitions import LONGEST_NAME, Definition
from services.config.domain.kinds import KIND_OF, Kind


@dataclass(frozen=True, slots=True)
class Thing:
    """What a customer created, in its present version. What is sealed is not among it."""

    thing_id: UUID
    kind: str
    name: str = field(repr=False)
    tags: list[str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)
    has_credentials: bool
    version: int
    created_at: datetime
    updated_at: datetime

    def definition(self) -> Definition:
        """Read it as its customer would write it today; raises ``ValidationError`` if it cannot."""
        return read_definition(KIND_OF[self.kind], self.name, self.tags, self.body)

    def shown(self) -> dict[str, Any]:
        """Lay it out as its customer sees it."""
        sealed = {"has_credentials": self.has_credentials} if KIND_OF[self.kind].has_secret else {}
        return {
            "id": str(self.thing_id),
            "name": self.name,
            "tags": self.tags,
            **self.body,
            **sealed,
            "version": self.version,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class PastVersion:
    """What a thing was before it was changed."""

    version: int
    name: str = field(repr=False)
    tags: list[str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)
    made_at: datetime


def read_definition(kind: Kind, name: str, tags: list[str], body: dict[str, Any]) -> Definition:
    """Hold what was stored against the present rules; raises ``ValidationError``."""
    return kind.model.model_validate({**body, "name": name, "tags": tags})


def references_of(kind: Kind, body: dict[str, Any]) -> dict[str, UUID]:
    """Say which things a thing refers to, by the field that does."""
    return {each: UUID(body[each]) for each in kind.refers if body.get(each) is not None}


def names_with(word: str, name: str) -> Iterator[str]:
    """List names for another thing of this name, the best one first, without end.

    Its own, or that with a word that says where it came from. Each is a name
    that a customer could have given, so a long one is cut before the word.
    """
    yield name
    for number in count(1):
        behind = f" ({word})" if number == 1 else f" ({word} {number})"
        yield name[: LONGEST_NAME - len(behind)] + behind


class Sort(StrEnum):
    """How a list is sorted."""

    ORDER = "order"
    """As the customer put them; new ones come last."""
    NAME = "name"


KEYS_KEPT: Final = timedelta(days=1)
"""How long a repeat with the same Idempotency-Key creates nothing."""

_ID_BYTES: Final = 16


def cursor_after(key: str | int, thing_id: UUID) -> str:
    """Name the place in a list behind a thing that is sorted by this key."""
    return urlsafe_b64encode(thing_id.bytes + str(key).encode()).decode().rstrip("=")


def place_of(cursor: str, sort: Sort) -> tuple[str | int, UUID]:
    """Undo ``cursor_after``; raises ``ValueError`` for anything else."""
    told = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    key, thing_id = told[_ID_BYTES:].decode(), UUID(bytes=told[:_ID_BYTES])
    if "\x00" in key:
        raise ValueError("no name has a NUL")
    if sort is Sort.NAME:
        return key, thing_id
    position = int(key)
    if not -(2**63) <= position < 2**63:
        raise ValueError("no position is so large")
    return position, thing_id
