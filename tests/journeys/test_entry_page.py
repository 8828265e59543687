"""An app's page in a real browser, in the frame of a customer's site."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import (
    expect,
)

from devstack.stack import LocalStack
from tests.support.browser import browser
from tests.support.journey import Travellers
from tests.support.visits import Visits, visit

__all__ = ["browser", "visit"]

READY = "Your session is ready."
AWAY = "We cannot be reached just now"

# Counts what moves before a person has done anything.
SHIFTS = """
() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) sum += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => setTimeout(() => resolve(sum), 0));
})
"""


async def test_the_page_is_ready_in_the_sites_frame_and_tells_nobody(
    stack: LocalStack, customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await expect(seen.state).to_have_text(READY)
    await expect(seen.app.get_by_role("heading", level=1)).to_have_text("Example Reports")

    await seen.until_ready()
    assert await seen.run("document.documentElement.lang") == "en"
    assert await seen.run("document.title") == "Example Reports"
    assert await seen.run(SHIFTS) == 0
    assert seen.errors == []

    token = await seen.run("keepword.session()")
    ends = stack.endpoints
    ours = (ends.installer, ends.atlassian, ends.config, ends.notifier)
    assert all(request.url.startswith(ours) for request in seen.requests)
    entry, *others = (each for each in seen.requests if each.url.startswith(ours[0]))
    assert "jwt=eyJ" in entry.url
    assert {request.url.rpartition("/")[2] for request in others} == {"entry.css", "entry.js"}
    assert not [request for request in seen.requests if token in request.url]
    bridge = next(each for each in seen.requests if each.url.endswith("/all.js"))
    of_config = [each for each in seen.requests if each.url.startswith(ours[2])]
    assert {urlsplit(each.url).path for each in of_config} == {
        "/errors/reporter.js",
        "/api/v1/error-tokens",
        "/screens/app.js",
        "/screens/app.css",
        "/screens/shell",
        "/screens/datasources",
    }
    for request in (*others, bridge, *of_config):
        headers = await request.all_headers()
        assert "referer" not in headers
        assert not [name for name in headers if name.startswith("hx-")]
    assert "jwt" not in await seen.run("location.href")
    assert token not in await seen.run("document.documentElement.outerHTML")
    # Random, gone with the tab: by it a fault is counted once a browser.
    assert await seen.run(
        "[document.cookie, localStorage.length, Object.keys(sessionStorage)]"
    ) == ["", 0, ["keepword-tracking"]]
    assert await seen.page.context.cookies() == []


async def test_a_session_is_renewed_by_a_context_token_and_opens_config(
    stack: LocalStack, customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    await acme.add_datasource("orders", url="https://orders.example", username="a", credentials="b")
    seen = await visit(acme)
    await expect(seen.state).to_have_text(READY)

    answer = await seen.renew()
    assert answer.status == 201
    assert answer.url == f"{stack.endpoints.installer}/connect/com.example.reports/session-tokens"
    token = await seen.run("keepword.session()")
    assert token == (await answer.json())["token"]
    await expect(seen.state).to_have_text(READY)
    assert seen.errors == []

    async with httpx2.AsyncClient() as http:
        listed = await http.get(
            f"{stack.endpoints.config}/api/v1/datasources",
            headers={"authorization": f"Bearer {token}"},
        )
    assert [item["name"] for item in listed.json()["items"]] == ["orders"]


async def test_the_page_renews_its_session_before_it_ends_and_when_a_laptop_wakes(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme, clock=True)
    await expect(seen.state).to_have_text(READY)

    async with seen.page.expect_response("**/session-tokens") as answer:
        await seen.page.clock.fast_forward("12:01")
    assert await seen.run("keepword.session()") == (await (await answer.value).json())["token"]

    # Time goes on while timers stand still.
    await seen.page.clock.set_system_time(datetime.now(UTC) + timedelta(minutes=40))
    async with seen.page.expect_response("**/session-tokens") as answer:
        token = await seen.run("keepword.session()")
    assert token == (await (await answer.value).json())["token"]


async def test_while_the_installer_is_away_the_keyboard_is_enough_to_try_again(
    customer: Travellers, visit: Visits
) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme)
    await expect(seen.state).to_have_text(READY)
    token = await seen.run("keepword.session()")

    await seen.page.route("**/session-tokens", lambda route: route.abort())
    await seen.run("keepword.renew().catch(() => {})")
    await expect(seen.state).to_contain_text(AWAY)
    assert await seen.run("keepword.session()") == token

    await seen.page.unroute_all()
    button = seen.app.get_by_role("button", name="Try now")
    for _ in range(5):
        if await button.evaluate("button => button === document.activeElement"):
            break
        await seen.page.keyboard.press("Tab")
    await expect(button).to_be_focused()
    assert await button.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    await seen.page.keyboard.press("Enter")
    await expect(seen.state).to_have_text(READY)
    await expect(seen.app.locator("#app")).to_be_focused()


async def test_who_removes_the_app_while_it_is_open_is_told_what_that_means(
    stack: LocalStack, customer: Travellers, visit: Visits
) -> None:
    globex = customer("globex")
    await globex.install()
    seen = await visit(globex)
    await expect(seen.state).to_have_text(READY)
    # Made while the app is there: Atlassian makes none afterwards.
    made = await globex.http.get(f"{stack.endpoints.atlassian}/sites/globex/context-token")
    await seen.run(f"void (AP.context.getToken = (give) => give('{made.json()['token']}'))")

    await globex.uninstall()
    assert (await seen.renew()).status == 403
    await expect(seen.state).to_contain_text("The app is not installed any more")


async def test_a_page_of_a_site_that_left_says_what_to_do_and_holds_nothing(
    customer: Travellers, visit: Visits
) -> None:
    hooli = customer("hooli")
    await hooli.install()
    await hooli.uninstall()
    seen = await visit(hooli)
    heading = seen.app.get_by_role("heading", level=1)
    await expect(heading).to_have_text("The app is not installed any more")
    assert await seen.run("document.scripts.length") == 0
    assert await seen.run("window.keepword === undefined") is True


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_page_is_light_or_dark_as_the_person_or_the_site_wants(
    customer: Travellers, visit: Visits, theme: str
) -> None:
    acme = customer("acme")
    await acme.install()
    colour = "getComputedStyle(document.body).backgroundColor"
    wanted = {"light": "rgb(255, 255, 255)", "dark": "rgb(31, 31, 33)"}
    seen = await visit(acme, color_scheme=theme)
    await expect(seen.state).to_have_text(READY)
    assert await seen.run(colour) == wanted[theme]

    # As Atlassian's bridge says it, whatever the machine prefers.
    other = "dark" if theme == "light" else "light"
    await seen.run(f"document.documentElement.dataset.colorMode = '{other}'")
    assert await seen.run(colour) == wanted[other]


async def test_the_page_can_be_read_on_a_narrow_screen(customer: Travellers, visit: Visits) -> None:
    acme = customer("acme")
    await acme.install()
    seen = await visit(acme, viewport={"width": 320, "height": 640})
    await expect(seen.state).to_have_text(READY)
    root = "document.documentElement"
    assert await seen.run(f"{root}.scrollWidth <= {root}.clientWidth") is True
