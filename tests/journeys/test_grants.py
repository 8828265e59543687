"""Support reads a tenant's query under a grant, the customer sees it, and the grant ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import asyncpg
import httpx2
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect
from typer.testing import CliRunner, Result

from cli.main import command_line
from devstack.journey import Journey
from devstack.stack import LocalStack, start_local_stack
from tests.support.browser import browser
from tests.support.journey import Travellers, without_given_servers
from tests.support.pages import overflow
from tests.support.staff import sign_on
from tests.support.visits import Visit, Visits, visit

__all__ = ["browser", "visit"]

QUERY: Final = "SELECT month, sum(total)\n  FROM orders\n WHERE region = :region\n GROUP BY month"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    folder = tmp_path_factory.mktemp("grants")
    async with await start_local_stack(
        folder, environment=without_given_servers(), sign_on=True
    ) as running:
        yield running


async def staff_page(browser: Browser, url: str, subject: str) -> Page:
    """Sign somebody on in a browser of their own, and open a page."""
    context = await browser.new_context(viewport={"width": 1100, "height": 900})
    page = await context.new_page()
    await sign_on(page, url, subject)
    return page


@pytest.fixture
async def customer(stack: LocalStack, browser: Browser) -> AsyncIterator[Travellers]:
    """As for other journeys; here a tenant is looked up by somebody who is signed on."""
    page = await staff_page(browser, f"{stack.endpoints.installer}/staff", "sam")
    await expect(page.get_by_role("heading", name="Sam")).to_be_visible()
    [session] = [
        each for each in await page.context.cookies() if each["name"] == "__Host-keepword-installer"
    ]
    headers = {
        "cookie": f"{session['name']}={session['value']}",
        "sec-fetch-site": "same-origin",
    }
    async with httpx2.AsyncClient(headers=headers) as http:
        yield lambda site: Journey(stack, http, site)


async def is_good(page: Page, name: str) -> None:
    """Let axe look at a page in both themes and on a phone; keep pictures where somebody wants them."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        if folder := os.environ.get("KEEPWORD_PICTURES"):
            await page.screenshot(path=f"{folder}/staff-{name}-{scheme}.png", full_page=True)
    await page.set_viewport_size({"width": 360, "height": 640})
    assert await overflow(page) == 0
    await page.set_viewport_size({"width": 1100, "height": 900})


async def make_query(journey: Journey, stack: LocalStack) -> str:
    await journey.install()
    # It waits until config knows the tenant.
    await journey.add_datasource("Later", url="https://a.example", username="a", credentials="b")
    async with httpx2.AsyncClient(
        base_url=f"{stack.endpoints.config}/api/v1", headers=await journey.open_session()
    ) as client:

        async def make(plural: str, **body: str) -> str:
            answer = await client.post(f"/{plural}", json=body)
            return str(answer.raise_for_status().json()["id"])

        source = await make(
            "datasources", name="Orders", kind="sql", url="postgresql://db.acme.example/orders"
        )
        return await make(
            "queries", name="Orders by month", kind="sql", text=QUERY, datasource_id=source
        )


async def your_data(visit: Visits, journey: Journey, **options: str) -> Visit:
    seen = await visit(journey, **options)
    await seen.until_ready()
    await seen.run("location.hash = '#/your-data'")
    await expect(seen.app.locator("article[data-path='your-data']")).to_be_visible()
    return seen


async def verify_audit() -> Result:
    command = ["audit", "verify", "config"]
    return await asyncio.to_thread(CliRunner().invoke, command_line(), command)


@dataclass(frozen=True)
class World:
    """Who takes part, and what it is about."""

    browser: Browser
    visit: Visits
    config: str
    acme: Journey
    query: str

    @property
    def wanted(self) -> str:
        return f"{self.config}/staff/tenants/{self.acme.tenant_id}/queries/{self.query}"

    async def staff(self, subject: str, url: str | None = None) -> Page:
        return await staff_page(self.browser, url or f"{self.config}/staff/grants", subject)

    async def is_refused(self, page: Page, why: str) -> None:
        answer = await page.goto(self.wanted)
        assert answer is not None
        assert answer.status == 403
        await expect(page.get_by_text(why)).to_be_visible()
        await expect(page.get_by_text("GROUP BY month")).to_have_count(0)


async def test_a_look_needs_a_grant_is_seen_by_the_customer_and_cannot_be_hidden(
    stack: LocalStack,
    browser: Browser,
    customer: Travellers,
    visit: Visits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acme = customer("acme")
    query = await make_query(acme, stack)
    world = World(browser, visit, stack.endpoints.config, acme, query)
    sam = await support_reads_the_query_under_a_grant(world)
    await the_customer_sees_that(world)
    await acme.move_to(stack.now() + timedelta(minutes=31))
    await world.is_refused(sam, "Your grant for this tenant is over.")
    await a_broken_glass_is_ended_and_reviewed(world)
    monkeypatch.setenv("KEEPWORD_CONFIG_DATABASE_URL", stack.databases["config"].runtime_url)
    await the_audit_is_whole_until_a_row_is_tampered_with(stack.databases["config"].owner_url)


async def support_reads_the_query_under_a_grant(world: World) -> Page:
    """Without one the page says how to ask: the way there is one link and one form."""
    sam = await world.staff("sam", world.wanted)
    await expect(sam.get_by_role("heading", name="This is not open to you")).to_be_visible()
    await is_good(sam, "grant-closed")
    await sam.get_by_role("link", name="Ask for a grant").press("Enter")
    await expect(sam.get_by_label("Tenant")).to_have_value(str(world.acme.tenant_id))
    await sam.get_by_label("What it is about").select_option("question")
    await sam.get_by_label("Ticket", exact=True).fill("SUP-4711")
    await sam.get_by_label("In words").fill("The months do not add up")
    await is_good(sam, "grant-ask")
    await sam.get_by_role("button", name="Ask").press("Enter")
    await expect(sam.get_by_role("heading", name="What a tenant keeps")).to_be_visible()
    await sam.get_by_role("link", name="Queries").press("Enter")
    await sam.get_by_role("link", name="Orders by month").press("Enter")
    await expect(sam.get_by_text("GROUP BY month")).to_be_visible()
    await is_good(sam, "grant-thing")
    return sam


async def the_customer_sees_that(world: World) -> None:
    """When, as what, why and at what; and not who."""
    english = await your_data(world.visit, world.acme)
    section = english.app.get_by_role("region", name="Who of us has looked at it")
    await expect(section).to_contain_text("Our support: Orders by month (Queries)")
    await expect(section).to_contain_text("Why: a question of yours, ticket SUP-4711")
    await expect(section).not_to_contain_text("months do not add up")
    german = await your_data(world.visit, world.acme, locale_of_site="de_DE", color_scheme="dark")
    await expect(german.app.get_by_text("Warum: eine Frage von Ihnen").first).to_be_visible()
    assert english.errors == german.errors == []
    for theme, each in (("light", english), ("dark", german)):
        await each.is_for_everybody()
        if folder := os.environ.get("KEEPWORD_PICTURES"):
            part = each.app.locator("section[aria-labelledby='looked']")
            await part.screenshot(path=f"{folder}/app-looks-{theme}.png")


async def a_broken_glass_is_ended_and_reviewed(world: World) -> None:
    dana = await world.staff("dana")
    await dana.get_by_label("Tenant").fill(str(world.acme.tenant_id))
    await dana.get_by_label("What it is about").select_option("security")
    await dana.get_by_label("In words").fill("The site is down and nobody can open a ticket")
    await dana.get_by_label("Break the glass").check()
    await dana.get_by_role("button", name="Ask").press("Enter")
    await expect(dana.get_by_role("heading", name="What a tenant keeps")).to_be_visible()
    await dana.goto(world.wanted)
    await expect(dana.get_by_text("You broke the glass")).to_be_visible()
    pat = await world.staff("pat")
    await expect(pat.get_by_text("1 broken glass waits for a review.")).to_be_visible()
    await is_good(pat, "grants")
    await pat.get_by_role("button", name="End the grant").press("Enter")
    await expect(pat.get_by_text("revoked by privacy")).to_be_visible()
    await world.is_refused(dana, "Your grant for this tenant was revoked.")
    await pat.get_by_role("link", name="Review", exact=True).press("Enter")
    await expect(pat.get_by_role("heading", name="Broken glasses to review")).to_be_visible()
    await is_good(pat, "grant-reviews")
    await pat.get_by_role("button", name="Not justified").press("Enter")
    await expect(pat.get_by_text("Nothing waits for a review.")).to_be_visible()
    again = await your_data(world.visit, world.acme)
    await expect(again.app.get_by_text("it was not justified").first).to_be_visible()


async def the_audit_is_whole_until_a_row_is_tampered_with(owner_url: str) -> None:
    whole = await verify_audit()
    assert whole.exit_code == 0, whole.output
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("ALTER TABLE audit_entries DISABLE TRIGGER ALL")
        number = await owner.fetchval(
            "UPDATE audit_entries SET subject = 'olga' WHERE number ="
            " (SELECT min(number) FROM audit_entries WHERE act = 'customer-data-accessed')"
            " RETURNING number"
        )
    finally:
        await owner.close()
    broken = await verify_audit()
    assert broken.exit_code == 3
    assert f"entry {number} is not what it was" in broken.output
