"""Staff sign on in a real browser, at a provider, and see what their roles open and nothing else."""

import asyncio
import csv
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from chassis.staff.people import Role
from contracts.topics import SERVICES
from devstack.identity import PEOPLE
from devstack.stack import LocalStack, start_local_stack
from tests.support.browser import browser
from tests.support.journey import without_given_servers
from tests.support.pages import overflow
from tests.support.staff import sign_on

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


# All that stands in the navigation of the four services.
NAVIGATION = {
    "sam": {"Tenants", "Grants", "Purges", "Access"},
    "dana": {"Tenants", "Grants", "Errors", "Usage", "Dead letters", "Access"},
    "pat": {"Tenants", "Grants", "Purges", "Privacy policy", "Audit", "Access"},
    "max": {"News", "Usage", "Access"},
    "olga": {"Tenants", "Purges", "Dead letters", "Access"},
}


async def test_the_navigation_leads_each_role_to_all_of_its_pages_and_axe_finds_nothing(
    stack: LocalStack, browser: Browser
) -> None:
    looked_at: set[str] = set()
    for subject, wanted in NAVIGATION.items():
        context = await browser.new_context(viewport={"width": 360, "height": 640})
        page = await context.new_page()
        found: set[str] = set()
        for service in SERVICES:
            await sign_on(page, f"{stack.endpoints.of(service)}/staff", subject)
            await expect(page.locator("[aria-current=true]")).to_have_text(service)
            pages = page.get_by_role("navigation", name=f"Pages of {service}").get_by_role("link")
            names = await pages.all_inner_texts()
            found |= set(names)
            for name in names:
                await pages.get_by_text(name, exact=True).click()
                await expect(page.locator("[aria-current=page]")).to_have_text(name)
                await expect(page.locator("main h1")).to_be_visible()
                if page.url not in looked_at:
                    looked_at.add(page.url)
                    await is_for_everybody(page)
        assert found == wanted, subject
        await context.close()


async def is_for_everybody(page: Page) -> None:
    """Hold a page against axe in both themes, and against a narrow screen."""
    assert await overflow(page) == 0, page.url
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found = await Axe().run(page)
        assert found.violations_count == 0, f"{page.url}: {found.generate_report()}"


async def test_a_table_is_sorted_filtered_and_taken_along_by_keyboard(
    stack: LocalStack, browser: Browser
) -> None:
    context = await browser.new_context(accept_downloads=True)
    page = await context.new_page()
    await sign_on(page, f"{stack.endpoints.purger}/staff/access", "olga")
    rows = page.locator("tbody tr:visible")
    everything = await rows.count()
    sort = page.get_by_role("columnheader", name="Route").get_by_role("button")
    await sort.press("Enter")
    up = await rows.locator("td:nth-child(2)").all_inner_texts()
    await sort.press("Enter")
    assert await rows.locator("td:nth-child(2)").all_inner_texts() == up[::-1]
    await expect(page.get_by_role("columnheader", name="Route")).to_have_attribute(
        "aria-sort", "descending"
    )
    await page.get_by_label("Only rows with").press_sequentially("brake POST")
    await expect(page.get_by_role("status")).to_have_text(f"2 of {everything}")
    async with page.expect_download() as begun:
        await page.get_by_role("button", name="These rows as CSV").press("Enter")
    download = await begun.value
    assert download.suggested_filename == "access to purger.csv"
    lines = list(csv.reader((await download.path()).read_text().splitlines()))
    assert lines[0] == ["What it does", "Route", *Role]
    assert {line[1] for line in lines[1:]} == {
        "POST /staff/brake/pulls",
        "POST /staff/brake/releases",
    }
    await page.goto(f"{stack.endpoints.purger}/staff")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="To the content")).to_be_focused()
    await context.close()


async def test_the_command_signs_on_at_a_port_of_this_machine_and_asks_in_the_persons_name(
    stack: LocalStack, browser: Browser, tmp_path: Path
) -> None:
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    keepword = str(Path(sys.executable).with_name("keepword"))

    async def ask(service: str, path: str) -> tuple[int, str, str]:
        asked = await asyncio.create_subprocess_exec(
            *(keepword, "staff", "ask", service, path, "--state", str(stack.folder)),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await asked.communicate()
        return asked.returncode or 0, said.decode(), errors.decode()

    status, _, errors = await ask("installer", "/staff/tenants")
    assert (status, "keepword staff sign-on" in errors) == (2, True)

    assert stack.endpoints.identity is not None
    signing_on = await asyncio.create_subprocess_exec(
        *(keepword, "staff", "sign-on", "--issuer", stack.endpoints.identity, "--no-browser"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert signing_on.stderr is not None
    await signing_on.stderr.readline()
    url = (await signing_on.stderr.readline()).decode().strip()
    context = await browser.new_context()
    page = await context.new_page()
    # An answer to another sign-on changes nothing.
    [back] = parse_qs(urlsplit(url).query)["redirect_uri"]
    for odd in ("", "?state=x&code=y", "?code=y", "?state=x&error=access_denied"):
        assert (await page.request.get(f"{back}{odd}")).status == 400
    assert (await page.request.get(f"{back}x")).status == 400
    await sign_on(page, url, "sam")
    await expect(page.get_by_text("You are signed on.")).to_be_visible()
    rest = (await signing_on.stderr.read()).decode()
    assert await signing_on.wait() == 0, rest
    assert "Signed on as Sam" in rest
    kept = tmp_path / "keepword" / "staff.json"
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600  # noqa: PTH116 - in a coroutine

    status, said, _ = await ask("installer", "/staff/tenants")
    assert (status, json.loads(said)) == (0, {"tenants": []})
    status, said, errors = await ask("notifier", "/staff/audit")
    assert (status, said) == (1, "")
    assert "403 None of your roles may do this." in errors
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
    await expect(page.locator(".who")).to_contain_text("Pat")
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
