"""Forge at a remote: proof that a call comes from Forge, and the bodies of its lifecycle events.

A call carries a Forge invocation token: signed by Atlassian (RS256), for one app, and naming the
installation it comes from. The body is not signed; only its ids are bound to the token.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from connect.calls import Refusal, Refused, refusing
from connect.jwt import Algorithm, InvalidToken, Reason, find_bearer_token, parse, verify
from connect.keys import KeySource
from connect.lifecycle import OptionalShort, read_json

ISSUER = "forge/invocation-token"
APP_ARI = "ari:cloud:ecosystem::app/"
INSTALLATION_ARI = "ari:cloud:ecosystem::installation/"

_ID = r"[A-Za-z0-9_-]{1,64}"
_PRODUCT = r"[a-z][a-z0-9-]{0,31}"
_BARE_ID = re.compile(_ID)
_API_BASE_URL = re.compile(rf"https://[a-z0-9.-]{{1,253}}/ex/({_PRODUCT})/({_ID})/?")
_SITE_ARI = re.compile(rf"ari:cloud:({_PRODUCT})::site/({_ID})")


class ForgeEventType(StrEnum):
    """The lifecycle events that a trigger of the manifest may send to an endpoint."""

    INSTALLED = "avi:forge:installed:app"
    UPGRADED = "avi:forge:upgraded:app"
    UNINSTALLED = "avi:forge:uninstalled:app"


@dataclass(frozen=True, slots=True)
class ForgeSite:
    """The place of an installation: one product of one cloud."""

    product: str
    cloud_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call that Forge signed for one of our apps, all of it from the token.

    ``module_key`` is the manifest's key of the module that called: it tells a
    trigger from a page, and from a ``preUninstall``, whose body has no
    published form and need not be read. ``by_a_person`` says that somebody
    with an account caused the call; who stays in the token. ``environment``
    is PRODUCTION but for the developer's own installations.
    ``licence_active`` is None where Forge says nothing of a licence, as for a
    free app.
    """

    app_id: str
    installation_id: str = field(repr=False)
    site: ForgeSite | None
    environment: str
    module_key: str | None
    by_a_person: bool
    licence_active: bool | None


def installation_id_of(text: str) -> str | None:
    """Give the bare id of an installation that is named bare or as an ARI; None for other text.

    Forge's token and event name an installation in these two ways, and so does
    ``installationId`` in the lifecycle body of a Connect app that moves to Forge.
    """
    return _bare_id(text, INSTALLATION_ARI)


def _bare_id(text: str, prefix: str) -> str | None:
    bare = text.removeprefix(prefix)
    return bare if _BARE_ID.fullmatch(bare) else None


def _bare(prefix: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        bare = _bare_id(value, prefix) if isinstance(value, str) else None
        if bare is None:
            raise ValueError("no id")
        return bare

    return read


def _site(pattern: re.Pattern[str]) -> Callable[[Any], ForgeSite | None]:
    def read(value: Any) -> ForgeSite | None:
        if value is None:
            return None
        match = pattern.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("no site")
        return ForgeSite(product=match[1], cloud_id=match[2])

    return read


AppId = Annotated[str, BeforeValidator(_bare(APP_ARI))]
InstallationId = Annotated[str, BeforeValidator(_bare(INSTALLATION_ARI))]
SiteOfApi = Annotated[ForgeSite | None, BeforeValidator(_site(_API_BASE_URL))]
SiteOfEvent = Annotated[ForgeSite | None, BeforeValidator(_site(_SITE_ARI))]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class ForgeEvent(BaseModel):
    """A lifecycle event: what is kept of it names no person.

    ``upgraded`` comes for major versions only.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    event_type: ForgeEventType = Field(validation_alias="eventType")
    installation_id: InstallationId = Field(validation_alias="id", repr=False)
    app_id: AppId = Field(validation_alias=AliasPath("app", "id"))
    app_version: OptionalShort = Field(default=None, validation_alias=AliasPath("app", "version"))
    environment_id: OptionalShort = Field(
        default=None, validation_alias=AliasPath("environment", "id")
    )
    site: SiteOfEvent = Field(default=None, validation_alias="context")


def read_event(raw: bytes) -> ForgeEvent:
    """Read the body of a lifecycle event.

    Raises:
        connect.lifecycle.InvalidBody: not JSON, too large, another event, or a
            field missing or of the wrong shape.
    """
    return read_json(ForgeEvent, raw)


def check_event(invocation: Invocation, event: ForgeEvent, *, modules: Collection[str]) -> None:
    """Check that Forge itself sent this event, and of the installation that the token names.

    Whoever looks at the app's page, even without an account, can have a token
    of the same app and installation in the browser, and could otherwise say
    that the app is uninstalled. What tells Forge's call from theirs is the
    module: ``modules`` are the keys of the manifest's triggers for lifecycle
    events and of the endpoint they name, which no page should share.

    Raises:
        Refused: with status 403 for a call of another module or a person's,
            and for another installation or site; 400 for another app.
    """
    if invocation.module_key not in modules:
        raise Refused(Refusal.FOREIGN_MODULE)
    if invocation.by_a_person:
        raise Refused(Refusal.BY_A_PERSON)
    if event.app_id != invocation.app_id:
        raise Refused(Refusal.FOREIGN_APP)
    if event.installation_id != invocation.installation_id:
        raise Refused(Refusal.FOREIGN_INSTALLATION)
    if (
        event.site is not None
        and invocation.site is not None
        and event.site.cloud_id != invocation.site.cloud_id
    ):
        raise Refused(Refusal.FOREIGN_INSTALLATION)


class ForgeTokens:
    """The gate of every call that Forge makes to a remote of these apps.

    ``app_ids`` are the apps' ids as in their manifests, bare or as ARIs; a
    token for any other app is refused, whatever it says of itself. ``now`` is
    in seconds since 1970.
    """

    def __init__(
        self, keys: KeySource, app_ids: Collection[str], *, now: Callable[[], float] = time.time
    ) -> None:
        if not app_ids or isinstance(app_ids, str):
            raise ValueError("name the apps that calls must be addressed to")
        ids = [_bare_id(app_id, APP_ARI) for app_id in app_ids]
        self._app_ids = {APP_ARI + app_id: app_id for app_id in ids if app_id is not None}
        if None in ids:
            raise ValueError("an app id is the one of the manifest")
        self._keys = keys
        self._now = now

    async def verify(self, authorization: str | Iterable[str] | None) -> Invocation:
        """Check that Forge signed this call for one of our apps, before the body is read.

        ``authorization`` is every value of that header; it must bear one
        token, which is bound to no request and lives for less than a minute.
        It must have a ``jti``, but one that was seen before gets in again:
        Forge sends an event up to four times more until it is answered, so
        what a call brings about has to be the same however often it comes.

        Raises:
            Refused: with status 401, or 503 where the key could not be had.
        """
        with refusing():
            token = parse(find_bearer_token(authorization), Algorithm.RS256)
            if token.key_id is None:
                raise InvalidToken(Reason.KEY_ID)
            claims = verify(
                token, await self._keys.key(token.key_id), now=self._now(), issuer=ISSUER
            )
            return _invocation(self._app_id(claims.audiences), _read_claims(token.payload))

    def _app_id(self, audiences: tuple[str, ...]) -> str:
        app_id = self._app_ids.get(audiences[0]) if len(audiences) == 1 else None
        if app_id is None:
            raise InvalidToken(Reason.AUDIENCE)
        return app_id


class _Claims(BaseModel):
    """What a token of Forge's says beyond the claims that every token has."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)

    nbf: float
    jti: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    principal: Any = None
    app_id: AppId | None = Field(default=None, validation_alias=AliasPath("app", "id"))
    installation_id: InstallationId = Field(
        validation_alias=AliasChoices(
            AliasPath("app", "installationId"), AliasPath("app", "installation", "id")
        )
    )
    site: SiteOfApi = Field(
        default=None,
        validation_alias=AliasChoices(
            AliasPath("app", "apiBaseUrl"),
            AliasPath("app", "installation", "contexts", 0, "apiBaseUrl"),
        ),
    )
    environment: Key = Field(validation_alias=AliasPath("app", "environment", "type"))
    module_key: Key | None = Field(default=None, validation_alias=AliasPath("app", "module", "key"))
    licence_active: bool | None = Field(
        default=None, validation_alias=AliasPath("app", "license", "isActive")
    )


def _read_claims(payload: Mapping[str, Any]) -> _Claims:
    try:
        return _Claims.model_validate(payload)
    except ValidationError as error:
        missing = any(fault["type"] == "missing" for fault in error.errors(include_input=False))
    # Raised out here so that no chain of exceptions leads back to the token.
    raise InvalidToken(Reason.MISSING_CLAIM if missing else Reason.CLAIM_SHAPE)


def _invocation(app_id: str, claims: _Claims) -> Invocation:
    if claims.app_id not in {None, app_id}:
        raise InvalidToken(Reason.AUDIENCE)
    return Invocation(
        app_id=app_id,
        installation_id=claims.installation_id,
        site=claims.site,
        environment=claims.environment,
        module_key=claims.module_key,
        by_a_person=claims.principal is not None,
        licence_active=claims.licence_active,
    )
