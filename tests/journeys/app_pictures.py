"""Pictures of the app's screens in both themes: ``python -m tests.journeys.app_pictures`` takes them anew."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import httpx2
from PIL import Image
from playwright.async_api import Browser, FrameLocator, Page, ViewportSize, async_playwright, expect

from devstack.journey import Journey
from devstack.stack import LocalStack, start_local_stack
from tests.support.browser import chromium
from tests.support.journey import without_given_servers

SCREENS: Final = Path(__file__).parents[2] / "docs" / "screens"
DESK: Final = ViewportSize(width=960, height=900)
PHONE: Final = ViewportSize(width=375, height=800)
_QUERY: Final = "SELECT month, sum(total) AS sum\n  FROM orders\n WHERE region = :region AND year = :year\n GROUP BY month"
_TEMPLATE: Final = """<table>
{% for row in rows %}
<tr><th>{{ row.month }}</th><td>{{ row.sum }}</td></tr>
{% endfor %}
</table>"""

Act = Callable[[FrameLocator, Mapping[str, str]], Awaitable[None]]


async def _nothing(_: FrameLocator, __: Mapping[str, str]) -> None:
    """Show the screen as it comes."""


async def _refused(app: FrameLocator, _: Mapping[str, str]) -> None:
    await app.get_by_label("Address").fill("https://ada@api.example.com")
    await app.get_by_label("Name", exact=True).fill("Orders")
    await app.get_by_role("button", name="Save", exact=True).click()
    await expect(app.locator("#refused")).to_be_visible()


async def _conflict(app: FrameLocator, made: Mapping[str, str]) -> None:
    # The page believes that it has read an older version.
    await app.locator("#editor [name=version]").evaluate("field => { field.value = '1' }")
    await app.get_by_role("button", name="Save", exact=True).click()
    await expect(app.locator("#refused")).to_be_visible()
    assert made


async def _previewed(app: FrameLocator, _: Mapping[str, str]) -> None:
    result = app.frame_locator("iframe").frame_locator("iframe")
    await expect(result.locator("body")).to_contain_text("January")


PICTURES: Final[tuple[tuple[str, str, Act], ...]] = (
    ("empty", "converters", _nothing),
    ("list", "queries", _nothing),
    ("datasource", "datasources/{datasource}", _nothing),
    ("refused", "datasources/new", _refused),
    ("query", "queries/{query}", _nothing),
    ("conflict", "queries/{query}", _conflict),
    ("template", "templates/{template}", _previewed),
    ("history", "queries/{query}/history", _nothing),
    ("version", "queries/{query}/history/1", _nothing),
    ("in-use", "datasources/{datasource}/removal", _nothing),
)


async def _fill(stack: LocalStack, journey: Journey) -> dict[str, str]:
    """Make what is to be seen, and return the ids."""
    made: dict[str, str] = {}
    headers = await journey.open_session()
    async with httpx2.AsyncClient(
        base_url=f"{stack.endpoints.config}/api/v1", headers=headers
    ) as client:

        async def make(kind: str, plural: str, body: Mapping[str, Any]) -> None:
            answer = await client.post(f"/{plural}", json=body)
            made.setdefault(kind, answer.raise_for_status().json()["id"])

        await make(
            "datasource",
            "datasources",
            {
                "name": "Orders",
                "tags": ["sales"],
                "kind": "sql",
                "url": "postgresql://db.acme.example:5432/orders",
                "username": "reader",
                "credentials": "s3cret",
                "options": {"schema": "public", "read_only": True},
            },
        )
        await make(
            "template", "templates", {"name": "Two columns", "kind": "table", "text": _TEMPLATE}
        )
        query = {
            "name": "Orders by month",
            "tags": ["sales", "monthly"],
            "kind": "sql",
            "text": _QUERY,
            "datasource_id": made["datasource"],
            "template_id": made["template"],
        }
        await make("query", "queries", query)
        for name in (
            "Open invoices",
            "Returns \u05d4\u05d7\u05d6\u05e8\u05d5\u05ea",
            "Stock \U0001f98a",
        ):
            await make("query", "queries", {**query, "name": name, "tags": ["monthly"]})
        parameters = [
            {"name": "region", "type": "text", "default": "EMEA", "allowed": ["EMEA", "APAC"]},
            {"name": "year", "type": "integer", "default": 2026},
        ]
        changed = {**query, "parameters": parameters, "text": f"{_QUERY}\n ORDER BY month"}
        answer = await client.put(
            f"/queries/{made['query']}", json=changed, headers={"if-match": '"1"'}
        )
        answer.raise_for_status()
    return made


async def _photograph(
    browser: Browser,
    address: str,
    name: str,
    theme: Literal["light", "dark"],
    act: Callable[[Page, FrameLocator], Awaitable[None]],
    *,
    size: ViewportSize = DESK,
    locale: str = "en-US",
) -> None:
    context = await browser.new_context(viewport=size, color_scheme=theme, locale=locale)
    page = await context.new_page()
    await page.goto(address)
    app = page.frame_locator("iframe").first
    await expect(app.locator("#screen article")).to_be_visible()
    await act(page, app)
    # As Atlassian's bridge does it: the frame is as high as what is in it.
    frame = page.frames[1]
    height = await frame.evaluate("document.querySelector('main').scrollHeight")
    await page.set_viewport_size({"width": size["width"], "height": int(height) + 60})
    picture = await page.locator("iframe").screenshot(animations="disabled")
    await context.close()
    file = SCREENS / f"app-{name}-{theme}.webp"
    Image.open(BytesIO(picture)).quantize(64).save(file, lossless=True, method=6)


async def photograph_all() -> None:
    """Start everything, make what is to be seen, and take every picture."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            await start_local_stack(Path(folder), environment=without_given_servers()) as stack,
            httpx2.AsyncClient() as http,
            async_playwright() as playwright,
        ):
            acme = Journey(stack, http, "acme")
            await acme.install()
            await acme.add_datasource(
                "Later", url="https://a.example", username="a", credentials="b"
            )
            made = await _fill(stack, acme)
            browser = await playwright.chromium.launch(executable_path=chromium())
            address = f"{stack.endpoints.atlassian}/sites/acme/page"
            for theme in ("light", "dark"):
                for name, path, act in PICTURES:

                    async def show(
                        page: Page, app: FrameLocator, *, path: str = path, act: Act = act
                    ) -> None:
                        wanted = path.format(**made)
                        await page.frames[1].evaluate(f"location.hash = '#/{wanted}'")
                        await expect(app.locator(f"article[data-path='{wanted}']")).to_be_visible()
                        await act(app, made)

                    await _photograph(browser, address, name, theme, show)

                async def as_it_comes(_: Page, __: FrameLocator) -> None:
                    pass

                await _photograph(
                    browser,
                    f"{address}?locale=de_DE",
                    "german-phone",
                    theme,
                    as_it_comes,
                    size=PHONE,
                    locale="de-DE",
                )
            await browser.close()


if __name__ == "__main__":
    SCREENS.mkdir(exist_ok=True)
    asyncio.run(photograph_all())
