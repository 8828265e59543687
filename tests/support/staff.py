"""Members of staff in a browser, where the laptop's identity provider asks who one is."""

from playwright.async_api import Page


async def sign_on(page: Page, url: str, subject: str) -> None:
    """Go to a page of staff's and say at the provider who one is."""
    await page.goto(url)
    await page.get_by_role("button", name=subject, exact=True).click()
