"""Calls from an app to a customer's site: is the app still there, and is it paid for?

Whatever a site answers is one value of a closed set. Sites are renamed, suspended and deleted, and
their edge answers for them when they are gone; that is the subject here, not an error.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import httpx2
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from connect import jwt
from connect.answers import UNPACKED, TooLarge, read_at_most, retry_after
from connect.hosts import BaseUrl, is_private_enough, parse_base_url
from connect.qsh import query_string_hash

TOKEN_SECONDS = 180
MAX_ANSWER_BYTES = 256 * 1024

_ADDON_PATH = "/rest/atlassian-connect/1/addons"
_TENANT_INFO_PATH = "/_edge/tenant_info"
_CONFLUENCE = "/wiki"
_LOST = frozenset({401, 403, 404, 410})
_CLOUD_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _absent_when_empty(value: Any) -> Any:
    return None if value == "" else value


_Number = Annotated[
    str | None, BeforeValidator(_absent_when_empty), Field(default=None, max_length=255, repr=False)
]


class Licence(BaseModel):
    """What a site says of the app's licence.

    The number that is called ``serviceEntitlementNumber`` in the body of
    ``installed`` is called ``supportEntitlementNumber`` here. Atlassian will
    drop it; the entitlement's id and number take its place.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    active: StrictBool
    evaluation: StrictBool = False
    type: Annotated[str | None, Field(max_length=80)] = None
    support_entitlement_number: _Number
    entitlement_id: _Number
    entitlement_number: _Number


class Unknown(StrEnum):
    """Why an answer says nothing about access: safe to log and to show."""

    NO_CONNECTION = "no connection"
    TIMEOUT = "timeout"
    REDIRECT = "redirect"
    STATUS = "unexpected status"
    TOO_LARGE = "too large"
    FORM = "unexpected form"
    ANOTHER_APP = "another app"


@dataclass(frozen=True, slots=True)
class Reached:
    """The site has the app. A free app has no licence; ``state`` is the site's word (``ENABLED``)."""

    licence: Licence | None
    state: str | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The site says no: 401, 403, 404 or 410.

    One such answer may be a passing fault, of ours too (a secret that was
    replaced, a clock that is wrong), so only several over days mean a loss.
    """

    status: int


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nothing was learnt, and the same question may be asked again.

    A name that does not resolve belongs here: a deleted site can end so, but
    a fault of our own resolver looks the same, and would look so for every
    customer at once.
    """

    reason: Unknown


@dataclass(frozen=True, slots=True)
class Throttled:
    """The site asks not to be asked before ``retry_after`` has passed."""

    retry_after: timedelta


Access: TypeAlias = Reached | Lost | Unclear | Throttled


class _Addon(BaseModel):
    """The licence endpoint's body; its ``host.contacts`` are people and stay unread."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    key: str
    state: Annotated[str | None, Field(max_length=80)] = None
    license: Licence | None = None


class _TenantInfo(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    cloud_id: Annotated[str, Field(alias="cloudId")]


class ProductClient:
    """Asks customers' sites. ``now`` is in seconds since 1970.

    Redirects are not followed, no cookie of one site reaches another, and
    neither the secret nor the token is kept or shown.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        timeout_seconds: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._timeout_seconds = timeout_seconds
        self._now = now

    async def licence(self, base_url: str, app_key: str, secret: str) -> Access:
        """Ask a site for the app and its licence, in the app's name.

        ``base_url`` is the site's as it came with ``installed``; Confluence's
        ends in ``/wiki``.

        Raises:
            ValueError: the base URL is neither https nor this machine.
        """
        site = _site(base_url)
        path = f"{site.path}{_ADDON_PATH}/{quote(app_key, safe='')}"
        token = app_token(app_key, secret, "GET", path, now=self._now(), base_path=site.path)
        answer = await self._get(site, path, {"Authorization": f"JWT {token}"})
        return _access(answer, app_key) if isinstance(answer, bytes) else answer

    async def cloud_id(self, base_url: str) -> str | Unclear | Throttled | None:
        """Ask a site for its cloud id, a lower-case UUID; None where the site says it has none.

        The question carries no token: anyone may ask it.

        Raises:
            ValueError: the base URL is neither https nor this machine.
        """
        site = _site(base_url)
        path = site.path.removesuffix(_CONFLUENCE) + _TENANT_INFO_PATH
        answer = await self._get(site, path, {})
        match answer:
            case Lost():
                return None
            case bytes():
                return _cloud_id(answer)
            case _:
                return answer

    async def _get(
        self, site: BaseUrl, path: str, headers: Mapping[str, str]
    ) -> bytes | Lost | Unclear | Throttled:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._answer(f"{site.scheme}://{site.authority}{path}", headers)
        except (TimeoutError, httpx2.TimeoutException):
            return Unclear(Unknown.TIMEOUT)
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return Unclear(Unknown.NO_CONNECTION)
        except TooLarge:
            return Unclear(Unknown.TOO_LARGE)

    async def _answer(
        self, url: str, headers: Mapping[str, str]
    ) -> bytes | Lost | Unclear | Throttled:
        request = self._http.build_request(
            "GET",
            url,
            headers={"Accept": "application/json", **UNPACKED, **headers},
        )
        request.headers.pop("Cookie", None)  # sites share a domain, and are not to share this
        response = await self._http.send(request, stream=True, follow_redirects=False)
        try:
            if response.status_code == httpx2.codes.OK:
                return await read_at_most(response.aiter_raw(), MAX_ANSWER_BYTES)
            return self._no_answer(response)
        finally:
            await response.aclose()

    def _no_answer(self, response: httpx2.Response) -> Lost | Unclear | Throttled:
        if response.status_code in _LOST:
            return Lost(response.status_code)
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            return Throttled(retry_after(response.headers.get("Retry-After"), self._now()))
        return Unclear(Unknown.REDIRECT if response.is_redirect else Unknown.STATUS)


def app_token(
    app_key: str,
    secret: str,
    method: str,
    raw_path: str,
    raw_query: str = "",
    *,
    now: float,
    base_path: str = "",
) -> str:
    """Make the token of one request from the app to a site; good for three minutes.

    ``base_path`` is the path of the site's base URL, which is not hashed:
    ``/wiki`` for Confluence.
    """
    claims = {
        "iss": app_key,
        "iat": int(now),
        "exp": int(now) + TOKEN_SECONDS,
        "qsh": query_string_hash(method, raw_path, raw_query, base_path),
    }
    return jwt.sign(claims, secret.encode())


def _site(base_url: str) -> BaseUrl:
    site = parse_base_url(base_url)
    if site is None or not is_private_enough(site):
        raise ValueError("a site must be reached by https, or be this machine")
    return site


def _access(body: bytes, app_key: str) -> Reached | Unclear:
    try:
        addon = _Addon.model_validate_json(body)
    except ValidationError:
        return Unclear(Unknown.FORM)
    if addon.key != app_key:
        return Unclear(Unknown.ANOTHER_APP)
    return Reached(addon.license, addon.state)


def _cloud_id(body: bytes) -> str | Unclear:
    try:
        cloud_id = _TenantInfo.model_validate_json(body).cloud_id.lower()
    except ValidationError:
        return Unclear(Unknown.FORM)
    return cloud_id if _CLOUD_ID.fullmatch(cloud_id) else Unclear(Unknown.FORM)
