"""A vendor's own service desk in Jira: finds tickets by a licence number, and erases them.

Whatever the desk answers is one value of a closed set. What a ticket says is never kept: of a search
the ids and licence numbers are read, of a ticket only whether anything is left in it.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import httpx2
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from connect.answers import UNPACKED, TooLarge, read_at_most, retry_after
from connect.hosts import is_private_enough, parse_base_url

MAX_ANSWER_BYTES = 4 * 1024 * 1024
PAGE_TICKETS = 50
"""How many tickets a page of a search holds at most; one with fewer need not be the last."""

ERASED_SUMMARY = "Erased"
"""The summary of a ticket whose people were erased: Jira demands one."""

_API: Final = "/rest/api/3"
_COMMENTS_A_PAGE: Final = 50
_PEOPLE_FIELDS: Final = "summary,description,environment,reporter,attachment"
_PROJECT = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_FIELD = re.compile(r"customfield_([0-9]{1,15})")
_NUMBER = re.compile(r"[A-Za-z0-9#-]{1,64}")
_NUMBERS = re.compile(r"[A-Za-z0-9#-]+")
_SEN: Final = "SEN-"

TO_ERASE_TICKETS = frozenset({"BROWSE_PROJECTS", "DELETE_ISSUES"})
"""The project permissions that ``erase_ticket`` and a search need."""

TO_ERASE_PEOPLE = frozenset(
    {
        "BROWSE_PROJECTS",
        "EDIT_ISSUES",
        "MODIFY_REPORTER",
        "DELETE_ALL_ATTACHMENTS",
        "DELETE_ALL_COMMENTS",
    }
)
"""The project permissions that ``erase_people`` and a search need."""


class Trouble(StrEnum):
    """Why the desk gave no answer: safe to log and to show."""

    NO_CONNECTION = "no connection"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    SERVER_FAULT = "server fault"
    REDIRECT = "redirect"
    TOO_LARGE = "too large"
    FORM = "unexpected form"
    SAME_PAGE_TWICE = "same page twice"
    COMMENTS_STAY = "comments stay"


@dataclass(frozen=True, slots=True)
class Away:
    """Nothing was learnt, or not all was done; the same may be asked again.

    ``retry_after`` is how long the desk wants to be left alone, where it said so.
    """

    trouble: Trouble
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The desk does not let this account do this; a person must look at both."""

    status: int


class Erasure(StrEnum):
    """What erasing found."""

    ERASED = "erased"
    """There was something, and it is gone now."""
    NOTHING_LEFT = "nothing left"
    """Nothing was there to erase: somebody was here before."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket, by Jira's own id, with the licence numbers that its field names."""

    ticket_id: str
    licence_numbers: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TicketPage:
    """Some of the tickets that were looked for; ``next_page`` is None on the last page alone."""

    tickets: tuple[Ticket, ...]
    next_page: str | None = field(repr=False)


NoAnswer: TypeAlias = Away | Refused


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


_Id = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]


class _Found(_Answer):
    id: _Id
    fields: dict[str, Any]


class _Search(_Answer):
    issues: tuple[_Found, ...]
    next_page: Annotated[str | None, Field(alias="nextPageToken", max_length=4096)] = None


class _Permission(_Answer):
    held: Annotated[bool, Field(alias="havePermission")]


class _Permissions(_Answer):
    permissions: dict[str, _Permission]


class _Part(_Answer):
    id: _Id


def _is_there(value: Any) -> bool:
    return value is not None


class _People(_Answer):
    summary: str | None = None
    description: Annotated[bool, BeforeValidator(_is_there)] = False
    environment: Annotated[bool, BeforeValidator(_is_there)] = False
    reporter: Annotated[bool, BeforeValidator(_is_there)] = False
    attachment: tuple[_Part, ...] = ()

    @property
    def say_nothing(self) -> bool:
        filled = self.description or self.environment or self.reporter
        return self.summary == ERASED_SUMMARY and not filled


class _Issue(_Answer):
    fields: _People


class _Comments(_Answer):
    comments: tuple[_Part, ...]


_AnyAnswer = TypeVar("_AnyAnswer", bound=BaseModel)
_T = TypeVar("_T")


class _NoAnswerError(Exception):
    def __init__(self, why: NoAnswer) -> None:
        super().__init__()
        self.why = why


class ServiceDesk:
    """The tickets of one project, as an account of the vendor's with its API token.

    ``licence_field`` is the custom field that names the licence, a text of one
    line, as ``customfield_10050``. No redirect is followed, so the token
    reaches ``base_url`` alone. Each call takes ``timeout_seconds`` at most; what
    it did until then stays done.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        project: str,
        *,
        licence_field: str,
        account: str,
        token: SecretStr,
        timeout_seconds: float = 60.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        base = parse_base_url(base_url)
        if base is None or not is_private_enough(base):
            raise ValueError("the service desk must be reached by https, or be this machine")
        if _PROJECT.fullmatch(project) is None:
            raise ValueError("a project key is capital letters, digits and underscores")
        named = _FIELD.fullmatch(licence_field)
        if named is None:
            raise ValueError("the licence's field is named by its id, as customfield_10050")
        self._url = f"{base}{_API}"
        self._project = project
        self._licence_field = licence_field
        self._field_number = named[1]
        self._http = http
        self._auth = httpx2.BasicAuth(account, token.get_secret_value())
        self._timeout_seconds = timeout_seconds
        self._now = now

    async def missing_permissions(self, needed: Collection[str]) -> frozenset[str] | NoAnswer:
        """Say which of these project permissions the account lacks.

        Ask before a search is believed: what an account may not see, Jira
        leaves out of its answers without a word.
        """
        return await self._within(self._missing(needed))

    async def find(self, licence_number: str, page: str | None = None) -> TicketPage | NoAnswer:
        """Give a page of the tickets whose field names this licence, with or without ``SEN-``.

        The search itself is by words; what it finds besides is left out here.
        It may lag behind by seconds, and name a ticket that is gone already.

        Raises:
            ValueError: no licence has such a number.
        """
        if _NUMBER.fullmatch(licence_number) is None or not plain_number(licence_number):
            raise ValueError("a licence number is letters, digits, # and hyphens")
        return await self._within(self._find(plain_number(licence_number), page))

    async def erase_ticket(self, ticket_id: str) -> Erasure | NoAnswer:
        """Delete a ticket with all that hangs on it: comments, attachments, history, subtasks."""
        return await self._within(self._erase_ticket(ticket_id))

    async def erase_people(self, ticket_id: str) -> Erasure | NoAnswer:
        """Delete a ticket's attachments and comments; empty its texts and its reporter.

        Jira's history of the ticket keeps what these fields held before: only
        ``erase_ticket``, or a person in Jira, takes that away.
        """
        return await self._within(self._erase_people(ticket_id))

    async def _within(self, work: Awaitable[_T]) -> _T | NoAnswer:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await work
        except _NoAnswerError as failed:
            return failed.why
        except (TimeoutError, httpx2.TimeoutException):
            return Away(Trouble.TIMEOUT)
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return Away(Trouble.NO_CONNECTION)
        except TooLarge:
            return Away(Trouble.TOO_LARGE)

    async def _missing(self, needed: Collection[str]) -> frozenset[str]:
        query = {"projectKey": self._project, "permissions": ",".join(sorted(needed))}
        told = await self._read(_Permissions, "GET", "/mypermissions", query=query)
        held = {name for name, permission in told.permissions.items() if permission.held}
        return frozenset(needed) - held

    async def _find(self, number: str, page: str | None) -> TicketPage:
        # Text fields know no "=": a phrase in quotes of its own comes nearest.
        jql = (
            f'project = "{self._project}" AND cf[{self._field_number}] ~ "\\"{number}\\""'
            " ORDER BY created ASC"
        )
        question: dict[str, Any] = {
            "jql": jql,
            "fields": [self._licence_field],
            "maxResults": PAGE_TICKETS,
        }
        if page is not None:
            question["nextPageToken"] = page
        answer = await self._read(_Search, "POST", "/search/jql", body=question)
        if page is not None and answer.next_page == page:
            raise _NoAnswerError(Away(Trouble.SAME_PAGE_TWICE))
        tickets = (Ticket(each.id, self._numbers_of(each)) for each in answer.issues)
        return TicketPage(
            tuple(each for each in tickets if number in each.licence_numbers), answer.next_page
        )

    def _numbers_of(self, found: _Found) -> frozenset[str]:
        value = found.fields.get(self._licence_field)
        if value is None:
            return frozenset()
        if not isinstance(value, str):
            raise _NoAnswerError(Away(Trouble.FORM))
        return frozenset(map(plain_number, _NUMBERS.findall(value)))

    async def _erase_ticket(self, ticket_id: str) -> Erasure:
        gone = await self._delete(f"/issue/{_id(ticket_id)}", query={"deleteSubtasks": "true"})
        return Erasure.ERASED if gone else Erasure.NOTHING_LEFT

    async def _erase_people(self, ticket_id: str) -> Erasure:
        path = f"/issue/{_id(ticket_id)}"
        try:
            ticket = await self._read(_Issue, "GET", path, query={"fields": _PEOPLE_FIELDS})
        except _NoAnswerError as failed:
            if failed.why == Refused(httpx2.codes.NOT_FOUND):
                return Erasure.NOTHING_LEFT
            raise
        people = ticket.fields
        for attachment in people.attachment:
            await self._delete(f"/attachment/{attachment.id}")
        had_comments = await self._erase_comments(path)
        if not people.say_nothing:
            await self._empty(path)
        found = bool(people.attachment) or had_comments or not people.say_nothing
        return Erasure.ERASED if found else Erasure.NOTHING_LEFT

    async def _erase_comments(self, path: str) -> bool:
        """Delete the first page of comments until there is none; True if there were any."""
        erased = set[str]()
        query = {"maxResults": str(_COMMENTS_A_PAGE)}
        while comments := (
            await self._read(_Comments, "GET", f"{path}/comment", query=query)
        ).comments:
            new = [each.id for each in comments if each.id not in erased]
            if not new:
                raise _NoAnswerError(Away(Trouble.COMMENTS_STAY))
            for comment_id in new:
                await self._delete(f"{path}/comment/{comment_id}")
            erased.update(new)
        return bool(erased)

    async def _empty(self, path: str) -> None:
        empty = {
            "summary": ERASED_SUMMARY,
            "description": None,
            "environment": None,
            "reporter": None,
        }
        # Nobody is to get what is being erased by mail once more.
        await self._call("PUT", path, query={"notifyUsers": "false"}, body={"fields": empty})

    async def _delete(self, path: str, *, query: Mapping[str, str] | None = None) -> bool:
        """True if it was there; what is gone already is as good."""
        try:
            await self._call("DELETE", path, query=query)
        except _NoAnswerError as failed:
            if failed.why != Refused(httpx2.codes.NOT_FOUND):
                raise
            return False
        return True

    async def _read(
        self,
        model: type[_AnyAnswer],
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> _AnyAnswer:
        answer = await self._call(method, path, query=query, body=body)
        try:
            return model.model_validate_json(answer)
        except ValidationError:
            raise _NoAnswerError(Away(Trouble.FORM)) from None

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        request = self._http.build_request(
            method,
            f"{self._url}{path}",
            params=query,
            json=body,
            headers={"Accept": "application/json", **UNPACKED},
        )
        response = await self._http.send(
            request, auth=self._auth, stream=True, follow_redirects=False
        )
        try:
            if not response.is_success:
                raise _NoAnswerError(self._no_answer(response))
            return await read_at_most(response.aiter_raw(), MAX_ANSWER_BYTES)
        finally:
            await response.aclose()

    def _no_answer(self, response: httpx2.Response) -> NoAnswer:
        after = response.headers.get("Retry-After")
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            return Away(Trouble.THROTTLED, retry_after(after, self._now()))
        if response.is_server_error:
            asked = None if after is None else retry_after(after, self._now())
            return Away(Trouble.SERVER_FAULT, asked)
        if response.is_redirect:
            return Away(Trouble.REDIRECT)
        return Refused(response.status_code)


def plain_number(text: str) -> str:
    """Spell a licence number so that equal ones are equal: in capitals, without ``SEN-``."""
    return text.upper().removeprefix(_SEN)


def _id(ticket_id: str) -> str:
    if not ticket_id.isascii() or not ticket_id.isdigit():
        raise ValueError("a ticket is named by its id, a number")
    return ticket_id
