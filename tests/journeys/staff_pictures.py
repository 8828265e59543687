"""Pictures of what each role of staff sees: ``python -m tests.journeys.staff_pictures`` takes them anew."""

import asyncio
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import httpx2
from aiokafka import AIOKafkaProducer
from PIL import Image
from playwright.async_api import Page, ViewportSize, async_playwright, expect

from contracts.topics import INSTALLER_TENANTS
from devstack.journey import Journey
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
    ("dana", "config", "/staff/errors", "developer-errors"),
    ("dana", "config", "/staff/usage", "developer-usage"),
    ("pat", "purger", "/staff/board", "privacy-board"),
    ("pat", "purger", "/staff/audit", "privacy-audit"),
    ("pat", "notifier", "/staff/policies", "privacy-policies"),
    ("max", "notifier", "/staff/news", "marketing-news"),
    ("olga", "notifier", "/staff/access", "operator-access"),
    ("olga", "config", "/staff/dead-letters", "operator-dead-letters"),
)


async def _look(page: Page, who: str, where: str) -> None:
    await sign_on(page, where, who)
    await expect(page.locator("main h1")).to_be_visible()


async def _tenants(stack: LocalStack) -> list[UUID]:
    """List the tenants, the oldest first."""
    connection = await asyncpg.connect(stack.databases["installer"].runtime_url)
    try:
        rows = await connection.fetch("SELECT tenant_id FROM tenants ORDER BY tenant_id")
        return [row["tenant_id"] for row in rows]
    finally:
        await connection.close()


async def _poison(stack: LocalStack) -> None:
    """Send what nobody can read, which becomes a dead letter of whoever hears it."""
    async with AIOKafkaProducer(**stack.kafka_options) as producer:
        await producer.send_and_wait(INSTALLER_TENANTS.name, b"{}", key=uuid4().bytes)


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
            acme, *_, tenant = await _tenants(stack)
            await Journey(stack, http, "acme", _tenant_id=acme).report_error("orders")
            await _poison(stack)
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
