"""Which roles may use a route of staff's: declared beside it, asked of each request, nobody's else."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar, cast

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.responses import Response

from chassis.pages import wants_page
from chassis.problems import Problem
from chassis.staff.door import Door
from chassis.staff.frame import STAFF, Page
from chassis.staff.people import Person, Role, present

_ROLES: Final = "staff_roles"
_PAGE: Final = "staff_page"

E = TypeVar("E", bound=Callable[..., Any])


class Undeclared(Exception):  # noqa: N818 - reads as the fact it states
    """A route of staff's does not say who may use it, so it does not come about."""


class TurnedAway(Exception):  # noqa: N818 - reads as the fact it states
    """Somebody asks for a page who is not signed on, or whose roles do not open it.

    ``person`` is None where nobody is signed on.
    """

    def __init__(self, person: Person | None) -> None:
        self.person = person
        super().__init__("turned away")


def allowed(*roles: Role, page: str = "") -> Callable[[E], E]:
    """Declare who may use the routes that call this function; others are refused.

    What is a ``page`` by that name stands in the navigation.
    """

    def declared(endpoint: E) -> E:
        setattr(endpoint, _ROLES, frozenset(roles))
        setattr(endpoint, _PAGE, page)
        return endpoint

    return declared


class StaffRouter(APIRouter):
    """Routes for members of staff, below ``/staff``; each asks who is there before it does anything."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**({"prefix": STAFF} | given))

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        """Add a route; raises ``Undeclared`` where its function does not say who may use it."""
        roles: frozenset[Role] = getattr(endpoint, _ROLES, frozenset())
        if not roles:
            raise Undeclared(f"{self.prefix}{path}: say with @allowed which roles may use it")
        gate = Depends(_Gate(roles))
        super().add_api_route(
            path, endpoint, **given | {"dependencies": [gate, *(given.get("dependencies") or ())]}
        )


class StaffRoute(NamedTuple):
    """A route of staff's, who may use it, and what it does in a sentence."""

    method: str
    path: str
    roles: frozenset[Role]
    does: str
    page: str


@dataclass(frozen=True, slots=True)
class _Gate:
    roles: frozenset[Role]

    async def __call__(self, request: Request) -> None:
        """Let the request on as its person's, once it is in the audit; raises what turns it away."""
        door: Door = request.app.state.door
        person = await door.person_of(request)
        if person is None or not person.roles & self.roles:
            if wants_page(request):
                raise TurnedAway(person)
            status, detail = (
                (401, "Sign on first: this is for members of staff.")
                if person is None
                else (403, "None of your roles may do this.")
            )
            headers = {"www-authenticate": "Bearer"} if person is None else {}
            raise Problem(status, detail=detail, headers=headers)
        present.set(person)
        door.frame(request, person)
        await door.note(request, person)


def let_staff_in(app: FastAPI, door: Door, routers: Iterable[APIRouter]) -> None:
    """Add a door and what lies behind it; raises ``Undeclared`` for a route that is open to all."""
    app.state.door = door
    app.add_exception_handler(TurnedAway, _turn_away)
    start = StaffRouter(include_in_schema=False)
    start.add_api_route("", _show_start, methods=["GET"])
    for router in (door.router(), start, *routers):
        app.include_router(router)
    door.pages = tuple(
        Page(each.page, each.path, each.does, each.roles)
        for each in staff_routes(app.routes)
        if each.page and each.method == "GET"
    )


@allowed(*Role)
async def _show_start(request: Request) -> Response:
    """Show who is signed on, and which pages of this service are open to them."""
    return cast("Door", request.app.state.door).start(present.get())


async def _turn_away(request: Request, turned: Exception) -> Any:
    """Lead whoever is not signed on to where they can be, and tell others why they see nothing."""
    assert isinstance(turned, TurnedAway)
    door: Door = request.app.state.door
    if turned.person is not None:
        return door.not_allowed(turned.person)
    return door.to_sign_on(request)


def staff_routes(routes: Iterable[Any]) -> Iterator[StaffRoute]:
    """Give each route of staff's.

    Raises ``Undeclared`` for one that lies below ``/staff`` and asks nobody who they are.
    """
    for route in iter_route_contexts(list(routes)):
        path, original = route.path or "", route.original_route
        gates = (
            [each.call for each in original.dependant.dependencies if isinstance(each.call, _Gate)]
            if isinstance(original, APIRoute)
            else []
        )
        if gates:
            for method in sorted(route.methods or ()):
                page = getattr(route.endpoint, _PAGE, "")
                yield StaffRoute(method, path, gates[0].roles, _said(route.endpoint), page)
        elif path == STAFF or path.startswith(f"{STAFF}/"):
            raise Undeclared(f"{path}: is of no StaffRouter, so nobody would be asked who they are")


def _said(endpoint: object) -> str:
    sentence, _, _ = (endpoint.__doc__ or "").strip().partition("\n")
    return sentence
