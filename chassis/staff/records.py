"""The pages of what staff did and of what staff may do, the same in every service."""

from datetime import datetime
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis import audit
from chassis.pages import STAFF_PAGES, StaffPages
from chassis.staff.access import StaffRouter, allowed, staff_routes
from chassis.staff.people import Role

_SHOWN: Final = 200
_HIGHEST: Final = 2**63 - 1
_MOST_DIGITS: Final = 18


def records_router(service: str) -> APIRouter:
    """Return the routes of both pages."""
    records = _Records(service)
    router = StaffRouter(include_in_schema=False)
    router.add_api_route("/audit", records.show_audit, methods=["GET"])
    router.add_api_route("/access", records.show_access, methods=["GET"])
    return router


class _Records(StaffPages):
    def __init__(self, service: str) -> None:
        super().__init__(STAFF_PAGES)
        self.templates.globals.update(service=service)
        self.templates.filters["moment"] = _moment

    @allowed(Role.PRIVACY, page="Audit")
    async def show_audit(self, request: Request) -> Response:
        """Show who signed on and who changed what, the last first."""
        before = _number(request.query_params.get("before", ""))
        async with request.app.state.running.units.pool.acquire() as connection:
            found = await audit.latest(connection, before=before, limit=_SHOWN + 1)
        shown = {
            "entries": found[:_SHOWN],
            "older": found[_SHOWN - 1].number if len(found) > _SHOWN else None,
            "is_newest": before == _HIGHEST,
        }
        return self.page("audit.html", shown)

    @allowed(*Role, page="Access")
    async def show_access(self, request: Request) -> Response:
        """Show which role may do what here."""
        routes = sorted(staff_routes(request.app.routes), key=lambda each: (each.path, each.method))
        return self.page("access.html", {"routes": routes, "roles": list(Role)})


def _number(text: str) -> int:
    plain = text.isascii() and text.isdigit()
    return int(text) if plain and len(text) <= _MOST_DIGITS else _HIGHEST


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
