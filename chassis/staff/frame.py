"""The frame around every page for staff: who is signed on, and the way to all other pages."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from chassis.staff.people import Person, Role

STAFF: Final = "/staff"


@dataclass(frozen=True, slots=True)
class Link:
    """A way to a page, and whether one is there already."""

    name: str
    address: str
    is_here: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page that stands in the navigation, and who may see it."""

    name: str
    path: str
    does: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Frame:
    """What all pages have in common; ``root`` leads from a page to where the service's paths begin."""

    service: str
    root: str
    person: Person
    services: tuple[Link, ...]
    pages: tuple[Link, ...]

    @property
    def is_signed_on(self) -> bool:
        """Whether it is known who looks: on a laptop without an identity provider it is not."""
        return bool(self.person.subject)


_framed: Final[ContextVar[Frame]] = ContextVar("framed")


def frame() -> Frame:
    """Give the frame of the page that is made; for templates of routes of staff's alone."""
    return _framed.get()


def frame_page(
    request: Request,
    person: Person,
    *,
    service: str,
    services: Mapping[str, str],
    pages: Iterable[Page],
) -> None:
    """Let pages that answer this request stand in the frame of this person."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    root = "../" * (path.count("/") - 1) or "./"
    _framed.set(
        Frame(
            service,
            root,
            person,
            tuple(
                Link(name, f"{address.rstrip('/')}{STAFF}", name == service)
                for name, address in services.items()
            ),
            tuple(
                Link(page.name, f"{root}{page.path.removeprefix('/')}", _lies_in(path, page))
                for page in pages
                if page.roles & person.roles
            ),
        )
    )


def _lies_in(path: str, page: Page) -> bool:
    return path == page.path or path.startswith(f"{page.path}/")
