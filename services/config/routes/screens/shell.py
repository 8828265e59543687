"""What stands around every screen: the navigation, and the files that the screens load."""

from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import PageFiles
from chassis.words import word
from services.config.bundles import Bundles
from services.config.domain.early_erasure import content_goes_at
from services.config.routes.access import Config, Tenant
from services.config.routes.screens.screen import PAGES, Screens
from services.config.routes.screens.wording import WORDING
from services.config.store import early_erasure, tenants

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
    Area("transfer", word("Export and import")),
    Area("your-data", word("Your data")),
)
"""The navigation, in its order. The first one is shown when the app opens."""


def router(screens: Screens) -> APIRouter:
    """Return the routes."""

    async def show(request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Show what stands around the screens, which are for a session alone.

        Who has moved to Forge is told that only reading is left, and until when.
        """
        async with config.units.begin() as uow:
            tenant = await tenants.tenant(uow.connection, tenant_id)
            said = await early_erasure.purges(uow.connection, tenant_id)
        moved = tenant is not None and tenant.has_moved
        return screens.of(request).show(
            "shell.html",
            areas=AREAS,
            moved=moved,
            goes_at=content_goes_at(said) if moved else None,
        )

    router = screens.router()
    router.add_api_route("/shell", show, methods=["GET"])
    scripts = Bundles(*_SCRIPTS)
    for name in _SCRIPTS:
        router.add_api_route(f"/{name}", scripts.show, methods=["GET"])
    router.add_api_route(f"/{_STYLE}", PageFiles(PAGES, {_STYLE: "text/css"}).show, methods=["GET"])
    return router
