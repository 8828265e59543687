"""The pages on which staff write what is sent: their words kept, their mistakes told, any light."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from fastapi.routing import iter_route_contexts
from playwright.async_api import Browser, Page, expect

from chassis.service import build_app
from devstack.mail import Answer, Moment
from devstack.processes import LOOPBACK, free_port
from services.notifier.app import build
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.news import Stage
from tests.notifier.builders import Notifier, dkim_file, settings_for
from tests.notifier.news_texts import (
    ENGLISH,
    GERMAN,
    READER,
    WRITER,
    approve,
    jobs,
    kept,
    send,
    write,
)
from tests.notifier.policy_texts import FIRST, IN_TIME, SECOND, draft, publish_in_force
from tests.support.browser import browser
from tests.support.pages import overflow

__all__ = ["browser"]

NEWS = "/staff/news"
DRAFTS = "/staff/policies/drafts"
FORM = {
    "by": WRITER,
    "kind": Kind.PRODUCT_UPDATE.value,
    "subject_en": ENGLISH[0],
    "text_en": ENGLISH[1],
    "subject_de": GERMAN[0],
    "text_de": GERMAN[1],
}
POLICY = {
    "by": WRITER,
    "text": SECOND,
    "summary_en": "We keep less.",
    "summary_de": "Wir speichern weniger.",
    "effective_on": f"{IN_TIME}",
}


@pytest.fixture
async def client(notifier: Notifier) -> AsyncIterator[httpx2.AsyncClient]:
    async with notifier.client() as client:
        yield client


async def post(client: httpx2.AsyncClient, path: str, **form: Any) -> httpx2.Response:
    return await client.post(path, data=form)


async def test_news_goes_from_the_editor_to_the_mail(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await notifier.tenant("ada@c.example")
    made = await post(client, NEWS, **FORM)
    assert made.status_code == 303
    campaign_id = UUID(made.headers["location"].removeprefix("news/").removesuffix("?kept"))
    page = f"{NEWS}/{campaign_id}"
    assert '<strong id="recipients">1</strong> person would' in (await client.get(page)).text

    own = await post(client, f"{page}/approve", by=WRITER, version=1)
    assert (own.status_code, "cannot approve" in own.text) == (422, True)
    approved = await post(client, f"{page}/approve", by=READER, version=1)
    assert (approved.status_code, approved.headers["location"]) == (303, f"../{campaign_id}")
    past = await post(client, f"{page}/schedule", by=WRITER, version=2, send_at="2020-01-01T10:00")
    assert (past.status_code, "That time is over" in past.text) == (422, True)
    no_time = await post(client, f"{page}/schedule", by=WRITER, version=2, send_at="soon")
    assert "That is no time" in no_time.text
    assert (await post(client, f"{page}/schedule", by=WRITER, version=2)).status_code == 303

    await jobs(notifier).plan()
    course = f"/staff/campaigns/{campaign_id}"
    assert "Being sent" in (await client.get(course)).text
    assert (await post(client, f"{course}/pause", by="")).status_code == 409
    assert (await post(client, f"{course}/pause", by=WRITER)).status_code == 303
    assert await notifier.mail.run() == 0
    assert (await post(client, f"{course}/resume", by=WRITER)).status_code == 303
    await notifier.mail.run()
    await jobs(notifier).finish()
    assert [mail.subject for mail in notifier.mails] == [ENGLISH[0]]
    told = (await client.get(course)).text
    assert "1 of 1" in told
    assert "Kim Keeper paused it" in told
    late = await post(client, page, **FORM, version=3)
    assert (late.status_code, "cannot be changed any more" in late.text) == (422, True)


async def test_what_cannot_be_kept_stays_in_the_editor_with_the_reason(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    typed = FORM | {"subject_en": "a\nBcc: eve@x.example", "text_de": "Meine <b>Worte</b>"}
    refused = await post(client, NEWS, **typed)
    assert refused.status_code == 422
    assert 'role="alert"' in refused.text
    assert "on one line" in refused.text
    assert "Meine &lt;b&gt;Worte&lt;/b&gt;" in refused.text
    for wrong in ({"by": " "}, {"text_en": "a\x00b"}, {"kind": "receipt"}, {"region": "\x00"}):
        assert (await post(client, NEWS, **(FORM | wrong))).status_code == 422
    assert await notifier.runtime.fetchval("SELECT count(*) FROM product_news") == 0


async def test_of_two_editors_the_second_sees_both_texts(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    campaign_id = await write(notifier)
    page = f"{NEWS}/{campaign_id}"
    first = await post(client, page, **(FORM | {"subject_en": "First", "version": "1"}))
    assert first.status_code == 303
    second = FORM | {"subject_en": "Second", "by": READER}
    overtaken = await post(client, page, **second, version=1)
    assert overtaken.status_code == 409
    assert "Kim Keeper changed it meanwhile" in overtaken.text
    assert "English: First" in overtaken.text
    assert 'value="Second"' in overtaken.text
    assert (await post(client, page, **second, version=2)).status_code == 303
    assert (await kept(notifier, campaign_id)).version == 3


async def test_what_the_check_list_calls_bad_is_not_approved(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    campaign_id = await write(notifier)
    changed = FORM | {"text_en": "See [this](http://x.example) {{ name }}", "version": "1"}
    assert (await post(client, f"{NEWS}/{campaign_id}", **changed)).status_code == 303
    refused = await post(client, f"{NEWS}/{campaign_id}/approve", by=READER, version=2)
    assert "It cannot be sent so." in refused.text
    assert (await kept(notifier, campaign_id)).stage is Stage.DRAFT


async def test_a_test_goes_to_one_address_and_leaves_no_trace(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    campaign_id = await write(notifier)
    page = f"{NEWS}/{campaign_id}/test"
    sent = await post(client, page, address="Try@Out.example", language="de")
    assert (sent.status_code, "The mail server took it." in sent.text) == (200, True)
    [mail] = notifier.mails
    assert (mail.subject, mail.recipients) == (f"[Test] {GERMAN[0]}", ("Try@Out.example",))
    assert "try@out.example" not in (await notifier.everything()).lower()
    assert await notifier.worker.fetchval("SELECT count(*) FROM deliveries") == 0

    for address in ("", "nobody", "a@b.example\r\nBcc: eve@x.example", "a b@c.example"):
        wrong = await post(client, page, address=address)
        assert (wrong.status_code, "is no address" in wrong.text) == (422, True)
    notifier.sink.mailbox.fail_next(Answer.REFUSE, Moment.BEFORE_DATA)
    refused = await post(client, page, address="try@out.example")
    assert (refused.status_code, "refuses it (550)" in refused.text) == (422, True)
    assert len(notifier.mails) == 1


async def test_a_preview_is_the_letter_and_runs_nothing(client: httpx2.AsyncClient) -> None:
    told = FORM | {"text_en": "<script>alert(1)</script> **bold**", "language": "en"}
    light = await post(client, f"{NEWS}/preview", **told)
    assert "&lt;script&gt;" in light.text
    assert "<strong>bold</strong>" in light.text
    assert "@media not all" in light.text
    assert "script-src" not in light.headers["content-security-policy"]
    assert "default-src 'none'" in light.headers["content-security-policy"]
    dark = await post(client, f"{NEWS}/preview", **told, light="dark")
    assert "@media all" in dark.text
    text = await post(client, f"{NEWS}/preview", **(told | {"view": "text", "language": "de"}))
    assert "Guten Tag Ada Example" in text.text
    half = await post(client, f"{NEWS}/preview", by="")
    assert (half.status_code, "Nothing to show yet" in half.text) == (200, True)
    checks = await post(client, f"{NEWS}/checks", **told)
    assert "Nobody would get it" in checks.text
    assert "<html" not in checks.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_form_changes_nothing(
    notifier: Notifier, client: httpx2.AsyncClient, site: str
) -> None:
    answer = await client.post(NEWS, data=FORM, headers={"sec-fetch-site": site})
    assert answer.status_code == 403
    assert await notifier.runtime.fetchval("SELECT count(*) FROM product_news") == 0


async def test_what_is_not_there_is_said_in_a_page(client: httpx2.AsyncClient) -> None:
    unknown = UUID(int=7)
    for path in (f"{NEWS}/{unknown}", f"{NEWS}/x", f"{DRAFTS}/7", f"{DRAFTS}/x"):
        assert (await client.get(path)).status_code == 404
    assert (await client.get(f"/staff/campaigns/{unknown}")).status_code == 404
    for path in (
        *(f"{NEWS}/{unknown}{verb}" for verb in ("", "/approve", "/schedule", "/test")),
        f"/staff/campaigns/{unknown}/erase",
        f"{DRAFTS}/x/approve",
    ):
        assert (await post(client, path, **FORM)).status_code == 404


def test_without_a_provider_staff_pages_are_there_in_development_only(
    notifier: Notifier, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def paths(*, development: bool) -> set[str]:
        folder = tmp_path_factory.mktemp("settings")
        settings = settings_for(
            notifier.roles, folder, development=development, dkim_file=dkim_file(folder)
        )
        app = build_app(build(settings), asyncio.Event())
        return {str(route.path) for route in iter_route_contexts(app.routes)}

    assert f"{NEWS}/{{news}}" in paths(development=True)
    without = paths(development=False)
    assert not any(path.startswith(("/development", "/staff", "/sign-on")) for path in without)


async def test_a_revision_is_drafted_compared_and_published_by_two(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await publish_in_force(notifier)
    assert "five months" not in (await client.get(f"{DRAFTS}/new")).text
    soon = await post(client, DRAFTS, **(POLICY | {"effective_on": "2026-11-24"}))
    assert (soon.status_code, "30 days before" in soon.text) == (422, True)
    for wrong in ({"effective_on": "x"}, {"by": ""}, {"text": "a\x00b"}, {"summary_de": ""}):
        assert (await post(client, DRAFTS, **(POLICY | wrong))).status_code == 422

    made = await post(client, DRAFTS, **POLICY)
    assert (made.status_code, made.headers["location"]) == (303, "drafts/2")
    page = await client.get(f"{DRAFTS}/2")
    assert "[added: </span>five" in page.text
    assert "five months" in (await client.get(f"{DRAFTS}/new?from=2")).text

    own = await post(client, f"{DRAFTS}/2/approve", by=WRITER)
    assert (own.status_code, "cannot approve" in own.text) == (422, True)
    published = await post(client, f"{DRAFTS}/2/approve", by=READER)
    assert published.headers["location"].startswith("../../../campaigns/")
    listed = (await client.get("/staff/policies")).text
    assert "Revision 2" in listed
    assert "None that could be published." in listed
    assert "published, as" in (await client.get(f"{DRAFTS}/2")).text


async def test_a_revision_is_seen_as_page_and_as_mail_before(client: httpx2.AsyncClient) -> None:
    page = await post(client, f"{DRAFTS}/preview", **POLICY)
    assert "five months" in page.text
    mail = await post(client, f"{DRAFTS}/preview", **POLICY, view="mail", language="de")
    assert "Wir speichern weniger." in mail.text
    text = await post(client, f"{DRAFTS}/preview", by="", view="text")
    assert "Revision 1 is in force" in text.text
    nothing = await post(client, f"{DRAFTS}/preview", text="", light="dark")
    assert "Nothing to show yet" in nothing.text


# -- in a browser ---------------------------------------------------------------------------------


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass
class Site:
    """Notifier's pages on a port of their own, and whoever looks at them."""

    url: str
    browser: Browser
    errors: list[str] = field(default_factory=list)

    async def open(self, path: str, **options: Any) -> Page:
        page = await (await self.browser.new_context(**options)).new_page()
        page.on(
            "console",
            lambda line: self.errors.append(line.text) if line.type == "error" else None,
        )
        page.on("request", lambda request: self._note(request.url))
        await page.goto(f"{self.url}{path}")
        return page

    def _note(self, url: str) -> None:
        if not url.startswith((self.url, "about:")):
            self.errors.append(url)


@pytest.fixture
async def site(notifier: Notifier, browser: Browser) -> AsyncIterator[Site]:
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


async def test_what_is_typed_is_seen_at_once_by_keyboard_alone(
    notifier: Notifier, site: Site
) -> None:
    await notifier.tenant("ada@c.example")
    page = await site.open(f"{NEWS}/new")
    preview = page.frame_locator("#preview")
    await expect(preview.get_by_text("Nothing to show yet")).to_be_visible()
    await page.get_by_label("Subject, English").focus()
    await page.keyboard.type("Hello")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Some **bold** words")
    await expect(preview.get_by_role("heading", level=1)).to_have_text("Hello")
    await expect(preview.locator("strong")).to_have_text("bold")
    await expect(page.locator("#recipients")).to_have_text("1")
    await expect(page.get_by_label("Text, English")).to_be_focused()

    background = "getComputedStyle(document.body).backgroundColor"
    frame = page.frame("preview")
    assert frame is not None
    before = await frame.evaluate(background)
    await page.get_by_label("Dark").focus()
    await page.keyboard.press("Space")
    async with asyncio.timeout(10):
        # Not by the page's own waiting, which its Content-Security-Policy forbids.
        while await page.evaluate(
            f"frames.preview.document.body && frames.preview.{background}"
        ) in (
            None,
            before,
        ):
            await asyncio.sleep(0.05)
    await page.get_by_label("Phone").check()
    # While a page is put into it, it is another one, which has no place yet.
    async with asyncio.timeout(10):
        while (shown := await page.locator("#preview").bounding_box()) is None:
            await asyncio.sleep(0.05)
    assert shown["width"] == 375
    await page.get_by_label("Plain text").check()
    await expect(preview.locator("pre")).to_contain_text("Some bold words")
    history = await page.evaluate("history.length")
    await page.get_by_label("Subject, English").fill("Hello again")
    await expect(page.locator(".checks")).to_contain_text("11 letters")
    assert await page.evaluate("history.length") == history

    await page.get_by_label("Your name").fill(WRITER)
    await page.get_by_role("button", name="Save as a draft").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello again")
    assert site.errors == []


async def test_axe_finds_nothing_in_any_light_on_a_narrow_screen(
    notifier: Notifier, site: Site
) -> None:
    await notifier.tenant("ada@c.example")
    await publish_in_force(notifier, FIRST)
    draft_id = await draft(notifier, SECOND)
    written, sent, ready = await write(notifier), await send(notifier), await write(notifier)
    await approve(notifier, ready)
    found = {}
    page = await site.open(NEWS, viewport={"width": 320, "height": 640})
    for path in (
        NEWS,
        *(f"{NEWS}/{each}" for each in (written, ready, sent)),
        f"/staff/campaigns/{sent}",
        f"{DRAFTS}/new",
        f"{DRAFTS}/{draft_id}",
    ):
        await page.goto(f"{site.url}{path}")
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            broken = (await Axe().run(page, options={"iframes": False})).response["violations"]
            if broken or await overflow(page):
                found[scheme, path] = [
                    (each["id"], [node["target"] for node in each["nodes"]]) for each in broken
                ]
    assert found == {}
    assert site.errors == []
