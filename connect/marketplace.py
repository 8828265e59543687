"""The Marketplace's licence report: every licence of a vendor's apps, with its people or without.

The report is asked for as an export, and page by page where exports are refused. Contacts stand in
every row that the Marketplace sends; they are read only where they are asked for.
"""

import asyncio
import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

import httpx2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from connect.answers import UNPACKED, TooLarge, read_at_most, retry_after
from connect.hosts import is_private_enough, parse_base_url
from connect.json_arrays import ArrayReader, BrokenArray

PRODUCTION = "https://api.atlassian.com/marketplace"
"""Where the reporting API is; ``https://marketplace.atlassian.com`` serves it too."""

PAGE_ROWS = 50
"""What a page holds at most; a larger wish is silently cut to it."""

EXPORT_CEILING = timedelta(minutes=30)
"""How long an export may take to get ready."""

REFUSED_PAUSE = timedelta(hours=1)
"""How long the Marketplace is left alone after it refused a report."""

MAX_ROW_CHARS = 256 * 1024
MAX_ANSWER_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 128 * 1024

_TIMEOUT_SECONDS: Final = 60.0
_RETRY_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_RETRY_WAIT: Final = timedelta(minutes=5)
_FIRST_POLL_WAIT: Final = 2.0
_LONGEST_POLL_WAIT: Final = 60.0
_MAX_PERSON_CHARS: Final = 320
_ERASED: Final = "RTBF"
_DEVELOPER_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_NO_EXPORT = frozenset({404, 405, 501})


class Hosting(StrEnum):
    """Where the customer runs the app."""

    CLOUD = "cloud"
    DATA_CENTER = "data center"
    SERVER = "server"


class LicenceStatus(StrEnum):
    """Whether the licence may be used."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    CANCELLED = "cancelled"


def _present(value: Any) -> Any:
    """Read as absent what the Marketplace writes for it: nothing, or the word ``null``."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return None if text.lower() in {"", "null"} else text


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("control characters")
    return value


_Text = Annotated[
    Annotated[str, Field(max_length=255), AfterValidator(_printable)] | None,
    BeforeValidator(_present),
]
_Date = Annotated[date | None, BeforeValidator(_present)]


class LicenceRow(BaseModel):
    """One licence, with what it takes to find its tenant; no row names a person.

    Cloud ids are in lower case. Rows of Server have no cloud id, and numbers
    carry ``SEN-`` in some places and not in others.
    """

    model_config = ConfigDict(
        validate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    addon_key: Annotated[
        str, BeforeValidator(_present), Field(alias="addonKey", min_length=1, max_length=255)
    ]
    status: Annotated[LicenceStatus, BeforeValidator(_present), BeforeValidator(_lower)]
    hosting: Annotated[Hosting | None, BeforeValidator(_present), BeforeValidator(_lower)] = None
    licence_type: _Text = Field(default=None, alias="licenseType")
    last_updated: _Date = Field(default=None, alias="lastUpdated")
    maintenance_start_date: _Date = Field(default=None, alias="maintenanceStartDate")
    maintenance_end_date: _Date = Field(default=None, alias="maintenanceEndDate")
    addon_licence_id: _Text = Field(default=None, alias="addonLicenseId", repr=False)
    licence_id: _Text = Field(default=None, alias="licenseId", repr=False)
    app_entitlement_id: _Text = Field(default=None, alias="appEntitlementId", repr=False)
    app_entitlement_number: _Text = Field(default=None, alias="appEntitlementNumber", repr=False)
    cloud_id: Annotated[_Text, AfterValidator(_lower)] = Field(
        default=None, alias="cloudId", repr=False
    )
    cloud_site_hostname: Annotated[_Text, AfterValidator(_lower)] = Field(
        default=None, alias="cloudSiteHostname", repr=False
    )


class NoPerson(StrEnum):
    """Why a row names nobody where a person could stand."""

    ABSENT = "absent"
    ERASED = "erased"
    """Atlassian has forgotten them at their wish, and older copies must go (``RTBF``)."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a row names: text on one line each, the name may be empty; no address is checked."""

    name: str = field(repr=False)
    email: str = field(repr=False)


Named: TypeAlias = Person | NoPerson


def _named(value: Any) -> Named:
    """Read a person, whatever stands there; addresses, telephone numbers and the rest are left out."""
    if _present(value) is None:
        return NoPerson.ABSENT
    if not isinstance(value, Mapping):
        return NoPerson.UNREADABLE
    email, name = _present(value.get("email")), _present(value.get("name")) or ""
    if _ERASED in (email, name):
        return NoPerson.ERASED
    if email is None:
        return NoPerson.ABSENT
    fits = all(_is_short_line(text) for text in (email, name))
    return Person(name, email) if fits else NoPerson.UNREADABLE


def _is_short_line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_PERSON_CHARS and value.isprintable()


def _known(value: Any) -> Any:
    text = _present(value)
    return None if isinstance(text, str) and text.lower() in {"na", "pending"} else text


_Named = Annotated[Any, BeforeValidator(_named)]
_Known = Annotated[_Text, BeforeValidator(_known)]


class _Details(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class _ContactDetails(_Details):
    country: _Text = None
    region: _Text = None
    technical: _Named = Field(default=NoPerson.ABSENT, alias="technicalContact")
    billing: _Named = Field(default=NoPerson.ABSENT, alias="billingContact")


class _PartnerDetails(_Details):
    billing: _Named = Field(default=NoPerson.ABSENT, alias="billingContact")


class PeopleRow(LicenceRow):
    """One licence with the people that it names, and what tells how they are written to.

    Of a person there is a name and an address, of where the customer is the
    country and the region, and nothing else.
    """

    contact_details: Annotated[_ContactDetails | None, BeforeValidator(_present)] = Field(
        default=None, alias="contactDetails", repr=False
    )
    partner_details: Annotated[_PartnerDetails | None, BeforeValidator(_present)] = Field(
        default=None, alias="partnerDetails", repr=False
    )
    parent_product_name: _Known = Field(default=None, alias="parentProductName")
    parent_product_edition: _Known = Field(default=None, alias="parentProductEdition")

    @property
    def technical(self) -> Named:
        """Who runs the app."""
        found: Named = self.contact_details.technical if self.contact_details else NoPerson.ABSENT
        return found

    @property
    def billing(self) -> Named:
        """Who pays for it, often a reseller."""
        found: Named = self.contact_details.billing if self.contact_details else NoPerson.ABSENT
        return found

    @property
    def partner(self) -> Named:
        """Who sells the licence to the customer."""
        found: Named = self.partner_details.billing if self.partner_details else NoPerson.ABSENT
        return found

    @property
    def country(self) -> str | None:
        """Where the customer is, by name or by code."""
        return self.contact_details.country if self.contact_details else None

    @property
    def region(self) -> str | None:
        """In which part of the world that is."""
        return self.contact_details.region if self.contact_details else None


_Row = TypeVar("_Row", bound=LicenceRow)


@dataclass(frozen=True, slots=True)
class Batch(Generic[_Row]):
    """Some rows of the report, and how many beside them could not be read."""

    rows: tuple[_Row, ...]
    unreadable: int


LicenceBatch: TypeAlias = Batch[LicenceRow]
PeopleBatch: TypeAlias = Batch[PeopleRow]


class Trouble(StrEnum):
    """Why a report could not be had: safe to log and to show."""

    NO_CONNECTION = "no connection"
    SERVER_FAULT = "server fault"
    THROTTLED = "throttled"
    EXPORT_TOO_SLOW = "export too slow"
    UNEXPECTED_STATUS = "unexpected status"
    UNEXPECTED_FORM = "unexpected form"
    BROKEN = "broken report"
    SAME_PAGE_TWICE = "same page twice"


class ReportAway(Exception):  # noqa: N818 - names what is so
    """The report, or the rest of it, could not be had; the same question may be asked again.

    What came before is true but not the whole, so nobody may be taken for
    gone by it. ``retry_after`` is how long the Marketplace wants to be left
    alone, where it said so.
    """

    def __init__(self, trouble: Trouble, retry_after: timedelta | None = None) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble
        self.retry_after = retry_after


class ReportRefused(Exception):  # noqa: N818 - names what is so
    """The Marketplace does not give this account this report; a person must look at both."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def pause_after(failure: Exception) -> timedelta:
    """How long to leave the Marketplace alone after a reading that ended so."""
    if isinstance(failure, ReportRefused):
        return REFUSED_PAUSE
    asked = failure.retry_after if isinstance(failure, ReportAway) else None
    return asked or timedelta()


class _Export(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    status: str | None = None


class _ExportAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    export: _Export


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    rows: Annotated[list[Any], Field(alias="licenses")]


_AnyAnswer = TypeVar("_AnyAnswer", bound=BaseModel)


class MarketplaceReports:
    """Reads the reports of one developer space, as the vendor's account with its API token.

    ``sleep`` waits between attempts and polls, ``now`` is in seconds since
    1970. No link of an answer is followed and no redirect, so the token
    reaches ``base_url`` alone.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        developer_id: str,
        account: str,
        token: SecretStr,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        base = parse_base_url(base_url)
        if base is None or not is_private_enough(base):
            raise ValueError("the Marketplace must be reached by https, or be this machine")
        if _DEVELOPER_ID.fullmatch(developer_id) is None:
            raise ValueError("a developer id is letters, digits and hyphens")
        self._licences_url = f"{base}/rest/3/reporting/developer-space/{developer_id}/licenses"
        self._http = http
        self._auth = httpx2.BasicAuth(account, token.get_secret_value())
        self._sleep = sleep
        self._now = now

    def licences(self, last_updated: date | None = None) -> AsyncGenerator[LicenceBatch, None]:
        """Give every licence, or those that changed on or after a day, in batches.

        Memory holds a batch, never the report. A row that cannot be read is
        counted and left out, so a report with such rows proves no absence.
        Nor does any report name every licence: the Marketplace leaves out
        those of its government and isolated clouds unless they are asked for.
        Page by page, a row can also be missed while others change.

        Raises:
            ReportAway: at any batch; what is missing then is unknown.
            ReportRefused: with the status that says so.
        """
        return self._batches(LicenceRow, last_updated)

    def people(self, last_updated: date | None = None) -> AsyncGenerator[PeopleBatch, None]:
        """Give the same with the people of each licence; raises likewise."""
        return self._batches(PeopleRow, last_updated)

    async def _batches(
        self, model: type[_Row], last_updated: date | None
    ) -> AsyncGenerator[Batch[_Row], None]:
        since = {} if last_updated is None else {"lastUpdated": last_updated.isoformat()}
        export_id = await self._finished_export(since)
        pieces = self._pages(since) if export_id is None else self._download(export_id)
        async with aclosing(pieces):
            async for piece in pieces:
                if piece:
                    yield _batch(model, piece)

    async def _finished_export(self, since: Mapping[str, str]) -> str | None:
        """Start an export and wait for its end; None where there is none to be had.

        Its address is made from its id: the links of the answer are relative
        to different places, and some are those of an older API.
        """
        started = await self._start_export(since)
        if started is None:
            return None
        for wait in _poll_waits():
            export = await self._read(_ExportAnswer, f"/async/export/{started}/status")
            match export.export.status:
                case "COMPLETED":
                    return started
                case "FAILED":
                    return None
            await self._sleep(wait)
        raise ReportAway(Trouble.EXPORT_TOO_SLOW)

    async def _start_export(self, since: Mapping[str, str]) -> str | None:
        query = {"accept": "json", **since}
        async with self._answer("POST", "/async/export", query) as response:
            if response.status_code in _NO_EXPORT:
                return None
            return (await _parsed(_ExportAnswer, response)).export.id

    async def _download(self, export_id: str) -> AsyncGenerator[list[Any], None]:
        reader = ArrayReader(MAX_ROW_CHARS)
        async with self._answer("GET", f"/async/export/{export_id}", {}) as response:
            _check_status(response)
            async for raw in response.aiter_bytes(PIECE_BYTES):
                yield reader.feed(raw)
            reader.close()

    async def _pages(self, since: Mapping[str, str]) -> AsyncGenerator[list[Any], None]:
        """Go on by what came, not by what was asked for, until a page is empty."""
        offset, previous = 0, list[Any]()
        while True:
            query = {"limit": str(PAGE_ROWS), "offset": str(offset), "sortBy": "licenseId"}
            rows = (await self._read(_Page, "", {**query, **since})).rows
            if not rows:
                return
            if rows == previous:
                raise ReportAway(Trouble.SAME_PAGE_TWICE)
            yield rows
            offset, previous = offset + len(rows), rows

    async def _read(
        self, model: type[_AnyAnswer], path: str, query: Mapping[str, str] | None = None
    ) -> _AnyAnswer:
        async with self._answer("GET", path, query or {}) as response:
            return await _parsed(model, response)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, query: Mapping[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """Give an answer that is neither throttled nor a server's fault, not read yet."""
        response = await self._patiently(method, path, query)
        try:
            yield response
        except httpx2.HTTPError:
            raise ReportAway(Trouble.NO_CONNECTION) from None
        except (BrokenArray, TooLarge):
            raise ReportAway(Trouble.BROKEN) from None
        finally:
            await response.aclose()

    async def _patiently(self, method: str, path: str, query: Mapping[str, str]) -> httpx2.Response:
        for wait in (*_RETRY_WAITS, None):
            try:
                return await self._send(method, path, query)
            except ReportAway as away:
                asked = away.retry_after or timedelta()
                if wait is None or asked > _LONGEST_RETRY_WAIT:
                    raise
                await self._sleep(max(wait, asked.total_seconds()))
        raise AssertionError("unreachable: the last attempt raises")

    async def _send(self, method: str, path: str, query: Mapping[str, str]) -> httpx2.Response:
        request = self._http.build_request(
            method,
            self._licences_url + path,
            params=query,
            headers=UNPACKED,
            timeout=_TIMEOUT_SECONDS,
        )
        try:
            response = await self._http.send(
                request, auth=self._auth, stream=True, follow_redirects=False
            )
        except httpx2.HTTPError:
            raise ReportAway(Trouble.NO_CONNECTION) from None
        fault = self._passing_fault(response)
        if fault is not None:
            await response.aclose()
            raise fault
        return response

    def _passing_fault(self, response: httpx2.Response) -> ReportAway | None:
        after = response.headers.get("Retry-After")
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            return ReportAway(Trouble.THROTTLED, retry_after(after, self._now()))
        if response.is_server_error and response.status_code not in _NO_EXPORT:
            asked = None if after is None else retry_after(after, self._now())
            return ReportAway(Trouble.SERVER_FAULT, asked)
        return None


def _poll_waits() -> Iterator[float]:
    wait, left = _FIRST_POLL_WAIT, EXPORT_CEILING.total_seconds()
    while left > 0:
        yield min(wait, left)
        left -= wait
        wait = min(2 * wait, _LONGEST_POLL_WAIT)


def _check_status(response: httpx2.Response) -> None:
    if response.is_client_error:
        raise ReportRefused(response.status_code)
    if not response.is_success:
        raise ReportAway(Trouble.UNEXPECTED_STATUS)


async def _parsed(model: type[_AnyAnswer], response: httpx2.Response) -> _AnyAnswer:
    _check_status(response)
    body = await read_at_most(response.aiter_raw(), MAX_ANSWER_BYTES)
    try:
        return model.model_validate_json(body)
    except ValidationError:
        raise ReportAway(Trouble.UNEXPECTED_FORM) from None


@dataclass(frozen=True, slots=True)
class ReportSource:
    """Where the report is, and as whom it is asked for, over a client of its own for each reading.

    ``sleep`` waits between attempts.
    """

    url: str
    developer_id: str
    account: str = field(repr=False)
    token_file: Path
    client: Callable[[], httpx2.AsyncClient] = field(repr=False)
    sleep: Callable[[float], Awaitable[object]] = field(default=asyncio.sleep, repr=False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[MarketplaceReports]:
        """Give a client for one reading, with the token as it is in the file now."""
        token = await asyncio.to_thread(self.token_file.read_text, "utf-8")
        async with self.client() as http:
            yield MarketplaceReports(
                http,
                self.url,
                self.developer_id,
                self.account,
                SecretStr(token.strip()),
                sleep=self.sleep,
            )


def _batch(model: type[_Row], piece: Sequence[Any]) -> Batch[_Row]:
    rows = tuple(row for raw in piece if (row := _row(model, raw)) is not None)
    return Batch(rows, unreadable=len(piece) - len(rows))


def _row(model: type[_Row], raw: Any) -> _Row | None:
    try:
        return model.model_validate(raw)
    except ValidationError:
        return None
