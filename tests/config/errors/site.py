"""Config on a port of its own, for a real browser."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from playwright.async_api import Browser, Page
from starlette.types import ASGIApp

from devstack.processes import LOOPBACK, free_port


@dataclass
class Site:
    """Where config's pages are, who looks at them, and what a browser complained of."""

    url: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    async def page(self, **options: Any) -> Page:
        """Open an empty page in a browser that was never used before."""
        page = await (await self.browser.new_context(**options)).new_page()
        page.on(
            "console",
            lambda line: self.complaints.append(line.text) if line.type == "error" else None,
        )
        page.on("request", lambda request: self._note(request.url))
        return page

    def _note(self, url: str) -> None:
        if not url.startswith((self.url, "about:")):
            self.complaints.append(url)


@asynccontextmanager
async def on_a_port(app: ASGIApp, browser: Browser) -> AsyncIterator[Site]:
    """Serve an application, and close what was opened of it in the end."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host=LOOPBACK, port=port, log_config=None, lifespan="off")
    )
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    yield Site(f"http://{LOOPBACK}:{port}", browser)
    for context in browser.contexts:
        await context.close()
    server.should_exit = True
    await task
