"""What a datasource may be: a database or a REST service, with nothing secret in the open."""

import re
from enum import StrEnum
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    StrictBool,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.config.domain.definitions import (
    LARGEST_WHOLE,
    Definition,
    Line,
    Name,
    OptionText,
    whole,
)


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

OptionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
# JSON knows one kind of number: 5.0 is a whole one.
OptionNumber = Annotated[
    int, Field(strict=True, ge=-LARGEST_WHOLE, le=LARGEST_WHOLE), BeforeValidator(whole)
]
Credentials = Annotated[SecretStr, Field(min_length=1, max_length=8192)]


class Datasource(Definition):
    """A datasource as a customer writes it.

    ``credentials`` are taken and never given back; a replacement that does not
    mention them leaves them, one with ``null`` takes them away.
    """

    kind: DatasourceKind
    url: Line
    options: dict[OptionName, OptionText | OptionNumber | StrictBool] = Field(
        default_factory=dict,
        max_length=_MOST_OPTIONS,
        json_schema_extra={"additionalProperties": False},
    )
    username: Name | None = None
    credentials: Credentials | None = None

    @property
    def secret(self) -> SecretStr | None:
        """With what to log in there."""
        return self.credentials

    @property
    def keeps_secret(self) -> bool:
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
