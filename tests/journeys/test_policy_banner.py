"""A change of the policy where nobody can be written to: a banner in the app, and the evidence of it."""

import os

import pytest
from playwright.async_api import expect

from devstack.journey import Journey
from devstack.stack import LocalStack
from tests.support.browser import browser
from tests.support.journey import Travellers, entrust
from tests.support.visits import Visits, visit

__all__ = ["browser", "visit"]

DRAFTS = "/staff/policies/drafts"


async def publish(journey: Journey, text: str) -> int:
    """Publish a revision by two people; return its number."""
    notifier, stack = journey.stack.endpoints.notifier, journey.stack
    told = {
        "by": "Kim Keeper",
        "text": f"# What we keep\n\n{text}",
        "summary_en": f"New: {text} <b>plain</b>",
        "summary_de": f"Neu: {text}",
        "effective_on": f"{stack.now():%Y-%m-%d}",
        "early_because": "The law demands it.",
    }
    drafted = await journey.http.post(f"{notifier}{DRAFTS}", data=told)
    assert drafted.status_code == 303, drafted.text
    number = int(drafted.headers["location"].rstrip("/").rpartition("/")[2])
    approved = await journey.http.post(
        f"{notifier}{DRAFTS}/{number}/approve", data={"by": "Robin Reader"}
    )
    assert approved.status_code == 303, approved.text
    return number


async def seen_in_app(journey: Journey, revision: int) -> str:
    page = await journey.http.get(
        f"{journey.stack.endpoints.notifier}/staff/policies/{revision}/coverage"
    )
    return page.text.partition("saw the notice in the app</dt><dd>")[2].partition("<")[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_what_has_changed_is_shown_until_somebody_has_seen_it(
    customer: Travellers, visit: Visits, theme: str
) -> None:
    acme = customer(f"acme-{theme}")
    await acme.install()
    number = await publish(acme, f"We keep less, in the {theme}.")
    before = await seen_in_app(acme, number)
    locale = "en_US" if theme == "light" else "de_DE"
    seen = await visit(acme, color_scheme=theme, locale_of_site=locale)
    await seen.until_ready()
    title = "Our privacy policy has a new version"
    banner = seen.app.get_by_role("region", name=title)
    button = banner.get_by_role("button", name="Understood")
    if theme == "dark":
        banner = seen.app.get_by_role("region", name="Unsere Datenschutzerklärung")
        button = banner.get_by_role("button", name="Verstanden")
    # Whoever cannot see it is told as well.
    await expect(seen.app.get_by_role("status").filter(has=banner)).to_be_visible()
    said = "<b>plain</b>" if theme == "light" else "Neu: We keep less"
    await expect(banner).to_contain_text(said)
    await expect(banner.get_by_role("link")).to_have_attribute(
        "href", f"{acme.stack.endpoints.notifier}/policy/{number}"
    )
    day = "2026" if theme == "light" else ".2026"
    await expect(banner.locator("time")).to_contain_text(day)
    assert seen.errors == []
    await seen.is_for_everybody()
    if folder := os.environ.get("KEEPWORD_PICTURES"):
        await seen.page.set_viewport_size({"width": 900, "height": 700})
        await seen.page.screenshot(path=f"{folder}/app-policy-banner-{theme}.png")

    async with seen.page.expect_response("**/policy/notice/seen") as noted:
        await button.press("Enter")
    assert (await noted.value).status == 204
    await expect(banner).to_have_count(0)
    assert await seen.run("document.activeElement.tagName") == "H2"
    assert int(await seen_in_app(acme, number)) == int(before) + 1

    again = await visit(acme)
    async with again.page.expect_response("**/policy/notice") as asked:
        await again.until_ready()
    assert (await asked.value).status == 204
    await expect(again.app.get_by_role("region", name=title)).to_have_count(0)
    assert again.errors == []


async def test_who_can_be_written_to_gets_a_letter_and_no_banner(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("written-to")
    await entrust(acme)
    await publish(acme, "We keep nothing.")
    seen = await visit(acme)
    async with seen.page.expect_response("**/policy/notice") as asked:
        await seen.until_ready()
    assert (await asked.value).status == 204


async def test_without_notifier_the_app_works_and_a_sight_that_is_not_noted_is_asked_again(
    stack: LocalStack, customer: Travellers, visit: Visits
) -> None:
    acme = customer("alone")
    await acme.install()
    await publish(acme, "We keep all.")
    seen = await visit(acme)
    await seen.until_ready()
    banner = seen.app.get_by_role("region", name="Our privacy policy")
    await seen.page.route("**/policy/notice/seen", lambda route: route.abort())
    await banner.get_by_role("button").click()
    await expect(seen.app.get_by_role("alert")).to_contain_text("We cannot be reached just now")
    await expect(banner.get_by_role("button")).to_be_enabled()

    stack.kill("notifier")
    try:
        alone = await visit(acme)
        await alone.until_ready()
        await expect(alone.app.get_by_role("heading", name="Datasources")).to_be_visible()
        await expect(alone.app.get_by_role("region", name="Our privacy policy")).to_have_count(0)
        await expect(alone.app.get_by_role("alert")).to_be_hidden()
    finally:
        await stack.start("notifier")
