"""What staff's pages stand on: templates, a strict policy, previews of letters."""

from collections.abc import Mapping
from email import message_from_bytes
from email.policy import default
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from chassis.pages import STAFF_HEADERS, StaffPages
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


class EditorPages(StaffPages):
    """The pages of the editors and of campaigns, and what they load from us."""

    def __init__(self, vendor_name: str) -> None:
        super().__init__(_PAGES, _STATIC, headers=_HEADERS)
        self.templates.globals.update(vendor_name=vendor_name)

    def preview(self, name: str, shown: Mapping[str, Any]) -> Response:
        """Render what is shown within a page."""
        return Response(
            self.templates.get_template(name).render(shown),
            headers=_PREVIEW_HEADERS,
            media_type="text/html",
        )

    def letter(self, letter: Letter, *, plain: bool, dark: bool) -> Response:
        """Show a letter as a program for mail does."""
        text, html = bodies_of(letter)
        if plain:
            return self.preview("preview-text.html", {"text": text, "dark": dark})
        # The one who looks has chosen the light; what it is like around them does not matter.
        shown = html.replace("(prefers-color-scheme: dark)", "all" if dark else "not all")
        return Response(shown, headers=_PREVIEW_HEADERS, media_type="text/html")

    def nothing(self, what: str) -> Response:
        """Say that something is not there."""
        return self.page("staff-none.html", {"what": what}, status=HTTPStatus.NOT_FOUND)


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
