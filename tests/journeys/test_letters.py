"""Word to people, from the writer's page to the reader's mail, in a real browser."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from devstack.journey import Journey
from devstack.stack import LocalStack
from tests.support.browser import browser
from tests.support.journey import Travellers, entrust

__all__ = ["browser"]

WRITER, READER = "Kim Keeper", "Robin Reader"
SUBJECT = "Exports are faster"
FIRST = "# What we keep\n\nWe keep your name for six months."
DRAFTS = "/staff/policies/drafts"


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A browser in which every page has to come without an error."""
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []


async def publish_first(customer: Journey, stack: LocalStack) -> None:
    """Have a policy that a revision can change."""
    notifier = stack.endpoints.notifier
    told = {
        "by": WRITER,
        "text": FIRST,
        "summary_en": "The first one.",
        "summary_de": "Die erste.",
        "effective_on": f"{stack.now():%Y-%m-%d}",
        "early_because": "There was none.",
    }
    drafted = await customer.http.post(f"{notifier}{DRAFTS}", data=told)
    assert drafted.status_code == 303, drafted.text
    approved = await customer.http.post(f"{notifier}{DRAFTS}/1/approve", data={"by": READER})
    assert approved.status_code == 303, approved.text


async def subjects_to(journey: Journey, address: str) -> list[str]:
    """What has arrived at an address."""
    answer = await journey.http.get(f"{journey.stack.endpoints.mail}/messages.json")
    return [mail["subject"] for mail in answer.json() if address in mail["recipients"]]


async def watch_until_sent(page: Page, state: str) -> None:
    """Look on while the page tells by itself how a campaign goes."""
    await expect(page.locator(".stage")).to_have_text(state, timeout=30_000)
    await expect(page.locator("#course")).to_contain_text("1 of 1", timeout=30_000)


async def write_news(page: Page, notifier: str) -> None:
    """Write news for everybody, see it, and let a second person approve and schedule it."""
    await page.goto(f"{notifier}/staff/news")
    await page.get_by_role("link", name="Write news").click()
    await page.get_by_label("Subject, English").fill(SUBJECT)
    await page.get_by_label("Text, English").fill("They take **half** the time.")
    preview = page.frame_locator("#preview")
    await expect(preview.locator("strong")).to_have_text("half")
    await expect(page.locator("#recipients")).to_have_text("1")
    await page.get_by_role("textbox", name="Your name").fill(WRITER)
    await page.get_by_role("button", name="Save as a draft").click()
    for form, name in (("#approve", READER), ("#schedule", READER)):
        await page.locator(form).get_by_label("Your name").fill(name)
        await page.locator(form).get_by_role("button").click()


async def test_news_can_be_declined_and_a_change_of_the_policy_arrives_all_the_same(
    stack: LocalStack, customer: Travellers, page: Page
) -> None:
    acme, notifier = customer("acme"), stack.endpoints.notifier
    given = await entrust(acme)
    await publish_first(acme, stack)

    await write_news(page, notifier)
    await page.get_by_role("link", name="How it goes").click()
    await watch_until_sent(page, "Sent")

    await page.goto(stack.endpoints.mail)
    await page.get_by_role("link", name=SUBJECT).click()
    await expect(page.frame_locator("iframe").locator("strong")).to_have_text("half")
    link = page.frame_locator("iframe").get_by_role("link", name="Stop news about apps")
    await page.goto(str(await link.get_attribute("href")))
    await page.get_by_role("button", name="Unsubscribe").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("You get no more of this")

    await page.goto(f"{notifier}/staff/news/new")
    await page.get_by_label("Subject, English").fill("More")
    await page.get_by_label("Text, English").fill("And more.")
    await expect(page.locator("#checks")).to_contain_text("Nobody would get it")

    await page.goto(f"{notifier}/staff/policies")
    await page.get_by_role("link", name="Draft a revision").click()
    await page.get_by_label("Text, in Markdown").fill(FIRST.replace("six", "five"))
    await expect(page.frame_locator("#preview").locator("article")).to_contain_text("five months")
    await page.get_by_label("What it changes, English").fill("We keep names for less long.")
    await page.get_by_label("What it changes, German").fill("Wir speichern Namen kürzer.")
    await page.get_by_label("In force from").fill(f"{stack.now():%Y-%m-%d}")
    await page.get_by_label("Why it cannot wait").fill("The law demands it.")
    await page.get_by_role("textbox", name="Your name").fill(WRITER)
    await page.get_by_role("button", name="Save as a draft").click()
    await expect(page.get_by_role("deletion").nth(1)).to_contain_text("six")
    await expect(page.get_by_role("insertion").nth(1)).to_contain_text("five")
    await page.get_by_role("textbox", name="Your name").fill(READER)
    await page.get_by_role("button", name="Publish as revision 2").click()
    await watch_until_sent(page, "Being sent")

    await page.goto(stack.endpoints.mail)
    await page.get_by_role("link", name="policy").first.click()
    body = page.frame_locator("iframe").locator("body")
    await expect(body).to_contain_text("We keep names for less long.")
    arrived = await subjects_to(acme, given.address)
    assert arrived.count(SUBJECT) == 1
    assert sum("policy" in subject for subject in arrived) == 2
