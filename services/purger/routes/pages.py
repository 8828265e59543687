"""How purger's pages are made: templates, a strict policy, and style and script of our own."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from chassis.pages import PageFiles, templates_in

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"purger.css": "text/css", "board.js": "text/javascript"}

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": CONTENT_POLICY,
    # The address holds the receipt's code.
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
    "vary": "accept",
}


class Pages:
    """Purger's pages, and what they load from us."""

    def __init__(self) -> None:
        self._templates = templates_in(_PAGES)
        self._files = PageFiles(_PAGES, _STATIC)

    def page(self, name: str, shown: Mapping[str, Any], *, status: int = HTTPStatus.OK) -> Response:
        """Render a page."""
        return Response(
            self._templates.get_template(name).render(shown),
            status_code=status,
            headers=_HEADERS,
            media_type="text/html",
        )

    def router(self) -> APIRouter:
        """Return the routes of what the pages load."""
        router = APIRouter(prefix="/pages")
        self._files.add_to(router)
        return router
