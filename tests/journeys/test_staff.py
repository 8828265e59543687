"""Staff sign on in a real browser, at a provider, and see what their roles open and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from devstack.identity import PEOPLE
from devstack.stack import LocalStack, start_local_stack
from tests.support.browser import browser
from tests.support.journey import without_given_servers
from tests.support.pages import overflow

__all__ = ["browser"]

# One page of each service, and who may see it.
PAGES = {
    "purger": ("/staff/board", {"sam", "pat", "priya", "olga"}),
    "config": ("/staff/errors", {"dana"}),
    "notifier": ("/staff/news", {"max"}),
    "installer": ("/staff/dead-letters", {"dana", "olga"}),
}


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    folder = tmp_path_factory.mktemp("staff")
    async with await start_local_stack(
        folder, environment=without_given_servers(), sign_on=True
    ) as running:
        yield running


async def sign_on(page: Page, url: str, subject: str) -> None:
    """Go to a page of staff's and say at the provider who one is."""
    await page.goto(url)
    await page.get_by_role("button", name=subject, exact=True).click()


async def test_each_role_sees_its_own_pages_and_is_refused_the_others(
    stack: LocalStack, browser: Browser
) -> None:
    for subject, (name, roles) in PEOPLE.items():
        if not roles or subject == "priya":
            continue
        context = await browser.new_context()
        page = await context.new_page()
        for service, (path, readers) in PAGES.items():
            await sign_on(page, f"{stack.endpoints.of(service)}{path}", subject)
            refused = page.get_by_role("heading", name="This is not open to you")
            if subject in readers:
                await expect(refused).to_have_count(0)
                await expect(page).to_have_url(f"{stack.endpoints.of(service)}{path}")
            else:
                await expect(refused).to_be_visible()
        await page.goto(f"{stack.endpoints.purger}/staff")
        await expect(page.get_by_role("heading", name=name)).to_be_visible()
        await context.close()


async def test_whose_groups_give_no_role_is_not_signed_on(
    stack: LocalStack, browser: Browser
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await sign_on(page, f"{stack.endpoints.purger}/staff", "nobody")
    await expect(page.get_by_role("heading", name="You are not signed on")).to_be_visible()
    cookies = {each["name"] for each in await context.cookies()}
    assert "__Host-keepword-purger" not in cookies
    await context.close()


async def test_the_brake_is_pulled_in_the_persons_own_name_and_signing_out_ends_it(
    stack: LocalStack, browser: Browser, tmp_path: Path
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    board, start = (f"{stack.endpoints.purger}{path}" for path in ("/staff/board", "/staff"))
    await sign_on(page, board, "pat")
    await expect(page.get_by_text("Signed on as Pat").first).to_be_visible()
    await expect(page.get_by_label("Your name")).to_have_count(0)
    await page.get_by_role("button", name="Pull it").click()
    await expect(page.get_by_text("Noted. The brake holds.")).to_be_visible()
    answer = await page.request.get(f"{stack.endpoints.purger}/staff/brake")
    assert (await answer.json())["pulled_by"] == "pat"
    audit = await asyncpg.connect(stack.databases["purger"].runtime_url)
    written = await audit.fetch(
        "SELECT act FROM audit_entries WHERE subject = 'pat' ORDER BY number"
    )
    await audit.close()
    assert [row["act"] for row in written][-2:] == ["sign-on", "POST /staff/brake/pulls"]

    await page.goto(start)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        await page.screenshot(path=tmp_path / f"staff-start-{scheme}.png")
    await page.set_viewport_size({"width": 360, "height": 640})
    assert await overflow(page) == 0
    await page.get_by_role("button", name="Sign out").press("Enter")
    await expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    await page.goto(board)
    await expect(page.get_by_role("button", name="pat", exact=True)).to_be_visible()
    await context.close()
