"""What staff's pages stand on: templates, a strict policy, previews of letters."""

from collections.abc import Mapping
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import STAFF_HEADERS, PageFiles, templates_in
from chassis.service import Running, running
from services.notifier.context import Context
from services.notifier.letters.letter import Letter

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"staff.css": "text/css", "staff.js": "text/javascript"}
_LONGEST_NUMBER: Final = 9
_HEADERS: Final = {
    **STAFF_HEADERS,
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
# What a preview shows runs nothing, loads nothing but our own style and leads nowhere.
_PREVIEW_HEADERS: Final = {
    **STAFF_HEADERS,
    "content-security-policy": (
        "default-src 'none'; style-src 'self' 'unsafe-inline'; form-action 'none';"
        " base-uri 'none'; frame-ancestors 'self'"
    ),
}


class StaffPages:
    """The pages of the editors and of campaigns, and what they load from us."""

    def __init__(self, vendor_name: str) -> None:
        self.templates = templates_in(_PAGES)
        self.templates.filters["moment"] = _moment
        self.templates.globals.update(vendor_name=vendor_name)
        self._files = PageFiles(_PAGES, _STATIC)

    def router(self) -> APIRouter:
        """Return the routes of what the pages load."""
        router = APIRouter(prefix="/pages", include_in_schema=False)
        for name in _STATIC:
            router.add_api_route(f"/{name}", self._files.show, methods=["GET"], name=name)
        return router

    def page(
        self, name: str, shown: Mapping[str, Any], *, root: str, status: int = HTTPStatus.OK
    ) -> Response:
        """Render a page; ``root`` leads from it to where the service's paths begin."""
        return self._rendered(name, {**shown, "root": root}, _HEADERS, status)

    def preview(self, name: str, shown: Mapping[str, Any]) -> Response:
        """Render what is shown within a page."""
        return self._rendered(name, shown, _PREVIEW_HEADERS, HTTPStatus.OK)

    def letter(self, letter: Letter, *, plain: bool, dark: bool) -> Response:
        """Show a letter as a program for mail does."""
        text, html = bodies_of(letter)
        if plain:
            return self.preview("preview-text.html", {"text": text, "dark": dark})
        # The one who looks has chosen the light; what it is like around them does not matter.
        shown = html.replace("(prefers-color-scheme: dark)", "all" if dark else "not all")
        return Response(shown, headers=_PREVIEW_HEADERS, media_type="text/html")

    def nothing(self, what: str, *, root: str) -> Response:
        """Say that something is not there."""
        return self.page("staff-none.html", {"what": what}, root=root, status=HTTPStatus.NOT_FOUND)

    def _rendered(
        self, name: str, shown: Mapping[str, Any], headers: Mapping[str, str], status: int
    ) -> Response:
        return Response(
            self.templates.get_template(name).render(shown),
            status_code=status,
            headers=headers,
            media_type="text/html",
        )


def bodies_of(letter: Letter) -> tuple[str, str]:
    """Read a letter's plain text and its HTML."""
    message = message_from_bytes(letter.content, policy=default)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


def number_in(text: str) -> int | None:
    """Read a number from 1 on; None for what is none."""
    plain = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    return int(text) or None if plain else None


def notifier_of(request: Request) -> Running[Context]:
    """Return the running notifier, in a route."""
    found: Running[Context] = running(request)
    return found


def _moment(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
