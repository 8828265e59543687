"""Pictures of what each role of staff sees: ``python -m tests.journeys.staff_pictures`` takes them anew."""

import asyncio
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Final

import asyncpg
import httpx2
from PIL import Image
from playwright.async_api import Page, ViewportSize, async_playwright, expect

from devstack.stack import LocalStack, start_local_stack
from tests.support.browser import chromium
from tests.support.journey import without_given_servers
from tests.support.staff import sign_on

SCREENS: Final = Path(__file__).parents[2] / "docs" / "screens"
DESK: Final = ViewportSize(width=1120, height=800)
# Who looks at what of which service.
PICTURES: Final = (
    ("sam", "installer", "/staff", "support-start"),
    ("sam", "installer", "/staff/tenants", "support-tenants"),
    ("sam", "installer", "/staff/tenants/{tenant}", "support-tenant"),
    ("dana", "config", "/staff", "developer-start"),
    ("pat", "purger", "/staff/board", "privacy-board"),
    ("pat", "purger", "/staff/audit", "privacy-audit"),
    ("max", "notifier", "/staff/news", "marketing-news"),
    ("olga", "notifier", "/staff/access", "operator-access"),
)


async def _look(page: Page, who: str, where: str) -> None:
    await sign_on(page, where, who)
    await expect(page.locator("main h1")).to_be_visible()


async def _newest(stack: LocalStack) -> str:
    connection = await asyncpg.connect(stack.databases["installer"].runtime_url)
    try:
        return str(await connection.fetchval("SELECT max(tenant_id::text) FROM tenants"))
    finally:
        await connection.close()


async def photograph_all() -> None:
    """Start everything, let an app be installed and removed, and take every picture."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            await start_local_stack(
                Path(folder), environment=without_given_servers(), sign_on=True
            ) as stack,
            httpx2.AsyncClient() as http,
            async_playwright() as playwright,
        ):
            for name in ("acme", "globex", "initech"):
                for call in ("install", *(["uninstall"] if name == "initech" else [])):
                    url = f"{stack.endpoints.atlassian}/sites/{name}/{call}"
                    (await http.post(url)).raise_for_status()
            tenant = await _newest(stack)
            browser = await playwright.chromium.launch(executable_path=chromium())
            for who, service, path, name in PICTURES:
                context = await browser.new_context(viewport=DESK)
                page = await context.new_page()
                where = path.format(tenant=tenant)
                await _look(page, who, f"{stack.endpoints.of(service)}{where}")
                for theme in ("light", "dark"):
                    await page.emulate_media(color_scheme=theme)
                    picture = await page.screenshot(animations="disabled")
                    file = SCREENS / f"staff-{name}-{theme}.webp"
                    Image.open(BytesIO(picture)).quantize(64).save(file, lossless=True, method=6)
                await context.close()
            await browser.close()


if __name__ == "__main__":
    SCREENS.mkdir(exist_ok=True)
    asyncio.run(photograph_all())
