"""The stock SDK in a real browser: what goes wrong in a page arrives, and nobody's name with it."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, Request, Route

from services.config.routes.errors import ENVELOPES
from tests.config.builders import Config
from tests.config.errors.site import Site, on_a_port
from tests.config.errors.tenants import a_tenant, all_rows, rows
from tests.support.browser import browser

__all__ = ["browser"]

PERSON = "eve@customer.example"
PAGE = """
<!doctype html><title>An app's page</title>
<script src="/errors/reporter.js"></script>
<script>
  console.log("%(person)s looked");
  if (%(early)s) setTimeout(() => { throw new Error("early, for %(person)s"); });
  const begin = () =>
    keepwordErrors.start({ session: async () => "%(token)s", release: "reports@2.4.1" });
  const fail = () => {
    const reportsOf = (person) => person.reports.length;
    reportsOf({ name: "%(person)s" });
  };
  if (!%(early)s) begin();
</script>
<button onclick="fail()">%(person)s</button>
<button onclick="Promise.reject(new RangeError('no %(person)s'))">Reject</button>
"""


@pytest.fixture
async def site(config: Config, browser: Browser) -> AsyncIterator[Site]:
    async with on_a_port(config.app, browser) as site:
        yield site


async def open_page(
    config: Config, site: Site, tenant_id: UUID, *, early: bool = False
) -> tuple[Page, list[Request]]:
    """Open a page of the app, with a person in its address, and watch what it sends."""
    told = {
        "token": config.installer.token(tenant_id, config.clock.wall()),
        "early": "true" if early else "false",
        "person": PERSON,
    }

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body=PAGE % told)

    page = await site.page()
    sent: list[Request] = []

    def note(request: Request) -> None:
        sent.append(request)

    page.on("request", note)
    await page.route("**/app**", answer)
    async with page.expect_request("**/reporter.js"):
        await page.goto(
            f"{site.url}/app/{PERSON}?user_email={PERSON}&xdm_e=https://customer.example"
        )
    return page, sent


async def reported(page: Page, act: str) -> dict[str, Any]:
    """Do something in the page, and return the event that it sends once that is answered."""
    async with page.expect_response(f"**{ENVELOPES}") as answered:
        await page.evaluate(act)
    response = await answered.value
    assert response.status == 200
    header, item, event = (
        json.loads(line) for line in (response.request.post_data or "").split("\n")
    )
    assert item == {"type": "event"}
    assert header["dsn"].endswith("/1")
    assert response.request.url.endswith(ENVELOPES)
    told: dict[str, Any] = event
    return told


async def test_an_error_of_a_page_arrives_scrubbed(config: Config, site: Site) -> None:
    tenant_id = await a_tenant(config)
    page, sent = await open_page(config, site, tenant_id)
    event = await reported(page, "setTimeout(fail)")
    # Already the browser sends no more than is kept.
    assert set(event) <= {
        "event_id",
        "exception",
        "level",
        "platform",
        "release",
        "timestamp",
        "user",
        "sdk",
        "environment",
    }
    assert set(event["user"]) == {"id"}

    (group,) = await rows(config, "error_groups", tenant_id)
    assert (group["type"], group["reports"]) == ("TypeError", 1)
    assert group["message"] == "Cannot read properties of undefined (reading 'length')"
    assert group["culprit"] == "reportsOf in /app/[email]"
    (kept,) = await rows(config, "error_events", tenant_id)
    assert (kept["release"], kept["browser"], kept["handled"]) == ("reports@2.4.1", "Chrome", False)
    assert kept["tracking"] is not None

    rejected = await reported(page, "document.querySelectorAll('button')[1].click()")
    assert rejected["exception"]["values"][0]["type"] == "RangeError"
    assert rejected["user"] == event["user"]
    kept_rows = await all_rows(config, tenant_id)
    assert "no [email]" in repr(kept_rows)
    for told in ("eve@", "customer.example", "xdm_e", site.url, event["user"]["id"]):
        assert told not in repr(kept_rows), told

    # Nothing went anywhere else, and no session or click was told of.
    assert site.complaints == [text for text in site.complaints if "Uncaught" in text]
    assert len([each for each in sent if each.url.endswith(ENVELOPES)]) == 2
    assert await page.context.cookies() == []


async def test_what_goes_wrong_before_the_token_is_there_is_told_later(
    config: Config, site: Site
) -> None:
    tenant_id = await a_tenant(config)
    page, _ = await open_page(config, site, tenant_id, early=True)
    event = await reported(page, "begin()")
    assert event["exception"]["values"][0]["value"].startswith("early")
    (group,) = await rows(config, "error_groups", tenant_id)
    assert group["message"] == "early, for [email]"
    (kept,) = await rows(config, "error_events", tenant_id)
    assert kept["handled"] is False


async def test_a_page_that_may_not_report_works_the_same(config: Config, site: Site) -> None:
    tenant_id = await a_tenant(config)
    await config.order_erasure(tenant_id)
    page, sent = await open_page(config, site, tenant_id, early=True)
    async with page.expect_response("**/error-tokens") as answered:
        assert await page.evaluate("begin()") is None
    assert (await answered.value).status == 410
    await page.evaluate("setTimeout(fail)")
    assert await page.evaluate("document.title") == "An app's page"
    assert not [each for each in sent if each.url.endswith(ENVELOPES)]
    assert await all_rows(config, tenant_id) == []
