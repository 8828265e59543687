"""The vendor's own service desk: tickets that name people, behind the part of Jira's API we use."""

import json
import re
from base64 import b64encode
from dataclasses import dataclass, field, replace
from itertools import count
from secrets import compare_digest
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

PATH = "/service-desk"
"""Where the desk stands; the real one has a host of its own."""

ACCOUNT = "tickets@vendor.example"
TOKEN = "made-up-token-of-the-desk"  # noqa: S105 - made up, as its words say
PROJECT = "HELP"
LICENCE_FIELD = "customfield_10050"
PERSON = "Grace Example"
PAGE_TICKETS = 50
PERMISSIONS = frozenset(
    {
        "BROWSE_PROJECTS",
        "DELETE_ISSUES",
        "EDIT_ISSUES",
        "MODIFY_REPORTER",
        "DELETE_ALL_ATTACHMENTS",
        "DELETE_ALL_COMMENTS",
    }
)
_JQL = re.compile(
    rf'project = "{PROJECT}" AND cf\[10050\] ~ "\\"([A-Za-z0-9#-]+)\\"" ORDER BY created ASC'
)


@dataclass(frozen=True, slots=True)
class DeskFaults:
    """What goes wrong from now on; ``throttled`` goes down with each request that it befell."""

    away: bool = False
    throttled: int = 0
    retry_after: str = "1"
    refused: int | None = None
    withheld: tuple[str, ...] = ()
    """Permissions that the account has lost."""
    lags: bool = False
    """The search still names what was deleted."""
    stubborn: bool = False
    """Deletions are answered well, and nothing is deleted."""


@dataclass(slots=True)
class DeskTicket:
    """A ticket as Jira holds it."""

    ticket_id: str
    fields: dict[str, Any] = field(repr=False)
    comments: dict[str, str] = field(repr=False)

    @property
    def licence(self) -> str:
        """What its field says of a licence."""
        return str(self.fields[LICENCE_FIELD] or "")

    def shown(self, names: list[str]) -> dict[str, Any]:
        """Give these fields of it, as Jira does."""
        fields = {name: self.fields.get(name) for name in names}
        return {"id": self.ticket_id, "key": f"{PROJECT}-{self.ticket_id}", "fields": fields}


class ServiceDesk:
    """The tickets; ``requests`` counts what was asked of the API, ``faults`` is what goes wrong."""

    def __init__(self) -> None:
        self.tickets: dict[str, DeskTicket] = {}
        self.faults = DeskFaults()
        self.requests = 0
        self.page_tickets = PAGE_TICKETS
        self._deleted: dict[str, DeskTicket] = {}
        self._ids = count(10_001)

    def open_ticket(self, licence: str, person: str) -> DeskTicket:
        """Make up a ticket about a licence: a text, a comment and a screenshot, all by a person."""
        ticket_id, attachment_id, comment_id = (str(next(self._ids)) for _ in range(3))
        text = {"type": "text", "text": f"It fails for {person} since Monday."}
        self.tickets[ticket_id] = DeskTicket(
            ticket_id,
            {
                "summary": f"Reports of {person} stay empty",
                "description": {"type": "doc", "version": 1, "content": [text]},
                "environment": None,
                "reporter": {"accountId": f"qm:{ticket_id}", "displayName": person},
                "attachment": [{"id": attachment_id, "filename": f"{person}.png"}],
                LICENCE_FIELD: licence,
            },
            {comment_id: f"Thank you. {person}"},
        )
        return self.tickets[ticket_id]

    def naming(self, text: str) -> list[str]:
        """List the tickets in which a text can be read, whole or in part."""
        return [
            ticket.ticket_id
            for ticket in self.tickets.values()
            if text in json.dumps([ticket.fields, ticket.comments], ensure_ascii=False)
        ]

    def routes(self) -> list[BaseRoute]:
        """Give Jira's own routes, and those by which tickets are made up and the desk fails."""
        api = [
            Route("/mypermissions", self.permissions),
            Route("/search/jql", self.search, methods=["POST"]),
            Route("/issue/{ticket}", self.issue),
            Route("/issue/{ticket}", self.edit, methods=["PUT"]),
            Route("/issue/{ticket}", self.delete, methods=["DELETE"]),
            Route("/issue/{ticket}/comment", self.list_comments),
            Route("/issue/{ticket}/comment/{part}", self.delete_comment, methods=["DELETE"]),
            Route("/attachment/{part}", self.delete_attachment, methods=["DELETE"]),
        ]
        return [
            Mount(f"{PATH}/rest/api/3", routes=api),
            Route(f"{PATH}/tickets", self.list_tickets),
            Route(f"{PATH}/tickets", self.make_up, methods=["POST"]),
            Route(f"{PATH}/faults", self.fail, methods=["POST"]),
            Route(f"{PATH}/{{state}}", self.move, methods=["POST"]),
        ]

    async def permissions(self, request: Request) -> Response:
        """Say which permissions the account has."""
        self._let_in(request)
        if request.query_params.get("projectKey") != PROJECT:
            raise HTTPException(404)
        asked = request.query_params["permissions"].split(",")
        held = PERMISSIONS - set(self.faults.withheld)
        told = {name: {"key": name, "havePermission": name in held} for name in asked}
        return JSONResponse({"permissions": told})

    async def search(self, request: Request) -> Response:
        """Find tickets by a phrase in the licence's field: words, whatever stands around them.

        Who may not browse the project gets an empty answer, not a refusal.
        """
        self._let_in(request)
        question = await request.json()
        asked = _JQL.fullmatch(question["jql"])
        if asked is None:
            raise HTTPException(400)
        seen = {**self.tickets, **(self._deleted if self.faults.lags else {})}
        if "BROWSE_PROJECTS" in self.faults.withheld:
            seen = {}
        phrase = _words(asked[1])
        found = [
            ticket
            for number, ticket in sorted(seen.items(), key=lambda each: int(each[0]))
            if phrase in _words(ticket.licence)
            and int(number) > int(question.get("nextPageToken", "0"))
        ]
        page = found[: min(self.page_tickets, question.get("maxResults", PAGE_TICKETS))]
        answer: dict[str, Any] = {"issues": [each.shown(question["fields"]) for each in page]}
        if len(page) < len(found):
            answer["nextPageToken"] = page[-1].ticket_id
        return JSONResponse(answer)

    async def issue(self, request: Request) -> Response:
        """Show a ticket."""
        ticket = self._ticket(request)
        return JSONResponse(ticket.shown(request.query_params["fields"].split(",")))

    async def edit(self, request: Request) -> Response:
        """Change fields of a ticket."""
        self._ticket(request).fields.update((await request.json())["fields"])
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        """Delete a ticket; the search may name it for a while."""
        ticket = self._ticket(request)
        if not self.faults.stubborn:
            self._deleted[ticket.ticket_id] = self.tickets.pop(ticket.ticket_id)
        return Response(status_code=204)

    async def list_comments(self, request: Request) -> Response:
        """List the first comments of a ticket."""
        ticket, most = self._ticket(request), int(request.query_params["maxResults"])
        shown = [{"id": number, "body": text} for number, text in ticket.comments.items()][:most]
        return JSONResponse({"comments": shown, "total": len(ticket.comments)})

    async def delete_comment(self, request: Request) -> Response:
        """Delete a comment."""
        ticket, part = self._ticket(request), request.path_params["part"]
        if part not in ticket.comments:
            raise HTTPException(404)
        if not self.faults.stubborn:
            del ticket.comments[part]
        return Response(status_code=204)

    async def delete_attachment(self, request: Request) -> Response:
        """Delete an attachment, of whatever ticket it is."""
        self._let_in(request)
        for ticket in self.tickets.values():
            kept = [
                each
                for each in ticket.fields["attachment"]
                if each["id"] != request.path_params["part"]
            ]
            if len(kept) < len(ticket.fields["attachment"]):
                ticket.fields["attachment"] = kept
                return Response(status_code=204)
        raise HTTPException(404)

    async def list_tickets(self, _: Request) -> Response:
        """Show all tickets as they are, for whoever plays with the stand-in."""
        return JSONResponse(
            [{**each.shown(list(each.fields)), "comments": each.comments} for each in self.all]
        )

    async def make_up(self, request: Request) -> Response:
        """Make up a ticket about ``licence``, by ``person``."""
        told = request.query_params
        if "licence" not in told:
            raise HTTPException(400)
        ticket = self.open_ticket(told["licence"], told.get("person", PERSON))
        return page_or(request, JSONResponse({"ticket": ticket.ticket_id}))

    async def fail(self, request: Request) -> Response:
        """Say what goes wrong from now on; what is not named goes well."""
        self.faults = DeskFaults(**await request.json())
        return Response(status_code=204)

    async def move(self, request: Request) -> Response:
        """Send the desk away, or bring it back."""
        state = request.path_params["state"]
        if state not in {"away", "back"}:
            raise HTTPException(404)
        self.faults = DeskFaults(away=state == "away")
        return page_or(request, JSONResponse({"away": self.faults.away}))

    @property
    def all(self) -> list[DeskTicket]:
        """All tickets, the oldest first."""
        return list(self.tickets.values())

    def _let_in(self, request: Request) -> None:
        """Turn away whoever is not the vendor, comes too often, or has bad luck."""
        self.requests += 1
        if self.faults.away:
            raise HTTPException(503)
        if self.faults.throttled > 0:
            self.faults = replace(self.faults, throttled=self.faults.throttled - 1)
            raise HTTPException(429, headers={"Retry-After": self.faults.retry_after})
        expected = b"Basic " + b64encode(f"{ACCOUNT}:{TOKEN}".encode())
        if not compare_digest(request.headers.get("Authorization", "").encode(), expected):
            raise HTTPException(401)
        if self.faults.refused is not None and request.method in {"DELETE", "PUT"}:
            raise HTTPException(self.faults.refused)

    def _ticket(self, request: Request) -> DeskTicket:
        self._let_in(request)
        ticket = self.tickets.get(request.path_params["ticket"])
        if ticket is None:
            raise HTTPException(404)
        return ticket


def page_or(request: Request, answer: Response) -> Response:
    """Lead a person back to the page, and give a program the answer."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/", status_code=303)
    return answer


def _words(text: str) -> str:
    """Bring a text into the form in which a search by words compares it."""
    return f" {' '.join(re.findall('[a-z0-9]+', text.lower()))} "
