"""What can be measured of a page in a browser."""

from playwright.async_api import Page


async def overflow(page: Page) -> int:
    """How far the page is wider than its window."""
    width: int = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


async def contrast(page: Page, selector: str) -> float:
    """The contrast (WCAG 2.2) of an element's text with the page behind it."""
    ratio: float = await page.evaluate(
        """
        (selector) => {
          const luminance = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
              const share = part / 255;
              return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const element = document.querySelector(selector);
          let behind = element;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
            behind = behind.parentElement;
          }
          const text = luminance(getComputedStyle(element).color);
          const ground = luminance(getComputedStyle(behind).backgroundColor);
          return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        }
        """,
        selector,
    )
    return ratio
