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
from devstack.processes import LOOPBACK, free_port
from services.purger.routes.pages import Pages
from services.purger.routes.receipts import receipts_router
from tests.purger.builders import answer
from tests.purger.conftest import Purger
from tests.support.browser import browser

__all__ = ["browser"]


@dataclass
class Site:
    """Purger's pages on a port of their own, and whoever looks at them."""

    url: str
    browser: Browser
    errors: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)

    async def open(self, path: str, **options: Any) -> Page:
        context = await self.browser.new_context(**options)
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


async def overflow(page: Page) -> int:
    """How far the page is wider than its window."""
    width: int = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


async def contrast(page: Page, selector: str) -> float:
    """The contrast (WCAG 2.2) of an element's text with the page behind it."""
    ratio: float = await page.evaluate(
        """
        (selector) => {
          const luminance = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
              const share = part / 255;
              return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const element = document.querySelector(selector);
          let behind = element;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
            behind = behind.parentElement;
          }
          const text = luminance(getComputedStyle(element).color);
          const ground = luminance(getComputedStyle(behind).backgroundColor);
          return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        }
        """,
        selector,
    )
    return ratio


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
