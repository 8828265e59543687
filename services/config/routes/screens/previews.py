"""The preview of a converter and a template: a page of its own that is cut off from everything."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.config.domain.kinds import KIND_OF
from services.config.routes.access import Config, Tenant, reading
from services.config.routes.changes import find
from services.config.routes.screens.screen import Screens

_PAGE: Final = "preview.html"

POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; worker-src blob:;"
    " style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none';"
    " sandbox allow-scripts"
)
"""It may run what it is given, and reach nothing and nobody.

It has no origin (``sandbox``), so neither storage nor cookies. The customer's script runs in workers
of blobs, which inherit all of this; what they make is shown in a frame without scripts. Anybody may
show the page: there is nothing in it.
"""


def router(screens: Screens) -> APIRouter:
    """Return the routes."""
    headers = {"content-security-policy": POLICY}
    page = screens.templates.get_template(_PAGE).render()

    async def show(_: Request) -> Response:
        """Show the page in which the customer's own script runs. Nobody's data is in it."""
        return Response(page, media_type="text/html", headers=headers)

    async def converter(
        request: Request,
        config: Config,
        tenant_id: Tenant,
        chosen: Annotated[UUID | None, Query(alias="converter_id")] = None,
    ) -> Response:
        """Give the text of a converter that a template is tried with; nothing where none is chosen."""
        text = ""
        if chosen is not None:
            async with reading(config, tenant_id) as uow:
                found = await find(uow, tenant_id, KIND_OF["converter"], chosen)
            text = found.body["text"]
        return screens.of(request).show("preview-converter.html", text=text)

    router = screens.router()
    router.add_api_route(f"/{_PAGE}", show, methods=["GET"])
    router.add_api_route("/previews/converter", converter, methods=["GET"])
    return router
