"""Which roles may use a route of staff's: declared beside it, asked of each request, nobody's else."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request

from chassis.pages import wants_page
from chassis.problems import Problem
from chassis.staff.door import STAFF, Door
from chassis.staff.people import Person, Role

_ROLES: Final = "staff_roles"

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


def allowed(*roles: Role) -> Callable[[E], E]:
    """Declare who may use the routes that call this function; others are refused."""

    def declared(endpoint: E) -> E:
        setattr(endpoint, _ROLES, frozenset(roles))
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


@dataclass(frozen=True, slots=True)
class _Gate:
    roles: frozenset[Role]

    async def __call__(self, request: Request) -> None:
        """Let the request on as its person's; raises what turns it away."""
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
        request.state.person = person


async def turn_away(request: Request, turned: Exception) -> Any:
    """Lead whoever is not signed on to where they can be, and tell others why they see nothing."""
    assert isinstance(turned, TurnedAway)
    door: Door = request.app.state.door
    if turned.person is not None:
        return door.not_allowed(turned.person)
    return door.to_sign_on(request)


def name_of(request: Request, typed: str) -> str:
    """Say who does something: the person signed on, whatever was typed.

    What was typed counts on a laptop alone, where nobody signs on.
    """
    person: Person = request.state.person
    return person.subject or typed


def staff_routes(routes: Iterable[Any]) -> Iterator[tuple[str, str, frozenset[Role]]]:
    """Give method, path and roles of each route of staff's.

    Raises ``Undeclared`` for one that lies below ``/staff`` and asks nobody who they are.
    """
    for route in routes:
        path = getattr(route, "path", "")
        if not isinstance(route, APIRoute):
            if path == STAFF or path.startswith(f"{STAFF}/"):
                raise Undeclared(f"{path}: is no route that asks who is there")
            continue
        gates = [each.call for each in route.dependant.dependencies if isinstance(each.call, _Gate)]
        if gates:
            for method in sorted(route.methods or ()):
                yield method, path, gates[0].roles
        elif path == STAFF or path.startswith(f"{STAFF}/"):
            raise Undeclared(f"{path}: is of no StaffRouter, so nobody would be asked who they are")
