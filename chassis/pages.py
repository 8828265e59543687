"""What pages for people stand on: templates, style and script of our own, and who wants a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chassis.problems import Problem
from chassis.staff.frame import frame
from chassis.staff.people import signed_on

STAFF_PAGES: Final = Path(__file__).parent / "staff" / "pages"
STAFF_STATIC: Final = {"staff.css": "text/css", "tables.js": "text/javascript"}
"""What every page for staff loads, found below ``/sign-on`` of each service."""

STAFF_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
"""What pages for staff have in common."""

_MOST_FIELDS: Final = 40
_OWN_SITES: Final = frozenset({"same-origin", "none"})


def templates_in(folder: Path) -> Environment:
    """Read templates of HTML; what is put into one is escaped, and what is missing is an error.

    Pages for staff extend ``staff/page.html``; ``signed_on()`` gives them the member of staff who
    asks, and ``frame()`` what all of them have in common. ``day`` and ``moment`` are filters that
    write a time as a person does.
    """
    templates = Environment(
        loader=ChoiceLoader(
            [
                FileSystemLoader(folder),
                PrefixLoader({"staff": FileSystemLoader(STAFF_PAGES)}),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(signed_on=signed_on, frame=frame)
    templates.filters.update(day=_day, moment=_moment)
    return templates


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _moment(moment: datetime) -> str:
    return f"{_day(moment)}, {moment:%H:%M} UTC"


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks; programs get JSON."""
    return "text/html" in request.headers.get("accept", "")


async def form_of(request: Request) -> dict[str, str]:
    """Read a form of our own pages for staff; raises ``Problem`` for what another site sends."""
    if request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        raise Problem(403, detail="This form can be sent from its own page alone.")
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Problem(400, detail="That is not a form of ours.") from None


def see(location: str) -> Response:
    """Lead to a page after something was done; ``location`` is relative to what was asked for."""
    return RedirectResponse(location, status_code=HTTPStatus.SEE_OTHER, headers=STAFF_HEADERS)


def id_in(text: str) -> UUID | None:
    """Read an id in a path; None for what is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: Mapping[str, str]


class PageFiles:
    """Scripts and style sheets of pages, read once; ``kinds`` gives the media type of each name."""

    def __init__(self, folder: Path, kinds: Mapping[str, str]) -> None:
        self._files = {name: _read(folder / name, kind) for name, kind in kinds.items()}

    def add_to(self, router: APIRouter, *, below: str = "") -> None:
        """Let a router serve the files, each by its name below a path."""
        for name in self._files:
            router.add_api_route(
                f"{below}/{name}", self.show, methods=["GET"], name=name, include_in_schema=False
            )

    async def show(self, request: Request) -> Response:
        """Serve the file that a path ends with; the browser asks each time whether it has changed."""
        file = self._files[request.url.path.rpartition("/")[2]]
        if request.headers.get("if-none-match") == file.headers["etag"]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=file.headers)
        return Response(file.content, headers=file.headers)


def _read(path: Path, kind: str) -> _File:
    content = path.read_bytes()
    headers = {
        "content-type": f"{kind}; charset=utf-8",
        "etag": f'"{sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",
    }
    return _File(content, headers)


class StaffPages:
    """Pages for staff, of the templates in a folder, and what these load from us below ``/pages``."""

    def __init__(
        self,
        folder: Path,
        kinds: Mapping[str, str] = MappingProxyType({}),
        *,
        headers: Mapping[str, str] = STAFF_HEADERS,
    ) -> None:
        self.templates = templates_in(folder)
        self._files = PageFiles(folder, kinds)
        self._headers = headers

    def router(self) -> APIRouter:
        """Return the routes of what the pages load."""
        router = APIRouter(prefix="/pages")
        self._files.add_to(router)
        return router

    def page(self, name: str, shown: Mapping[str, Any], *, status: int = HTTPStatus.OK) -> Response:
        """Render a page; ``root`` leads from it to where the service's paths begin."""
        return Response(
            self.templates.get_template(name).render({**shown, "root": frame().root}),
            status_code=status,
            headers=self._headers,
            media_type="text/html",
        )
