"""How purger's pages are made: templates, a strict policy, and style and script of our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

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


@dataclass(frozen=True, slots=True)
class _Static:
    content: bytes
    headers: Mapping[str, str]


class Pages:
    """Purger's pages, and what they load from us."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(_PAGES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["day"] = _day
        self._templates.filters["moment"] = _moment
        self._static = {name: _read_static(name, kind) for name, kind in _STATIC.items()}

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
        router = APIRouter(prefix="/pages", include_in_schema=False)
        for name in self._static:
            router.add_api_route(f"/{name}", self._show_static, methods=["GET"], name=name)
        return router

    async def _show_static(self, request: Request) -> Response:
        """Serve a script or a style sheet; the browser asks each time whether it has changed."""
        static = self._static[request.url.path.rpartition("/")[2]]
        if request.headers.get("if-none-match") == static.headers["etag"]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=static.headers)
        return Response(static.content, headers=static.headers)


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks; programs get JSON."""
    return "text/html" in request.headers.get("accept", "")


def _read_static(name: str, kind: str) -> _Static:
    content = (_PAGES / name).read_bytes()
    headers = {
        "content-type": f"{kind}; charset=utf-8",
        "etag": f'"{sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",
    }
    return _Static(content, headers)


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _moment(moment: datetime) -> str:
    return f"{_day(moment)}, {moment:%H:%M} UTC"
