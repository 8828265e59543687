"""Purger's pages in a real browser: alone, by keyboard, in the dark, on a narrow screen."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from chassis.problems import answer_with_problems
from chassis.service import Running
from chassis.staff.access import let_staff_in
from chassis.staff.door import Door
from devstack.processes import LOOPBACK, free_port
from services.purger.routes import brake
from services.purger.routes.board import board_router
from services.purger.routes.pages import Pages
from services.purger.routes.receipts import receipts_router
from tests.purger.builders import LEFT_AT, a_tenant, answer
from tests.purger.conftest import Purger
from tests.support.browser import browser
from tests.support.pages import contrast, overflow

__all__ = ["browser"]


@dataclass
class Site:
    """Purger's pages on a port of their own, and whoever looks at them."""

    url: str
    browser: Browser
    errors: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)

    async def open(self, path: str, *, clock: bool = False, **options: Any) -> Page:
        """Open a page in a browser that was never used before, and whose clock a test may move."""
        context = await self.browser.new_context(**options)
        if clock:
            await context.clock.install()
        page = await context.new_page()
        page.on("console", self._note_line)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked_for.append(request.url))
        await page.goto(f"{self.url}{path}")
        return page

    def _note_line(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.errors.append(line.text)


@pytest.fixture
async def site(purger: Purger, browser: Browser) -> AsyncIterator[Site]:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    app = FastAPI()
    answer_with_problems(app)
    pages = Pages()
    app.include_router(receipts_router(pages, public_url=url))
    app.include_router(pages.router())
    let_staff_in(app, Door("purger", url, None), (brake.router, board_router(pages)))
    resources: Any = None
    app.state.running = Running(resources, purger.units, purger.units.context, lambda _: None)
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield Site(url, browser)
    for context in browser.contexts:
        await context.close()
    server.should_exit = True
    await task


# -- a receipt ------------------------------------------------------------------------------------


async def a_receipt(purger: Purger, *, closed: bool) -> str:
    (contacts,) = await purger.finish_wave_one()
    if closed:
        await purger.hear(answer(contacts, purger.clock.now()))
    return f"/receipts/{contacts.receipt_code}"


async def test_a_receipt_is_read_without_a_script_or_anything_of_others(
    purger: Purger, site: Site
) -> None:
    path = await a_receipt(purger, closed=True)

    page = await site.open(path, java_script_enabled=False)

    await expect(page.get_by_role("heading", level=1)).to_have_text("Receipt of erasure")
    await expect(page.get_by_text("Everything is erased.")).to_be_visible()
    assert site.asked_for == [f"{site.url}{path}", f"{site.url}/pages/purger.css"]
    assert site.errors == []


async def test_a_receipt_is_used_by_keyboard(purger: Purger, site: Site) -> None:
    page = await site.open(await a_receipt(purger, closed=True))
    lists = page.get_by_text("By which lists they looked")
    await expect(page.get_by_text("ab" * 32).first).to_be_hidden()

    await page.keyboard.press("Tab")
    await expect(lists).to_be_focused()
    await page.keyboard.press("Enter")

    await expect(page.get_by_text("ab" * 32).first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("closed", [True, False])
async def test_a_receipt_can_be_read_in_any_light_on_a_narrow_screen(
    purger: Purger, site: Site, *, scheme: Any, closed: bool
) -> None:
    page = await site.open(
        await a_receipt(purger, closed=closed),
        color_scheme=scheme,
        viewport={"width": 320, "height": 640},
    )

    assert await overflow(page) == 0
    for selector in ("h1", ".quiet", ".standing .big", "dd", "a", "code"):
        assert await contrast(page, selector) >= 4.5, selector


# -- the board ------------------------------------------------------------------------------------

BOARD = "/staff/board"
A_WHILE = 6_000


async def refreshed(page: Page) -> None:
    """Let the page's own clock come to its next look."""
    async with page.expect_response(lambda answered: "/staff/board" in answered.url):
        await page.clock.run_for(A_WHILE)


async def test_the_board_says_in_one_number_that_nothing_is_late(
    purger: Purger, site: Site
) -> None:
    await purger.begin()
    page = await site.open(BOARD, clock=True)
    headline = page.locator("#headline .number")
    await expect(headline).to_have_text("0 overdue")
    await expect(headline).to_have_class("number good")
    await expect(page).to_have_title("0 overdue: purges")
    erase_by = (await purger.state()).plans[0].erase_by

    purger.clock.set(erase_by)
    await refreshed(page)

    await expect(headline).to_have_text("1 overdue")
    await expect(headline).to_have_class("number bad")
    await expect(page).to_have_title("1 overdue: purges")
    await expect(page.locator("#overdue").get_by_text("overdue", exact=True)).to_be_visible()
    assert site.errors == []


async def test_progress_comes_by_itself_and_takes_nobodys_place(purger: Purger, site: Site) -> None:
    orders = await purger.begin()
    page = await site.open(BOARD, clock=True)
    running = page.locator("#running")
    await expect(running.get_by_text("0 of 4 steps")).to_be_visible()
    summary = running.locator("summary")
    await summary.focus()
    await page.keyboard.press("Enter")
    reason = page.get_by_label("Why")
    await reason.fill("half a sentence")
    await summary.focus()

    await purger.hear(answer(orders[0], purger.clock.now()))
    await refreshed(page)

    await expect(running.get_by_text("1 of 4 steps")).to_be_visible()
    await expect(running.locator("summary")).to_be_focused()
    await expect(running.get_by_text("The customer left on 10 March 2026")).to_be_visible()
    await expect(reason).to_have_value("half a sentence")


async def test_a_place_that_is_gone_leaves_the_keyboard_where_it_was(
    purger: Purger, site: Site
) -> None:
    (contacts,) = await purger.finish_wave_one()
    page = await site.open(BOARD, clock=True)
    await page.locator("#running summary").focus()

    await purger.hear(answer(contacts, purger.clock.now()))
    await refreshed(page)

    await expect(page.locator("#running")).to_be_focused()
    await expect(page.locator("#running")).to_have_text("None.")
    await expect(page.locator("#receipts").get_by_role("link")).to_have_count(2)


async def test_nothing_is_refreshed_for_whoever_does_not_want_it(
    purger: Purger, site: Site
) -> None:
    orders = await purger.begin()
    page = await site.open(BOARD, clock=True)
    await page.get_by_label("refresh every 5 seconds").uncheck()
    await purger.hear(answer(orders[0], purger.clock.now()))

    await page.clock.run_for(A_WHILE)
    await expect(page.locator("#running").get_by_text("0 of 4 steps")).to_be_visible()

    await page.get_by_label("refresh every 5 seconds").check()
    await refreshed(page)
    await expect(page.locator("#running").get_by_text("1 of 4 steps")).to_be_visible()


async def test_a_board_that_hears_nothing_says_how_old_it_is(site: Site) -> None:
    page = await site.open(BOARD, clock=True)
    stale = page.locator("#stale")
    await page.route("**/staff/board", lambda route: route.abort())
    await page.clock.run_for(A_WHILE)
    await expect(stale).to_contain_text("Purger does not answer. What you see is of")

    await page.unroute("**/staff/board")
    await refreshed(page)

    await expect(stale).to_be_empty()


async def test_the_brake_is_pulled_and_released_by_keyboard(purger: Purger, site: Site) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT))
    purger.clock.set((await purger.state()).plans[0].start_at)
    page = await site.open(BOARD, clock=True)
    brake_shown, said = page.locator("#brake"), page.locator("#said")
    await expect(brake_shown).to_contain_text("It does not hold.")

    await page.locator("#pull [name=name]").focus()
    await page.keyboard.type("Kim <b>Keeper</b>")
    await page.keyboard.press("Tab")
    await page.keyboard.type("odd dates")
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("Noted. The brake holds.")
    await expect(brake_shown).to_contain_text("Pulled by Kim <b>Keeper</b>: odd dates")
    await expect(page.locator(".counts")).to_contain_text("1 held by the brake")

    for name, told in (
        ("Kim", "Noted. The brake holds."),
        ("Lee", "Released. Purges start again."),
    ):
        await page.locator("#release [name=name]").focus()
        await page.keyboard.type(name)
        await page.keyboard.press("Enter")
        await expect(said).to_have_text(told)
        await expect(page.locator("#release [name=name]")).to_have_value("")
    await expect(brake_shown).to_contain_text("It does not hold.")
    assert page.url == f"{site.url}{BOARD}"

    await page.locator("#release [name=name]").fill("Lee")
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("Nothing was noted: No purge is held back.")


async def test_a_tenant_is_found_with_the_reason_of_each_date(purger: Purger, site: Site) -> None:
    (contacts,) = await purger.finish_wave_one()
    await purger.hear(a_tenant(left_at=LEFT_AT))
    page = await site.open(BOARD, clock=True)

    await page.get_by_label("Tenant's id").fill(f" {contacts.tenant_id} ")
    await page.keyboard.press("Enter")
    found = page.locator("#tenant")
    await expect(found.locator("tbody tr")).to_have_count(1)
    await found.locator("summary").click()

    await expect(found.get_by_text("9 September 2026 less 14 days")).to_be_visible()
    await found.get_by_role("link", name="receipt").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Receipt of erasure")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("00000000-0000-0000-0000-000000000001", "Nothing is planned"),
        ("<script>alert(1)</script>", "That is not the id of a tenant."),
    ],
)
async def test_what_is_not_found_is_said(site: Site, asked: str, told: str) -> None:
    page = await site.open(BOARD, clock=True)
    await page.get_by_label("Tenant's id").fill(asked)
    await page.keyboard.press("Enter")

    await expect(page.locator("#tenant")).to_contain_text(told)
    assert site.errors == []


async def test_the_chart_and_the_calendar_count_the_same_deadlines(
    purger: Purger, site: Site
) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT), a_tenant(left_at=LEFT_AT))
    page = await site.open(BOARD, clock=True)

    await expect(page.locator("svg rect")).to_have_count(1)
    await expect(page.locator("svg .value")).to_have_text("2")
    assert "2 in the week of 24 August 2026" in await page.locator("svg title").inner_html()
    august = page.get_by_role("table", name="August 2026")
    await expect(august.locator("td", has_text="to be done")).to_have_text("262 to be done")
    await expect(august.locator("td", has_text="start")).to_have_text("122 start")
    await expect(page.locator("td[aria-current=date]")).to_have_text("10")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_board_can_be_read_in_any_light_on_a_narrow_screen(
    purger: Purger, site: Site, *, scheme: Any
) -> None:
    await purger.begin()
    await purger.hear(a_tenant(left_at=LEFT_AT))
    purger.clock.set((await purger.state()).plans[0].erase_by)
    page = await site.open(BOARD, color_scheme=scheme, viewport={"width": 320, "height": 640})

    assert await overflow(page) == 0
    for selector in (".number strong", ".quiet", ".standing p", "strong.bad", "button", "td span"):
        assert await contrast(page, selector) >= 4.5, selector
    assert {url.removeprefix(site.url) for url in site.asked_for} == {
        BOARD,
        "/pages/purger.css",
        "/pages/board.js",
        "/sign-on/staff.css",
        "/sign-on/tables.js",
    }
    assert site.errors == []


async def test_what_somebody_has_arranged_is_not_made_fresh(purger: Purger, site: Site) -> None:
    await purger.begin()
    for _ in range(3):
        await purger.hear(a_tenant(left_at=LEFT_AT))
    page = await site.open(BOARD)
    words = page.locator("#due-purges-filter")
    shown = page.locator("#due tbody tr:visible")
    await expect(shown).to_have_count(3)
    [tenant] = (await shown.first.locator("code").all_inner_texts())[:1]
    await words.fill(tenant)
    await expect(shown).to_have_count(1)
    await expect(page.locator("#refresh")).not_to_be_checked()
    # A part that is replaced all the same has its tools again.
    await page.locator("#due").evaluate(
        "part => { const copy = part.querySelector('table').cloneNode(true);"
        " delete copy.dataset.prepared; part.replaceChildren(copy); }"
    )
    await expect(words).to_have_value("")
    assert site.errors == []
