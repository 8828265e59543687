"""A person's visit to an app's page, in a real browser, in the frame of a customer's site."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Frame,
    FrameLocator,
    Locator,
    Page,
    Request,
    Response,
    expect,
)

from devstack.journey import Journey
from devstack.stack import LocalStack


@dataclass
class Visit:
    """One person's look at the page, and all that it made the browser do."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note what the browser asks for, and what it complains of."""
        self.page.on("request", self._note_request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note_line)

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)

    def _note_line(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.errors.append(line.text)

    @property
    def app(self) -> FrameLocator:
        return self.page.frame_locator("iframe")

    @property
    def state(self) -> Locator:
        return self.app.locator("#state")

    @property
    def frame(self) -> Frame:
        return next(each for each in self.page.frames if "/connect/" in each.url)

    async def run(self, script: str) -> Any:
        """Run a script in the app's page, as a screen of it would."""
        return await self.frame.evaluate(script)

    async def is_for_everybody(self) -> None:
        """Let axe look at the app's page; raises ``AssertionError`` with what it finds."""
        # Axe asks no more of a page than a frame can do.
        found = await Axe().run(self.frame)
        assert found.violations_count == 0, found.generate_report()

    async def until_ready(self) -> None:
        """Wait until there is a session, and a first screen."""
        await expect(self.app.locator("#screen article")).to_be_visible()

    async def renew(self) -> Response:
        """Renew the session, and return what the installer answered."""
        async with self.page.expect_response("**/session-tokens") as answer:
            await self.run("keepword.renew().catch(() => {})")
        return await answer.value


Visits = Callable[..., Awaitable[Visit]]


@pytest.fixture
async def visit(stack: LocalStack, browser: Browser) -> AsyncIterator[Visits]:
    """A function: opens the app's page at a site, in a browser that was never used before."""
    async with AsyncExitStack() as contexts:

        async def open_page(
            journey: Journey,
            *,
            clock: bool = False,
            locale_of_site: str = "en_US",
            administers: bool = True,
            **options: Any,
        ) -> Visit:
            context = await browser.new_context(**options)
            contexts.push_async_callback(context.close)
            if clock:
                await context.clock.install()
            page = await context.new_page()
            visit = Visit(page)
            visit.watch()
            address = f"{stack.endpoints.atlassian}/sites/{journey.site}/page"
            module = "&administration" if administers else ""
            await page.goto(f"{address}?locale={locale_of_site}{module}")
            return visit

        yield open_page
