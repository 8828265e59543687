"""The app's descriptor, atlassian-connect.json, as bytes that change only when the app does.

The Marketplace polls it and makes a new version of the app out of every change, so its form is
fixed here down to the last space.
"""

import json
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from connect.hosts import is_private_enough, parse_base_url
from connect.lifecycle import AppKey

CONTENT_TYPE = "application/json; charset=UTF-8"
MAX_BASE_URL_LENGTH = 200


class Scope(StrEnum):
    """What an app may do at a customer's site."""

    NONE = "NONE"
    READ = "READ"
    WRITE = "WRITE"
    DELETE = "DELETE"
    PROJECT_ADMIN = "PROJECT_ADMIN"
    SPACE_ADMIN = "SPACE_ADMIN"
    ADMIN = "ADMIN"
    ACT_AS_USER = "ACT_AS_USER"
    ACCESS_EMAIL_ADDRESSES = "ACCESS_EMAIL_ADDRESSES"


def _reachable(url: str) -> str:
    base = parse_base_url(url)
    if base is None or not is_private_enough(base):
        raise ValueError("https, or this machine")
    return str(base)


BaseUrlText = Annotated[
    str, StringConstraints(max_length=MAX_BASE_URL_LENGTH), AfterValidator(_reachable)
]
RelativeUri = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]*$", max_length=200)]


class Vendor(BaseModel):
    """Who makes the app."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    url: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=200)]


class Lifecycle(BaseModel):
    """Where the four lifecycle calls go, relative to the base URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    installed: RelativeUri = "/lifecycle/installed"
    uninstalled: RelativeUri = "/lifecycle/uninstalled"
    enabled: RelativeUri = "/lifecycle/enabled"
    disabled: RelativeUri = "/lifecycle/disabled"


class GeneralPage(BaseModel):
    """A page of the app that the product's menu leads to, shown in a frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9-]+$", max_length=80)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    url: RelativeUri

    def to_module(self) -> dict[str, Any]:
        """Give it as it stands among the modules."""
        return {"key": self.key, "name": {"value": self.name}, "url": self.url}


class AdminPage(GeneralPage):
    """A page of the app among the site's administration, for whoever administers it alone.

    The product signs the page's address for nobody else.
    """

    def to_module(self) -> dict[str, Any]:
        """Give it as it stands among the modules."""
        return {**super().to_module(), "conditions": [{"condition": "user_is_admin"}]}


_AnyPage = TypeVar("_AnyPage", bound=GeneralPage)


def _each_once(pages: tuple[_AnyPage, ...]) -> tuple[_AnyPage, ...]:
    if len({page.key for page in pages}) != len(pages):
        raise ValueError("two pages have the same key")
    return pages


class Descriptor(BaseModel):
    """One app as the Marketplace knows it; lengths and patterns are those of Atlassian's schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: AppKey
    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    base_url: BaseUrlText
    vendor: Vendor
    description: Annotated[str, StringConstraints(max_length=1400)] | None = None
    lifecycle: Lifecycle = Lifecycle()
    general_pages: Annotated[tuple[GeneralPage, ...], AfterValidator(_each_once)] = ()
    admin_pages: Annotated[tuple[AdminPage, ...], AfterValidator(_each_once)] = ()
    scopes: tuple[Scope, ...] = (Scope.READ,)
    enable_licensing: bool = True
    api_version: Annotated[int, Field(ge=1)] = 1

    def to_json(self) -> bytes:
        """Give the file to serve: equal descriptors give equal bytes, whatever made them."""
        document = {
            "key": self.key,
            "name": self.name,
            "description": self.description,
            "baseUrl": self.base_url,
            "vendor": self.vendor.model_dump(),
            "authentication": {"type": "jwt"},
            "lifecycle": self.lifecycle.model_dump(),
            "scopes": sorted(set(self.scopes)),
            "apiVersion": self.api_version,
            "apiMigrations": {"context-qsh": True, "signed-install": True},
            "enableLicensing": self.enable_licensing,
            "modules": self._modules(),
        }
        present = {name: value for name, value in document.items() if value is not None}
        return (json.dumps(present, indent=2, ensure_ascii=False) + "\n").encode()

    def _modules(self) -> dict[str, Any]:
        pages = {"adminPages": self.admin_pages, "generalPages": self.general_pages}
        return {kind: [page.to_module() for page in some] for kind, some in pages.items() if some}

    @model_validator(mode="after")
    def _no_key_twice(self) -> Self:
        _each_once((*self.general_pages, *self.admin_pages))
        return self
