"""The page of dead letters: one set of routes for every service, without a script, by keyboard."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar, Literal
from uuid import UUID, uuid4

import httpx2
import pytest
import uvicorn
from aiokafka import ConsumerRecord
from fastapi import FastAPI
from playwright.async_api import Browser, expect

from chassis.dead_letters import written
from chassis.dead_letters.routes import dead_letters_routers
from chassis.dead_letters.written import Failure, State
from chassis.problems import answer_with_problems
from chassis.staff.access import let_staff_in
from chassis.staff.door import Door
from contracts.envelope import to_headers
from contracts.messages import Kind
from devstack.processes import LOOPBACK, free_port
from tests.support.browser import browser
from tests.support.bus import a_command, an_envelope
from tests.support.chassis import Sample
from tests.support.pages import contrast, overflow

__all__ = ["browser"]

ROOT = "/staff/dead-letters"
WORD = {"by": "Kim Keeper", "reason": "OPS-7"}


@dataclass
class Office:
    """The page over a database with letters in it."""

    sample: Sample
    app: FastAPI
    woken: list[str] = field(default_factory=list)
    body: ClassVar[bytes] = a_command(step="first").encode()

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://here")

    async def letter(
        self, *, kind: Kind = Kind.COMMAND, state: State = State.OPEN, purge_id: UUID | None = None
    ) -> str:
        record = ConsumerRecord(
            "purger.commands.v1", 0, 7, 0, 0, b"", self.body, None, 0, 0,
            tuple(to_headers(an_envelope("purge-started"))),
        )  # fmt: skip
        failure = Failure(
            "erase_content",
            "handler raised RuntimeError",
            "RuntimeError",
            type="keepword.purge-started.v1",
            purge_id=purge_id,
            step="first" if purge_id else None,
            kind=kind,
        )
        async with self.sample.units().begin() as uow:
            await written.write(uow, "sample.tests.v1", record, failure, state=state)
        found = await self.sample.runtime.fetchval(
            "SELECT dead_letter_id FROM dead_letters ORDER BY number DESC LIMIT 1"
        )
        return str(found)

    async def state(self, letter: str) -> str:
        return str(
            await self.sample.runtime.fetchval(
                "SELECT state FROM dead_letters WHERE dead_letter_id = $1", UUID(letter)
            )
        )


@pytest.fixture
async def office(sample: Sample) -> Office:
    app = FastAPI()
    answer_with_problems(app)
    let_staff_in(app, Door("config", "http://here", None), dead_letters_routers("config"))
    office = Office(sample, app)
    app.state.running = SimpleNamespace(units=sample.units(), wake_job=office.woken.append)
    return office


async def test_causes_lead_to_letters_and_what_a_person_does_is_kept_with_it(
    office: Office,
) -> None:
    first, second = await office.letter(), await office.letter()
    async with office.client() as http:
        causes = (await http.get(ROOT)).text
        assert "<strong>2</strong> not settled" in causes
        group = causes.split("/groups/")[1].split('"')[0]
        listed = (await http.get(f"{ROOT}/groups/{group}")).text
        assert first in listed
        assert second in listed
        assert "&#34;step&#34;: &#34;first&#34;" in (await http.get(f"{ROOT}/{first}")).text

        edited = office.body.decode().replace('"wave":1', '"wave":2')
        answer = await http.post(f"{ROOT}/{first}/edit", data={**WORD, "body": edited})
        assert (answer.status_code, answer.headers["location"]) == (303, f"../{first}")
        answer = await http.post(f"{ROOT}/groups/{group}/redrive", data=WORD)
        assert (answer.status_code, answer.headers["location"]) == (303, f"../{group}")
        assert office.woken[-1] == "redrive dead letters"
        shown = (await http.get(f"{ROOT}/{first}")).text
        for words in ("Being tried", "version 2", "Kim Keeper edited it: OPS-7", "had it tried"):
            assert words in shown
    assert {await office.state(each) for each in (first, second)} == {"redriving"}


async def test_what_cannot_be_is_said_on_the_page_and_changes_nothing(office: Office) -> None:
    open_, state = await office.letter(), await office.letter(kind=Kind.STATE)
    parked = await office.letter(state=State.PARKED, purge_id=uuid4())
    refusals = (
        (f"{open_}/redrive", {"by": "Kim", "reason": " "}, 409, "Say why"),
        (f"{open_}/edit", {**WORD, "body": "<b>no JSON"}, 409, "cannot be read: (body)"),
        (f"{state}/redrive", WORD, 409, "have its owner restate it"),
        (f"{state}/edit", {**WORD, "body": "{}"}, 409, "have its owner restate it"),
        (f"{parked}/redrive", WORD, 409, "It is parked"),
        (f"{open_}/forget", WORD, 409, "cannot be done here"),
        (f"{uuid4()}/redrive", WORD, 404, "There is no such dead letter"),
        ("nobody/redrive", WORD, 404, "There is no such dead letter"),
        ("groups/0123456789abcdef/discard", WORD, 404, "There is no such group"),
    )
    async with office.client() as http:
        for path, form, status, words in refusals:
            answer = await http.post(f"{ROOT}/{path}", data=form)
            assert (path, answer.status_code) == (path, status)
            assert words in answer.text
            assert "<b>" not in answer.text
        assert (await http.get(f"{ROOT}/nobody")).status_code == 404
        shown = (await http.get(f"{ROOT}/{state}")).text
        assert "Try again" not in shown
        assert "Keep as a new version" not in shown
    assert [await office.state(each) for each in (open_, state, parked)] == [
        "open",
        "open",
        "parked",
    ]


async def test_the_page_is_ours_alone(office: Office) -> None:
    letter = await office.letter()
    async with office.client() as http:
        headers = (await http.get(f"{ROOT}/{letter}")).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        foreign = {"sec-fetch-site": "cross-site"}
        answer = await http.post(f"{ROOT}/{letter}/discard", data=WORD, headers=foreign)
        assert answer.status_code == 403
    assert await office.state(letter) == "open"


@pytest.fixture
async def site(office: Office, browser: Browser) -> AsyncIterator[str]:
    port = free_port()
    config = uvicorn.Config(office.app, host=LOOPBACK, port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://{LOOPBACK}:{port}{ROOT}"
    for context in browser.contexts:
        await context.close()
    server.should_exit = True
    await task


async def test_a_letter_is_mended_and_tried_again_by_keyboard_on_a_telephone_in_any_light(
    office: Office, browser: Browser, site: str
) -> None:
    letter = await office.letter(purge_id=uuid4())
    said: list[str] = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = await browser.new_context(
            color_scheme=scheme, viewport={"width": 320, "height": 640}
        )
        page = await context.new_page()
        page.on("console", lambda line: said.append(line.text))
        await page.goto(site)
        for selector in (".quiet", ".state", "a"):
            assert await contrast(page, selector) >= 4.5, selector
        assert await overflow(page) == 0
        await page.get_by_role("link", name="keepword.purge-started.v1").press("Enter")
        await page.get_by_role("link", name=letter).press("Enter")
        assert await overflow(page) == 0
        for selector in (".state", "dt", "button", "label"):
            assert await contrast(page, selector) >= 4.5, selector
    await page.get_by_label("What it says").fill(office.body.decode().replace("first", "second"))
    await page.get_by_label("Your name").fill("Kim Keeper")
    await page.get_by_label("Why").fill("OPS-7")
    await page.get_by_role("button", name="Keep as a new version").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("has to stay")
    assert await overflow(page) == 0
    await page.get_by_role("button", name="Try again").press("Enter")
    await expect(page.locator(".state")).to_have_text("Being tried")
    assert await office.state(letter) == "redriving"
    # A refusal is an answer of its own status, which the browser notes.
    assert [line for line in said if "409" not in line] == []
