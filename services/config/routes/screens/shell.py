"""What stands around every screen: the navigation, and the files that the screens load."""

from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import PageFiles
from services.config.bundles import Bundles
from services.config.routes.access import Tenant
from services.config.routes.screens.screen import Screens
from services.config.routes.screens.wording import WORDING
from services.config.words import PAGES

_STYLE: Final = "app.css"
_SCRIPTS: Final = ("app.js", "editors.js", "preview.js")


class Area(NamedTuple):
    """An entry of the navigation: where its first screen is, and how it is called."""

    path: str
    name: str


AREAS: Final[tuple[Area, ...]] = (
    Area("datasources", WORDING["datasource"].many),
    Area("queries", WORDING["query"].many),
    Area("converters", WORDING["converter"].many),
    Area("templates", WORDING["template"].many),
)
"""The navigation, in its order. The first one is shown when the app opens."""


def router(screens: Screens) -> APIRouter:
    """Return the routes."""

    async def show(request: Request, _: Tenant) -> Response:
        """Show what stands around the screens, which are for a session alone."""
        return screens.of(request).show("shell.html", areas=AREAS)

    router = screens.router()
    router.add_api_route("/shell", show, methods=["GET"])
    scripts = Bundles(*_SCRIPTS)
    for name in _SCRIPTS:
        router.add_api_route(f"/{name}", scripts.show, methods=["GET"])
    router.add_api_route(f"/{_STYLE}", PageFiles(PAGES, {_STYLE: "text/css"}).show, methods=["GET"])
    return router
