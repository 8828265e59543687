"""The rules of config: who is served, what a datasource may be, how a list is paged."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import count
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus


@dataclass(frozen=True, slots=True)
class Tenant:
    """What config remembers of a tenant."""

    tenant_id: UUID
    status: TenantStatus
    platform: Platform
    content: ClassState


class Access(StrEnum):
    """Whether a tenant's content may be read and written here."""

    OPEN = "open"
    UNKNOWN = "unknown"
    """The installer vouches for the tenant, but its state has not come yet."""
    LEFT = "left"
    GOING = "going"
    """Its content is being erased or is erased, and never comes back."""
    KEPT_ELSEWHERE = "kept-elsewhere"
    """Content of Forge and Data Center apps stays in the customer's product."""


def access_to_content(tenant: Tenant | None, erased: frozenset[DataClass]) -> Access:
    """Say whether a tenant's content may be touched; ``erased`` is what the guard says of it.

    The guard comes first: it may know of an erasure before the tenant's state does, and still
    knows when that is forgotten.
    """
    if DataClass.CONTENT in erased:
        return Access.GOING
    if tenant is None:
        return Access.UNKNOWN
    if tenant.content is not ClassState.LIVE:
        return Access.GOING
    if tenant.status is not TenantStatus.INSTALLED:
        return Access.LEFT
    if tenant.platform is not Platform.CONNECT:
        return Access.KEPT_ELSEWHERE
    return Access.OPEN


PATIENCE: Final = timedelta(hours=72)
"""How long, in business time, a move may delay the erasure of what is to move."""


class Move(StrEnum):
    """What becomes of content whose tenant goes on as another."""

    NOW = "now"
    LATER = "later"
    """The other tenant was not heard of yet."""
    NEVER = "never"


def decide_move(target: Tenant | None, erased: frozenset[DataClass], waited: timedelta) -> Move:
    """Say whether content may move to a tenant, of whom the guard says what is ``erased``.

    One that has left since keeps what it has until its own end, so it may get
    more of it; content of who moved to Forge is no longer ours to keep.
    """
    if DataClass.CONTENT in erased:
        return Move.NEVER
    if target is None:
        return Move.LATER if waited < PATIENCE else Move.NEVER
    is_kept_here = target.platform is Platform.CONNECT and target.content is ClassState.LIVE
    return Move.NOW if is_kept_here else Move.NEVER


class DatasourceKind(StrEnum):
    """What kind of system a datasource is."""

    SQL = "sql"
    REST = "rest"


_SCHEMES: Final = {
    DatasourceKind.SQL: frozenset({"postgresql", "mysql", "mariadb", "sqlserver", "oracle"}),
    DatasourceKind.REST: frozenset({"http", "https"}),
}
_MOST_OPTIONS: Final = 50
_SECRET_OPTION: Final = re.compile(r"(?i)secret|passw|token|api.?key|credential|authori")

# PostgreSQL stores no NUL, and nothing here needs another control character.
_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
_LONGEST_NAME: Final = 200
Name = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_NAME, pattern=_PLAIN)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=_PLAIN)]
OptionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
OptionText = Annotated[str, StringConstraints(strict=True, max_length=2000, pattern=_PLAIN)]
OptionNumber = Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
Credentials = Annotated[SecretStr, Field(min_length=1, max_length=8192)]


class DatasourceInput(BaseModel):
    """A datasource as a customer writes it.

    ``credentials`` are taken and never given back; a replacement that does not
    mention them leaves them, one with ``null`` takes them away.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name
    kind: DatasourceKind
    url: Address
    options: dict[OptionName, OptionText | OptionNumber | StrictBool] = Field(
        default_factory=dict, max_length=_MOST_OPTIONS
    )
    username: Name | None = None
    credentials: Credentials | None = None

    @property
    def keeps_credentials(self) -> bool:
        """Whether a replacement leaves the credentials as they are."""
        return "credentials" not in self.model_fields_set

    @model_validator(mode="after")
    def _has_no_secret_in_the_open(self) -> Self:
        """Refuse secrets where they would be shown, as far as they can be told."""
        _require_plain_address(self.kind, self.url)
        if any(_SECRET_OPTION.search(name) for name in self.options):
            raise PydanticCustomError(
                "secret_in_options", "an option's name says that it is secret: use credentials"
            )
        return self


def _require_plain_address(kind: DatasourceKind, url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise PydanticCustomError("bad_url", "url is not an address") from None
    if parts.scheme not in _SCHEMES[kind] or not host:
        raise PydanticCustomError(
            "bad_url",
            "url must be a full address that begins with one of {schemes}",
            {"schemes": ", ".join(f"{scheme}://" for scheme in sorted(_SCHEMES[kind]))},
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PydanticCustomError(
            "secret_in_url",
            "url must have no user, query or fragment: use username, credentials and options",
        )


@dataclass(frozen=True, slots=True)
class Datasource:
    """A datasource as it may be shown: its credentials are not among it."""

    datasource_id: UUID
    name: str = field(repr=False)
    kind: DatasourceKind
    url: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    username: str | None = field(repr=False)
    has_credentials: bool
    version: int
    created_at: datetime
    updated_at: datetime


def names_for_moved(name: str) -> Iterator[str]:
    """List the names that a datasource may have where it moves, the best one first, without end.

    Its own, or that with a word that says where it came from. Each is a name
    that a customer could have given, so a long one is cut before the word.
    """
    yield name
    for number in count(1):
        word = " (moved)" if number == 1 else f" (moved {number})"
        yield name[: _LONGEST_NAME - len(word)] + word


def cursor_after(datasource_id: UUID) -> str:
    """Name the place in a list behind a datasource."""
    return urlsafe_b64encode(datasource_id.bytes).decode().rstrip("=")


def place_of(cursor: str) -> UUID:
    """Undo ``cursor_after``; raises ``ValueError`` for anything else."""
    return UUID(bytes=urlsafe_b64decode(cursor.encode("ascii") + b"=="))
