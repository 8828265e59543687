"""A real browser for journeys: the Chromium of this machine."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Find this machine's Chromium."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium without a window; a test that needs it is skipped where there is none, but not in CI."""
    found = chromium()
    if found is None:
        missing = "there is no Chromium on this machine; `apt-get install chromium` brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=found)
        yield running
        await running.close()
