"""Tickets are found by their licence and erased, and whatever the desk answers is one of a few values."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from connect.service_desk import (
    ERASED_SUMMARY,
    MAX_ANSWER_BYTES,
    TO_ERASE_PEOPLE,
    TO_ERASE_TICKETS,
    Away,
    Erasure,
    Refused,
    ServiceDesk,
    Ticket,
    TicketPage,
    Trouble,
    plain_number,
)
from devstack.atlassian import Atlassian, create_app
from devstack.atlassian import service_desk as stand_in
from devstack.atlassian.service_desk import DeskFaults
from tests.connect.serving import serving

README = Path(__file__).parents[2] / "connect" / "README.md"
SEN = "SEN-12345678"
NEIGHBOUR = "SEN-87654321"


def desk_at(http: httpx2.AsyncClient, url: str, **others: Any) -> ServiceDesk:
    given: dict[str, Any] = {
        "licence_field": stand_in.LICENCE_FIELD,
        "account": stand_in.ACCOUNT,
        "token": SecretStr(stand_in.TOKEN),
    }
    return ServiceDesk(http, url, stand_in.PROJECT, **(given | others))


class Desk:
    """The stand-in's desk on a port, and our client of it."""

    def __init__(self, tickets: stand_in.ServiceDesk, client: ServiceDesk, url: str) -> None:
        self.tickets = tickets
        self.client = client
        self.url = url

    async def found(self, number: str) -> list[str]:
        """All that a whole search finds, by id."""
        ids: list[str] = []
        page: str | None = None
        while True:
            answer = await self.client.find(number, page)
            assert isinstance(answer, TicketPage)
            ids += [ticket.ticket_id for ticket in answer.tickets]
            page = answer.next_page
            if page is None:
                return ids


@pytest.fixture
async def desk(http: httpx2.AsyncClient) -> AsyncIterator[Desk]:
    atlassian = Atlassian(http)
    async with serving(create_app(atlassian, "http://127.0.0.1:9", ["a"])) as url:
        base_url = f"{url}{stand_in.PATH}"
        yield Desk(atlassian.service_desk, desk_at(http, base_url), base_url)


class Scripted:
    """A desk that can be told what to answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, Any]] = []
        self.answer: Callable[[Request], Awaitable[Response]] = self._nothing
        self.url = ""

    async def _nothing(self, _: Request) -> Response:
        return Response(status_code=404)

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        told = json.loads(body) if body else None
        self.requests.append((request.method, request.url.path, request.url.query, told))
        return await self.answer(request)

    def says(self, response: Response) -> None:
        async def answer(_: Request) -> Response:
            return response

        self.answer = answer


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    desk = Scripted()
    methods = ["GET", "POST", "PUT", "DELETE"]
    async with serving(Starlette(routes=[Route("/{p:path}", desk.__call__, methods=methods)])) as u:
        desk.url = u
        yield desk


async def test_tickets_are_found_by_the_whole_number_page_by_page(desk: Desk) -> None:
    desk.tickets.page_tickets = 2
    wanted = [
        desk.tickets.open_ticket(text, "Ada Example").ticket_id
        for text in (SEN, "12345678", "sen-12345678", f"{SEN}, {NEIGHBOUR}", f"was {SEN}!")
    ]
    for other in (NEIGHBOUR, f"{SEN}9", f"{SEN}-2", "", "SEN 1234"):
        desk.tickets.open_ticket(other, "Eve Example")

    assert await desk.found(SEN) == wanted
    assert await desk.found("12345678") == wanted
    assert desk.tickets.requests == 2 * 3


async def test_a_ticket_says_which_other_licences_it_is_about(desk: Desk) -> None:
    ticket = desk.tickets.open_ticket(f"{SEN} {NEIGHBOUR} E-AB1", "Ada Example")

    answer = await desk.client.find(SEN)

    numbers = frozenset({"12345678", "87654321", "E-AB1"})
    assert answer == TicketPage((Ticket(ticket.ticket_id, numbers),), None)
    assert "12345678" not in repr(answer)


async def test_an_erased_ticket_is_gone_with_all_that_hangs_on_it(desk: Desk) -> None:
    gone = desk.tickets.open_ticket(SEN, "Ada Example")
    kept = desk.tickets.open_ticket(NEIGHBOUR, "Eve Example")

    assert await desk.client.erase_ticket(gone.ticket_id) is Erasure.ERASED
    assert await desk.client.erase_ticket(gone.ticket_id) is Erasure.NOTHING_LEFT

    assert list(desk.tickets.tickets) == [kept.ticket_id]


async def test_the_people_of_a_ticket_go_and_the_ticket_stays(desk: Desk) -> None:
    ticket = desk.tickets.open_ticket(SEN, "Ada Example")
    ticket.comments.update({str(number): "Ada Example" for number in range(1, 120)})
    kept = desk.tickets.open_ticket(NEIGHBOUR, "Eve Example")

    assert await desk.client.erase_people(ticket.ticket_id) is Erasure.ERASED

    assert ticket.comments == {}
    assert ticket.fields == {
        "summary": ERASED_SUMMARY,
        "description": None,
        "environment": None,
        "reporter": None,
        "attachment": [],
        stand_in.LICENCE_FIELD: SEN,
    }
    assert desk.tickets.naming("Eve") == [kept.ticket_id]
    before = desk.tickets.requests
    assert await desk.client.erase_people(ticket.ticket_id) is Erasure.NOTHING_LEFT
    assert desk.tickets.requests == before + 2  # the ticket, and its comments: nothing to write
    assert await desk.client.erase_people("999") is Erasure.NOTHING_LEFT


@pytest.mark.parametrize("part", ["summary", "description", "environment", "reporter"])
async def test_one_field_that_is_left_is_not_nothing(desk: Desk, part: str) -> None:
    ticket = desk.tickets.open_ticket(SEN, "Ada Example")
    await desk.client.erase_people(ticket.ticket_id)
    ticket.fields[part] = "Ada Example"

    assert await desk.client.erase_people(ticket.ticket_id) is Erasure.ERASED
    assert desk.tickets.naming("Ada") == []


async def test_permissions_are_asked_for_before_an_empty_answer_is_believed(desk: Desk) -> None:
    desk.tickets.open_ticket(SEN, "Ada Example")
    assert await desk.client.missing_permissions(TO_ERASE_PEOPLE | TO_ERASE_TICKETS) == frozenset()

    desk.tickets.faults = DeskFaults(withheld=("BROWSE_PROJECTS", "EDIT_ISSUES"))

    assert await desk.found(SEN) == []
    missing = await desk.client.missing_permissions(TO_ERASE_TICKETS)
    assert missing == frozenset({"BROWSE_PROJECTS"})


async def test_a_permission_that_the_desk_does_not_name_is_missing(
    scripted: Scripted, http: httpx2.AsyncClient
) -> None:
    scripted.says(JSONResponse({"permissions": {}}))
    missing = await desk_at(http, scripted.url).missing_permissions({"BROWSE_PROJECTS"})
    assert missing == frozenset({"BROWSE_PROJECTS"})


async def test_a_desk_that_lags_names_what_is_gone_and_loses_nothing_by_it(desk: Desk) -> None:
    ticket = desk.tickets.open_ticket(SEN, "Ada Example")
    desk.tickets.faults = DeskFaults(lags=True)
    await desk.client.erase_ticket(ticket.ticket_id)

    assert await desk.found(SEN) == [ticket.ticket_id]
    assert await desk.client.erase_ticket(ticket.ticket_id) is Erasure.NOTHING_LEFT


async def test_comments_that_come_back_end_the_call(desk: Desk) -> None:
    ticket = desk.tickets.open_ticket(SEN, "Ada Example")
    desk.tickets.faults = DeskFaults(stubborn=True)
    answer = await desk.client.erase_people(ticket.ticket_id)
    assert answer == Away(Trouble.COMMENTS_STAY)


async def test_the_same_page_twice_ends_the_search(
    scripted: Scripted, http: httpx2.AsyncClient
) -> None:
    scripted.says(JSONResponse({"issues": [], "nextPageToken": "p"}))
    client = desk_at(http, scripted.url)
    assert await client.find(SEN) == TicketPage((), "p")
    assert await client.find(SEN, "p") == Away(Trouble.SAME_PAGE_TWICE)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (Response(status_code=400), Refused(400)),
        (Response(status_code=401), Refused(401)),
        (Response(status_code=403), Refused(403)),
        (
            Response(status_code=429, headers={"Retry-After": "7"}),
            Away(Trouble.THROTTLED, timedelta(seconds=7)),
        ),
        (Response(status_code=429), Away(Trouble.THROTTLED, timedelta(minutes=1))),
        (Response(status_code=500), Away(Trouble.SERVER_FAULT)),
        (
            Response(status_code=503, headers={"Retry-After": "9"}),
            Away(Trouble.SERVER_FAULT, timedelta(seconds=9)),
        ),
        (RedirectResponse("http://127.0.0.1:9/"), Away(Trouble.REDIRECT)),
    ],
)
async def test_a_desk_that_does_not_do_it_says_why(
    response: Response, answer: Away | Refused, scripted: Scripted, http: httpx2.AsyncClient
) -> None:
    scripted.says(response)
    client = desk_at(http, scripted.url)

    assert await client.find(SEN) == answer
    assert await client.erase_ticket("1") == answer
    assert await client.erase_people("1") == answer
    assert await client.missing_permissions({"BROWSE_PROJECTS"}) == answer
    assert len(scripted.requests) == 4


@pytest.mark.parametrize(
    ("response", "trouble"),
    [
        (Response("not json"), Trouble.FORM),
        (JSONResponse({"issues": [{"id": "1/2", "fields": {}}]}), Trouble.FORM),
        (
            JSONResponse({"issues": [{"id": "1", "fields": {stand_in.LICENCE_FIELD: {"a": 1}}}]}),
            Trouble.FORM,
        ),
        (Response(b"[" + b" " * MAX_ANSWER_BYTES), Trouble.TOO_LARGE),
    ],
)
async def test_an_answer_of_another_form_is_no_answer(
    response: Response, trouble: Trouble, scripted: Scripted, http: httpx2.AsyncClient
) -> None:
    scripted.says(response)
    assert await desk_at(http, scripted.url).find(SEN) == Away(trouble)


async def test_a_desk_that_hangs_or_is_not_there_is_away(
    scripted: Scripted, http: httpx2.AsyncClient
) -> None:
    async def hang(_: Request) -> Response:
        await asyncio.sleep(0.5)
        return Response(status_code=204)

    scripted.answer = hang
    slow = desk_at(http, scripted.url, timeout_seconds=0.05)
    assert await slow.erase_ticket("1") == Away(Trouble.TIMEOUT)
    async with serving(Starlette()) as gone:
        pass
    assert await desk_at(http, gone).erase_ticket("1") == Away(Trouble.NO_CONNECTION)


async def test_another_account_gets_nothing(desk: Desk, http: httpx2.AsyncClient) -> None:
    desk.tickets.open_ticket(SEN, "Ada Example")
    stranger = desk_at(http, desk.url, token=SecretStr("guess"))
    assert await stranger.find(SEN) == Refused(401)


async def test_deletions_take_subtasks_along_and_edits_tell_no_watcher(
    scripted: Scripted, http: httpx2.AsyncClient
) -> None:
    async def answer(request: Request) -> Response:
        if request.method != "GET":
            return Response(status_code=204)
        comments = request.url.path.endswith("/comment")
        return JSONResponse({"comments": []} if comments else {"fields": {"summary": "Ada"}})

    scripted.answer = answer
    client = desk_at(http, f"{scripted.url}/jira")

    await client.erase_ticket("7")
    await client.erase_people("7")

    assert scripted.requests[0] == (
        "DELETE",
        "/jira/rest/api/3/issue/7",
        "deleteSubtasks=true",
        None,
    )
    method, _, query, body = scripted.requests[-1]
    assert (method, query) == ("PUT", "notifyUsers=false")
    assert body["fields"]["reporter"] is None


@pytest.mark.parametrize("number", ["", "SEN-", 'x" OR project = "HR', "a b", "1" * 65])
async def test_what_is_no_number_never_gets_into_a_query(
    number: str, http: httpx2.AsyncClient
) -> None:
    with pytest.raises(ValueError, match="licence number"):
        await desk_at(http, "https://desk.example").find(number)


@pytest.mark.parametrize("ticket_id", ["", "1/../2", "HELP-1", "\u0661"])
async def test_what_is_no_id_never_gets_into_a_path(
    ticket_id: str, http: httpx2.AsyncClient
) -> None:
    client = desk_at(http, "https://desk.example")
    with pytest.raises(ValueError, match="its id"):
        await client.erase_ticket(ticket_id)
    with pytest.raises(ValueError, match="its id"):
        await client.erase_people(ticket_id)


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("http://desk.example", {}),
        ("https://desk.example", {"licence_field": "Licence"}),
        ("desk", {}),
    ],
)
def test_a_desk_that_cannot_be_is_refused(
    url: str, others: dict[str, str], http: httpx2.AsyncClient
) -> None:
    with pytest.raises(ValueError):
        desk_at(http, url, **others)
    with pytest.raises(ValueError, match="project key"):
        ServiceDesk(
            http,
            "https://desk.example",
            'A" OR "',
            licence_field="customfield_1",
            account="a",
            token=SecretStr("t"),
        )


def test_equal_numbers_have_one_form() -> None:
    assert plain_number("sen-12") == plain_number("SEN-12") == plain_number("12") == "12"
    assert plain_number("e-ab-12") == "E-AB-12"


async def test_the_example_of_the_readme_erases_a_licences_tickets(desk: Desk) -> None:
    examples: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL):
        exec(compile(block, str(README), "exec"), examples)
    desk.tickets.page_tickets = 2
    for _ in range(5):
        desk.tickets.open_ticket(SEN, "Ada Example")
    kept = desk.tickets.open_ticket(NEIGHBOUR, "Eve Example")

    assert await examples["erase_all"](desk.client, SEN) == 5
    assert list(desk.tickets.tickets) == [kept.ticket_id]
    assert await examples["erase_all"](desk.client, SEN) == 0
    desk.tickets.faults = DeskFaults(withheld=("DELETE_ISSUES",))
    assert await examples["erase_all"](desk.client, SEN) == Refused(403)
    desk.tickets.faults = DeskFaults(away=True)
    assert await examples["erase_all"](desk.client, SEN) == Away(Trouble.SERVER_FAULT)
