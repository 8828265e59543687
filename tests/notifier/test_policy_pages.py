"""The pages of the policy: for anybody, without a script, by keyboard, in the dark, on a phone."""

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import feedparser
import pytest
import uvicorn
from playwright.async_api import Browser, Page, expect

from devstack.processes import LOOPBACK, free_port
from tests.notifier.builders import Notifier
from tests.notifier.policy_texts import FIRST, SECOND, publish, publish_in_force
from tests.support.browser import browser
from tests.support.pages import contrast, overflow

__all__ = ["browser"]

ATOM = "{http://www.w3.org/2005/Atom}"


async def get(notifier: Notifier, path: str) -> tuple[int, str]:
    async with notifier.client() as client:
        answer = await client.get(path)
    return answer.status_code, answer.text


async def test_before_the_first_revision_the_pages_say_so(notifier: Notifier) -> None:
    status, page = await get(notifier, "/policy")
    assert (status, "No policy has been published" in page) == (404, True)
    assert "No policy has been published" in (await get(notifier, "/policy/history"))[1]


async def test_the_one_in_force_is_shown_with_what_is_to_come(notifier: Notifier) -> None:
    await publish_in_force(notifier)
    two = await publish(notifier, SECOND)

    _, before = await get(notifier, "/policy")
    assert "Revision 1, in force since 23 November 2026" in before
    assert "From 24 December 2026 on, revision 2 is in force." in before
    assert "six months" in before
    assert "five months" in (await get(notifier, "/policy/2"))[1]
    assert "not in force yet" in (await get(notifier, "/policy/2"))[1]

    notifier.clock.set(two.effective_at)
    _, after = await get(notifier, "/policy")
    assert "Revision 2, in force since 24 December 2026" in after
    assert "five months" in after
    assert "no longer in force" in (await get(notifier, "/policy/1"))[1]


async def test_a_revision_that_cannot_wait_says_why(notifier: Notifier) -> None:
    await publish_in_force(notifier)
    assert "The law demands it." in (await get(notifier, "/policy/history"))[1]


NOT_THERE = (
    "/policy/2",
    "/policy/0",
    "/policy/-1",
    "/policy/9999999999999999999",
    "/policy/%C2%B2",
    "/policy/x",
    "/policy/diff/1...2",
    "/policy/diff/1...1",
    "/policy/diff/1",
    "/policy/diff/1..2",
    "/policy/diff/1...",
    "/policy/diff/<b>...1",
    "/policy/diff?from=1",
    "/policy/diff?from=1&to=x",
    "/staff/policies/2/coverage",
)


async def test_what_is_not_there_is_said_in_a_page_that_repeats_nothing(
    notifier: Notifier,
) -> None:
    await publish_in_force(notifier)
    for path in NOT_THERE:
        status, page = await get(notifier, path)
        assert (path, status) == (path, 404)
        assert "<h1>Not here</h1>" in page
        assert "<b>" not in page


async def test_any_two_are_compared_in_either_order(notifier: Notifier) -> None:
    await publish_in_force(notifier)
    await publish(notifier, SECOND)
    _, forwards = await get(notifier, "/policy/diff/1...2")
    _, backwards = await get(notifier, "/policy/diff/2...1")
    removed, added = (
        '<del><span class="unseen">[removed: </span>',
        '<ins><span class="unseen">[added: </span>',
    )
    assert f"{removed}six<" in forwards
    assert f"{added}five<" in forwards
    assert f"{removed}five<" in backwards
    assert f"{added}six<" in backwards
    async with notifier.client() as client:
        answer = await client.get("/policy/diff?from=2&to=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "diff/2...1")


async def test_pages_load_nothing_of_others_and_are_framed_by_nobody(notifier: Notifier) -> None:
    await publish_in_force(notifier)
    async with notifier.client() as client:
        for path in ("/policy", "/policy/history", "/policy/7"):
            headers = (await client.get(path)).headers
            assert "default-src 'none'; style-src 'self'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


async def test_the_feed_is_one_that_readers_understand(notifier: Notifier) -> None:
    await publish_in_force(notifier)
    await publish(notifier, SECOND)
    async with notifier.client() as client:
        answer = await client.get("/policy/feed.xml")
    assert answer.headers["content-type"].startswith("application/atom+xml")

    # What RFC 4287, section 4.1, demands of a feed and of its entries.
    feed = ET.fromstring(answer.content)
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    for element in (feed, *entries):
        for name in ("id", "title", "updated"):
            (one,) = element.findall(f"{ATOM}{name}")
            assert one.text
        relations = [link.get("rel") for link in element.findall(f"{ATOM}link")]
        assert relations.count("alternate") == 1
    assert feed.find(f"{ATOM}author/{ATOM}name") is not None
    assert len({entry.findtext(f"{ATOM}id") for entry in entries}) == 2

    read: Any = feedparser.parse(answer.content)
    assert not read.bozo
    assert [entry.title for entry in read.entries] == [
        "Revision 2, in force from 24 December 2026 on",
        "Revision 1, in force from 23 November 2026 on",
    ]
    assert read.entries[0].summary == "We keep less & for a shorter time."


async def test_an_empty_feed_is_a_feed(notifier: Notifier) -> None:
    _, feed = await get(notifier, "/policy/feed.xml")
    assert not feedparser.parse(feed).bozo


async def test_staff_see_coverage_in_development(notifier: Notifier) -> None:
    await notifier.tenant()
    await publish_in_force(notifier)
    status, page = await get(notifier, "/staff/policies/1/coverage")
    assert status == 200
    assert "uninformed</dt><dd>1</dd>" in page


# -- in a browser ---------------------------------------------------------------------------------


@dataclass
class Site:
    """Notifier's pages on a port of their own, and whoever looks at them."""

    url: str
    browser: Browser
    asked_for: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def open(self, path: str, **options: Any) -> Page:
        page = await (await self.browser.new_context(**options)).new_page()
        page.on(
            "console",
            lambda line: self.errors.append(line.text) if line.type == "error" else None,
        )
        page.on("request", lambda request: self.asked_for.append(request.url))
        await page.goto(f"{self.url}{path}")
        return page


@pytest.fixture
async def site(notifier: Notifier, browser: Browser) -> AsyncIterator[Site]:
    await publish_in_force(notifier, FIRST)
    await publish(notifier, SECOND)
    port = free_port()
    config = uvicorn.Config(notifier.app, host=LOOPBACK, port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield Site(f"http://{LOOPBACK}:{port}", browser)
    for context in browser.contexts:
        await context.close()
    server.should_exit = True
    await task


async def test_from_the_policy_to_a_difference_by_keyboard_without_a_script(site: Site) -> None:
    page = await site.open("/policy", java_script_enabled=False)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Privacy policy")
    await page.get_by_role("link", name="All revisions").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        "All revisions of the privacy policy"
    )
    await page.get_by_label("Compare revision").focus()
    await page.keyboard.press("2")
    await page.get_by_label("with revision").focus()
    await page.keyboard.press("1")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{site.url}/policy/diff/2...1")
    await expect(page.get_by_role("insertion").nth(1)).to_have_text("[added: six]")
    assert {url.removeprefix(site.url) for url in site.asked_for} == {
        "/policy",
        "/policy/history",
        "/policy/diff?from=2&to=1",
        "/policy/diff/2...1",
        "/pages/policies.css",
    }
    assert site.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("path", "selectors"),
    [
        ("/policy", (".quiet", ".note p", "article p", "a")),
        ("/policy/history", (".quiet", "button", "select")),
        ("/policy/diff/1...2", ("del", "ins", "article p", ".quiet")),
        ("/staff/policies/1/coverage", ("dt", "dd")),
    ],
    ids=("policy", "history", "difference", "coverage"),
)
async def test_it_can_be_read_in_any_light_on_a_narrow_screen(
    site: Site, scheme: Any, path: str, selectors: tuple[str, ...]
) -> None:
    page = await site.open(path, color_scheme=scheme, viewport={"width": 320, "height": 640})
    assert await overflow(page) == 0
    for selector in selectors:
        assert await contrast(page, selector) >= 4.5, selector
    assert site.errors == []


async def test_without_colour_a_difference_is_told_by_lines(site: Site) -> None:
    page = await site.open("/policy/diff/1...2", forced_colors="active")
    for selector, line in (("del", "line-through"), ("ins", "underline")):
        drawn = await page.locator(f"article {selector}").first.evaluate(
            "element => getComputedStyle(element).textDecorationLine"
        )
        assert drawn == line
