"""What the pages about grants stand on: templates, style, a strict policy."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from chassis.pages import STAFF_HEADERS, PageFiles, templates_in

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"grants.css": "text/css"}


class GrantPages:
    """The templates, and what they load from us besides the style of faults."""

    def __init__(self) -> None:
        self._templates = templates_in(_PAGES)
        self._templates.filters["moment"] = _moment
        self._templates.filters["minutes_to"] = _minutes_to

    def router(self) -> APIRouter:
        """Return the routes of what the pages load."""
        files = PageFiles(_PAGES, _STATIC)
        router = APIRouter(prefix="/pages", include_in_schema=False)
        for name in _STATIC:
            router.add_api_route(f"/{name}", files.show, methods=["GET"], name=name)
        return router

    def page(
        self, name: str, shown: Mapping[str, Any], *, root: str, status: int = 200
    ) -> Response:
        """Render a page; ``root`` leads from it to where the service's paths begin."""
        return Response(
            self._templates.get_template(name).render({**shown, "root": root}),
            status_code=status,
            headers=STAFF_HEADERS,
            media_type="text/html",
        )


def _moment(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _minutes_to(end: datetime, now: datetime) -> str:
    minutes = max(0, int((end - now).total_seconds() // 60))
    if minutes == 0:
        return "in less than a minute"
    return f"in {minutes} minute{'' if minutes == 1 else 's'}"
