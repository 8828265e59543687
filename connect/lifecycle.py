"""The bodies of Connect's lifecycle calls: what is kept of them, and nothing more.

Unknown fields are accepted and dropped, among them the ones that name people. What tells one customer
from another stands in no representation of a body, and a refused body in no error.
"""

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)
from pydantic.alias_generators import to_camel

from connect.hosts import AllowedHosts

MAX_BODY_BYTES = 64 * 1024
MAX_SECRET_BYTES = 400
"""Atlassian asks to be ready for secrets of this size."""

APP_KEY = r"^[a-zA-Z0-9._-]+$"
MAX_APP_KEY_LENGTH = 80

PLAIN_TEXT = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Text without control characters, NUL among them."""


class EventType(StrEnum):
    """The four lifecycle calls."""

    INSTALLED = "installed"
    UNINSTALLED = "uninstalled"
    ENABLED = "enabled"
    DISABLED = "disabled"


class InvalidBody(Exception):  # noqa: N818 - names what is so
    """A lifecycle body was refused; ``faults`` holds (field, kind of fault), never a value."""

    def __init__(self, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(", ".join(f"{field}: {kind}" for field, kind in faults))
        self.faults = faults


def _secret(value: SecretStr) -> SecretStr:
    plain = value.get_secret_value()
    if not 0 < len(plain.encode()) <= MAX_SECRET_BYTES:
        raise ValueError("size")
    if re.fullmatch(PLAIN_TEXT, plain) is None:
        raise ValueError("control characters")
    return value


def _absent_when_empty(value: Any) -> Any:
    return None if value == "" else value


def _allowed_base_url(value: str, info: ValidationInfo) -> str:
    hosts = info.context if isinstance(info.context, AllowedHosts) else AllowedHosts()
    plain = hosts.admit(value)
    if plain is None:
        raise ValueError("host not allowed")
    return plain


AppKey = Annotated[str, StringConstraints(pattern=APP_KEY, max_length=MAX_APP_KEY_LENGTH)]
ClientKey = Annotated[str, StringConstraints(pattern=PLAIN_TEXT, min_length=1, max_length=255)]
ProductType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
SiteUrl = Annotated[str, AfterValidator(_allowed_base_url)]
SharedSecret = Annotated[
    SecretStr,
    AfterValidator(_secret),
    # Characters, of which those outside ASCII are several bytes each.
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_SECRET_BYTES, "pattern": PLAIN_TEXT}),
]
ShortName = Annotated[str, StringConstraints(pattern=PLAIN_TEXT, max_length=255)]
LongName = Annotated[str, StringConstraints(pattern=PLAIN_TEXT, max_length=2048)]
OptionalShort = Annotated[ShortName | None, BeforeValidator(_absent_when_empty)]
OptionalLong = Annotated[LongName | None, BeforeValidator(_absent_when_empty)]


class LifecycleBody(BaseModel):
    """What every lifecycle body carries; the client key is opaque and may be a host name."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    key: AppKey
    client_key: ClientKey = Field(repr=False)
    product_type: ProductType
    base_url: SiteUrl = Field(repr=False)
    service_entitlement_number: OptionalShort = Field(default=None, repr=False)
    oauth_client_id: OptionalLong = Field(default=None, repr=False)
    installation_id: OptionalShort = Field(default=None, repr=False)
    entitlement_id: OptionalShort = Field(default=None, repr=False)
    entitlement_number: OptionalShort = Field(default=None, repr=False)


class Installed(LifecycleBody):
    """A site's present state: sent on install, upgrade, rename, rotation and after an import.

    Everything but ``client_key`` may differ from the last one.
    """

    shared_secret: SharedSecret
    event_type: Literal[EventType.INSTALLED]


class Uninstalled(LifecycleBody):
    """A site has removed the app; best effort, so its absence says nothing."""

    event_type: Literal[EventType.UNINSTALLED]


class Enabled(LifecycleBody):
    """A site's app may be used; follows an install or an upgrade only."""

    event_type: Literal[EventType.ENABLED]


class Disabled(LifecycleBody):
    """A site's app may not be used; can arrive after ``uninstalled``."""

    event_type: Literal[EventType.DISABLED]


AnyLifecycleBody = TypeVar("AnyLifecycleBody", bound=LifecycleBody)
AnyBody = TypeVar("AnyBody", bound=BaseModel)


def read_body(
    model: type[AnyLifecycleBody], raw: bytes, hosts: AllowedHosts | None = None
) -> AnyLifecycleBody:
    """Read one lifecycle body; ``hosts`` are Atlassian's own unless given.

    Raises:
        InvalidBody: not JSON, too large, a field missing or of the wrong
            shape, another event, or a base URL whose host is not allowed.
    """
    return read_json(model, raw, hosts)


def read_json(model: type[AnyBody], raw: bytes, context: object = None) -> AnyBody:
    """Read the body of any call of Atlassian's; ``context`` is for the model's own validators.

    A name that is given twice in one object is refused: of two values nobody
    can say which one another reader would have believed.

    Raises:
        InvalidBody: not JSON, too large, or not as the model wants it.
    """
    if len(raw) > MAX_BODY_BYTES:
        raise InvalidBody((("body", "too_large"),))
    try:
        body = model.model_validate_json(raw, context=context)
    except ValidationError as error:
        faults = tuple(
            (".".join(str(step) for step in fault["loc"]) or "body", fault["type"])
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        )
    else:
        if _names_are_unique(raw):
            return body
        faults = (("body", "ambiguous"),)
    # Raised out here so that no chain of exceptions leads back to the input.
    raise InvalidBody(faults)


def _names_are_unique(raw: bytes) -> bool:
    try:
        _STRICT_JSON.decode(raw.decode())
    except ValueError:
        return False
    return True


def _unique_names(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is given twice")


_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique_names)
