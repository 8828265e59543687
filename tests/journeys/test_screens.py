"""The app's screens in a real browser, in the frame of a customer's site."""

from typing import Any

import pytest
from playwright.async_api import Browser, expect

from devstack.stack import LocalStack
from tests.support.browser import browser
from tests.support.journey import Travellers
from tests.support.visits import Visits, visit

__all__ = ["browser", "visit"]


async def test_the_app_speaks_the_sites_language_and_is_walked_by_its_navigation(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme, locale_of_site="de_DE")
    await seen.until_ready()
    app = seen.app
    await expect(app.get_by_role("heading", name="Datenquellen")).to_be_visible()
    await expect(app.get_by_role("link", name="Datenquellen", exact=True)).to_have_attribute(
        "aria-current", "page"
    )
    # Who opens the app keeps their place in the site's page.
    assert await seen.run("document.activeElement === document.body") is True

    await app.get_by_role("link", name="Vorlagen", exact=True).click()
    heading = app.get_by_role("heading", name="Vorlagen")
    await expect(heading).to_be_focused()
    await expect(app.locator("nav [aria-current]")).to_have_text("Vorlagen")
    assert await seen.run("location.hash") == "#/templates"
    await seen.run("history.back()")
    await expect(app.get_by_role("heading", name="Datenquellen")).to_be_focused()
    assert seen.errors == []


async def test_a_session_that_config_refuses_is_renewed_and_the_screen_comes(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await seen.until_ready()
    refused: list[str] = []

    async def refuse_once(route: Any) -> None:
        if refused:
            await route.continue_()
            return
        refused.append(route.request.url)
        await route.continue_(headers={**route.request.headers, "authorization": "Bearer old"})

    await seen.page.route("**/screens/queries", refuse_once)
    async with seen.page.expect_response("**/session-tokens") as renewed:
        await seen.app.get_by_role("link", name="Queries").click()
    assert (await renewed.value).status == 201
    await expect(seen.app.get_by_role("heading", name="Queries")).to_be_visible()
    assert len(refused) == 1


async def test_while_config_is_away_the_page_says_so_and_goes_on_by_a_button(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await seen.until_ready()
    await seen.page.route("**/screens/**", lambda route: route.abort())
    await seen.app.get_by_role("link", name="Templates").click()
    trouble = seen.app.get_by_role("alert")
    await expect(trouble).to_contain_text("What you have typed is still here")

    await seen.page.unroute_all()
    await trouble.get_by_role("button", name="Try again").click()
    await expect(seen.app.get_by_role("heading", name="Templates")).to_be_visible()
    await expect(trouble).to_be_hidden()


async def test_where_the_screens_cannot_be_loaded_at_all_the_next_session_tries_again(
    stack: LocalStack, customer: Travellers, visit: Visits, browser: Browser
) -> None:
    acme = customer("acme")
    await acme.install()
    context = await browser.new_context()
    page = await context.new_page()
    await page.route("**/screens/app.js", lambda route: route.abort())
    await page.goto(f"{stack.endpoints.atlassian}/sites/acme/page")
    app = page.frame_locator("iframe")
    await expect(app.locator("#state")).to_contain_text("We cannot be reached just now")
    await page.unroute_all()
    await app.get_by_role("button", name="Try now").click()
    await expect(app.get_by_role("heading", name="Datasources")).to_be_visible()
    await expect(app.locator("#state")).to_be_hidden()
    await context.close()


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [(410, "going", "is being erased"), (403, "left", "not installed any more")],
)
async def test_who_is_not_served_any_more_is_told_what_to_do_and_sees_no_screen(
    customer: Travellers, visit: Visits, status: int, reason: str, told: str
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await seen.until_ready()
    await seen.page.route(
        "**/screens/queries",
        lambda route: route.fulfill(
            status=status,
            content_type="application/problem+json",
            json={"status": status, "reason": reason},
            headers={"access-control-allow-origin": "*"},
        ),
    )
    await seen.app.get_by_role("link", name="Queries").click()
    await expect(seen.state).to_contain_text(told)
    await expect(seen.app.locator("#app")).to_be_hidden()


async def test_a_link_leads_to_screens_alone(customer: Travellers, visit: Visits) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await seen.until_ready()
    for path in ("../api/v1/datasources", "//evil.example/", "https://evil.example/", "/livez"):
        await seen.app.get_by_role("link", name="Queries").click()
        await expect(seen.app.get_by_role("heading", name="Queries")).to_be_visible()
        before = len(seen.requests)
        await seen.run(f"location.hash = '#/{path}'")
        await expect(seen.app.get_by_role("heading", name="Datasources")).to_be_visible()
        (asked,) = seen.requests[before:]
        assert asked.url.endswith("/screens/datasources")


async def test_an_error_of_the_page_arrives_without_the_person(
    stack: LocalStack, customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    tenant_id = await acme.install()
    seen = await visit(acme)
    await seen.until_ready()
    async with seen.page.expect_response("**/errors/envelopes") as answered:
        await seen.run("void setTimeout(() => { throw new TypeError('for ada@acme.example'); })")
    assert (await answered.value).status == 200
    board = await acme.http.get(f"{stack.endpoints.config}/staff/errors")
    assert "for [email]" in board.text
    assert "ada@acme.example" not in board.text
    assert await acme.rows()
    assert tenant_id


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_first_screens_are_for_everybody(
    customer: Travellers, visit: Visits, theme: str
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme, color_scheme=theme)
    await seen.until_ready()
    await seen.is_for_everybody()
