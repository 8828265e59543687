"""The pages of faults, for those of our staff who mend them."""

from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import StaffPages
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role
from services.config.context import Context
from services.config.store import faults
from services.config.store.faults import Wanted

PATH: Final = "/staff/errors"

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"errors.css": "text/css"}
_ROWS: Final = 50
_EVENTS: Final = 20
_DAYS_IN_LIST: Final = 14
_DAYS: Final = 90

_LONGEST: Final = 200


def staff_routers() -> tuple[APIRouter, ...]:
    """Return the routes of the pages and of what they load."""
    board = _Board()
    router = StaffRouter(prefix=PATH, include_in_schema=False)
    router.add_api_route("", board.show_all, methods=["GET"])
    router.add_api_route("/{fingerprint}", board.show_one, methods=["GET"])
    return board.router(), router


class _Board(StaffPages):
    def __init__(self) -> None:
        super().__init__(_PAGES, _STATIC)
        self.templates.filters["ago"] = _ago

    @allowed(Role.DEVELOPER, page="Errors")
    async def show_all(self, request: Request) -> Response:
        """List the faults that are looked for, the latest or the most frequent first."""
        wanted = _wanted(request)
        config: Running[Context] = running(request)
        now = config.units.clock.now()
        async with config.resources.worker.acquire() as connection:
            found = await faults.find(connection, wanted, limit=_ROWS + 1)
            trends = await faults.trends(
                connection,
                [each.fingerprint for each in found],
                today=now.date(),
                days=_DAYS_IN_LIST,
            )
            choices = await faults.choices(connection)
        shown = {
            "wanted": wanted,
            "choices": choices,
            "found": found[:_ROWS],
            "is_more": len(found) > _ROWS,
            "trends": trends,
            "days": _DAYS_IN_LIST,
            "now": now,
        }
        return self.page("errors.html", shown)

    @allowed(Role.DEVELOPER)
    async def show_one(self, request: Request, fingerprint: str) -> Response:
        """Show one fault: since when, how often, with what, and where in the code."""
        config: Running[Context] = running(request)
        now = config.units.clock.now()
        name = _bytes(fingerprint)
        async with config.resources.worker.acquire() as connection:
            fault = await faults.fault(connection, name)
            if fault is None:
                return self.page("no-error.html", {}, status=HTTPStatus.NOT_FOUND)
            trend = await faults.trends(connection, [name], today=now.date(), days=_DAYS)
            shown = {
                "fault": fault,
                "trend": trend[name],
                "first_day": now.date() - timedelta(days=_DAYS - 1),
                "shares": await faults.shares(connection, name),
                "events": await faults.events(connection, name, limit=_EVENTS),
                "browsers": await faults.browsers_met(connection, name),
                "now": now,
            }
        return self.page("error.html", shown)


def _wanted(request: Request) -> Wanted:
    told = {
        # PostgreSQL looks for no NUL.
        name: request.query_params.get(name, "")[:_LONGEST].strip().replace("\x00", "")
        for name in ("q", "app", "release", "browser", "order")
    }
    return Wanted(
        text=told["q"],
        app=told["app"],
        release=told["release"],
        browser=told["browser"],
        most_frequent_first=told["order"] == "frequent",
    )


def _bytes(fingerprint: str) -> bytes:
    try:
        return bytes.fromhex(fingerprint)
    except ValueError:
        return b"?"


def _ago(moment: datetime, now: datetime) -> str:
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            number = seconds // length
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"
