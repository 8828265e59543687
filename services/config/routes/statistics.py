"""The page of usage, for those of our staff who decide what is worth making."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import StaffPages
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role
from services.config.context import Context
from services.config.domain.usage import FEWEST_TENANTS, Size, show
from services.config.store import usage as store

PATH: Final = "/staff/usage"

_PAGES: Final = Path(__file__).parent.parent / "pages"
_PERIODS: Final = (7, 30, 90, 365)
_USUAL: Final = 30


def statistics_router() -> APIRouter:
    """Return the route of the page; its style comes with the pages of faults."""
    page = _Statistics()
    router = StaffRouter(prefix=PATH, include_in_schema=False)
    router.add_api_route("", page.show, methods=["GET"])
    return router


class _Statistics(StaffPages):
    def __init__(self) -> None:
        super().__init__(_PAGES)

    @allowed(Role.DEVELOPER, Role.MARKETING, page="Usage")
    async def show(self, request: Request) -> Response:
        """Show what may be shown, by app and feature, of days that are over."""
        config: Running[Context] = running(request)
        days = _period(request.query_params.get("days", ""))
        today = config.units.clock.now().date()
        first = today - timedelta(days=days)
        async with config.resources.worker.acquire() as connection:
            kept = await store.cells(connection, since=first)
        found = show(kept)
        wanted = {name: request.query_params.get(name, "") for name in ("app", "feature")}
        shown = {
            "found": {
                (app, feature): each
                for (app, feature), each in found.items()
                if wanted["app"] in {"", app} and wanted["feature"] in {"", feature}
            },
            "choices": {
                "app": sorted({app for app, _ in found}),
                "feature": sorted({feature for _, feature in found}),
            },
            "wanted": wanted,
            "days": days,
            "periods": _PERIODS,
            "dates": [first + timedelta(days=number) for number in range(days)],
            "sizes": [size.value for size in Size],
            "fewest": FEWEST_TENANTS,
        }
        return self.page("usage.html", shown)


def _period(told: str) -> int:
    return next((days for days in _PERIODS if str(days) == told), _USUAL)
