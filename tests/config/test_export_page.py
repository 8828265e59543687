"""The page behind a reminder's link, in a real browser: the code never leaves it but by the button."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Request, expect

from contracts.exports import PATH
from tests.config.archives import unpacked
from tests.config.builders import Config
from tests.config.errors.site import Site, on_a_port
from tests.config.test_export_links import a_token, left, uses
from tests.support.browser import browser
from tests.support.pages import overflow

__all__ = ["browser"]

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
BUTTON: Final = {"en": "Download the ZIP file", "de": "ZIP-Datei herunterladen"}


@pytest.fixture
async def site(config: Config, browser: Browser) -> AsyncIterator[Site]:
    async with on_a_port(config.app, browser) as site:
        yield site


async def test_the_keyboard_is_enough_and_no_address_ever_carries_the_code(
    config: Config, site: Site, tmp_path: Path
) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    page = await site.page(viewport={"width": 320, "height": 640})
    sent: list[Request] = []

    def note(request: Request) -> None:
        sent.append(request)

    page.on("request", note)

    await page.goto(f"{site.url}{PATH}?language=en#{token}")
    await expect(page.get_by_role("button", name=BUTTON["en"])).to_be_visible()
    assert token not in page.url
    # Who prefers the other language takes the code along.
    await page.get_by_role("link", name="Deutsch").press("Enter")
    button = page.get_by_role("button", name=BUTTON["de"])
    await expect(button).to_be_visible()
    assert token not in page.url
    assert await uses(config, tenant_id) == 0

    async with page.expect_download() as started:
        await button.press("Enter")
    download = await started.value
    assert download.suggested_filename == "keepword-2026-11-23.zip"
    await download.save_as(tmp_path / "export.zip")
    told = unpacked((tmp_path / "export.zip").read_bytes())
    assert len(told["datasources.json"]) == 1
    await expect(page.get_by_role("status")).to_contain_text("Ihr Browser lädt die Datei")
    assert await uses(config, tenant_id) == 1
    assert all(token not in request.url for request in sent)
    assert all(token not in request.headers.get("referer", "") for request in sent)
    assert await page.context.cookies() == []
    assert site.complaints == []


async def test_a_link_without_its_code_or_with_another_says_what_to_do(
    config: Config, site: Site
) -> None:
    page = await site.page(locale="de-DE")
    await page.goto(f"{site.url}{PATH}")
    await expect(page.get_by_role("alert")).to_contain_text("steht kein Code")
    await expect(page.get_by_role("button")).to_be_hidden()

    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    await page.goto(f"{site.url}{PATH}#{token[:-9]}")
    await page.get_by_role("button").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Dieser Link öffnet nichts")
    await config.order_erasure(tenant_id)
    await page.goto(f"{site.url}{PATH}?language=en#{token}")
    await page.get_by_role("button").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your data is erased")
    await config.erase()


async def test_axe_finds_nothing_in_any_light(config: Config, site: Site) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    page = await site.page(viewport={"width": 320, "height": 640})
    for language in BUTTON:
        for address in (f"{PATH}?language={language}", f"{PATH}?language={language}#{token}"):
            await page.goto("about:blank")
            await page.goto(f"{site.url}{address}")
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                violations = (await Axe().run(page)).response["violations"]
                assert violations == [], (address, scheme)
                assert await overflow(page) == 0, address
    assert await uses(config, tenant_id) == 0
