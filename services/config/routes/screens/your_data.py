"""Your data: what is kept until when, who fetched it, and its erasure before its time."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.words import word
from contracts.classes import DataClass
from services.config.domain.early_erasure import Stage, begins_at, stage_of
from services.config.routes import erasure_requests
from services.config.routes.access import (
    AdministeredTenant,
    Config,
    CustomerSession,
    reading,
)
from services.config.routes.screens.looks import add_to as add_looks_to
from services.config.routes.screens.looks import latest_looks
from services.config.routes.screens.screen import PAGES, Form, Screens
from services.config.store import early_erasure, export_uses
from services.config.store.kept import kept_of

AREA: Final = "your-data"
_USES_SHOWN: Final = 20

_TO_TYPE: Final = word("ERASE EVERYTHING")
_ASKED: Final = word("The erasure is asked for.")
_WITHDRAWN: Final = word("The erasure is no longer asked for.")
_MISTYPED: Final = word("That is not what was to be typed. Nothing has changed.")


_CLASSES: Final = {
    DataClass.INSTALLATION: word("The record of the installation and its licence"),
    DataClass.CONTENT: word("What your team creates in the app"),
    DataClass.ERRORS: word("Error reports of browsers, without names"),
    DataClass.TICKETS: word("Your support tickets"),
    DataClass.CONTACTS: word("The contacts of your licence"),
}


def _stores() -> Sequence[tuple[DataClass, Sequence[Mapping[str, str]]]]:
    """Read what ``python -m cli.privacy`` made of all services' data maps, by class."""
    found = json.loads((PAGES / "stores.json").read_text("utf-8"))
    return [
        (data_class, [store for store in found if store["data_class"] == data_class])
        for data_class in _CLASSES
    ]


def add_to(router: APIRouter, screens: Screens) -> None:
    """Add the routes to a router of screens."""
    stores = _stores()

    async def show(request: Request, config: Config, session: CustomerSession) -> Response:
        """Show what is kept, and where its erasure stands."""
        return await _page(request, config, session.tenant_id, administers=session.administers)

    async def ask(request: Request, config: Config, tenant_id: AdministeredTenant) -> Response:
        """Ask for everything to be erased, if what was typed says so."""
        typed = (await Form.of(request))["typed"].strip().casefold()
        if typed != screens.of(request).words.say(_TO_TYPE).casefold():
            return await _page(request, config, tenant_id, said=_MISTYPED, mistyped=True)
        await erasure_requests.ask(config, tenant_id)
        return await _page(request, config, tenant_id, said=_ASKED)

    async def withdraw(request: Request, config: Config, tenant_id: AdministeredTenant) -> Response:
        """Withdraw whatever is asked for."""
        await erasure_requests.withdraw(config, tenant_id)
        return await _page(request, config, tenant_id, said=_WITHDRAWN)

    async def _page(
        request: Request,
        config: Config,
        tenant_id: UUID,
        *,
        said: str = "",
        mistyped: bool = False,
        administers: bool = True,
    ) -> Response:
        screen = screens.of(request)
        async with reading(config, tenant_id) as uow:
            known = await early_erasure.purges(uow.connection, tenant_id)
            own = await early_erasure.request(uow.connection, tenant_id)
            shown: dict[str, Any] = {
                "kept": await kept_of(uow.connection, tenant_id),
                "uses": await export_uses.latest_uses(uow.connection, tenant_id, limit=_USES_SHOWN),
                **await latest_looks(uow, tenant_id),
                "stage": stage_of(known, own, ()),
                "begins_at": begins_at(known),
                "holds": known.holds if known else (),
            }
        return screen.show(
            "your-data.html",
            **shown,
            stages=Stage,
            administers=administers,
            to_type=_TO_TYPE,
            classes=stores,
            class_words=_CLASSES,
            data_location=config.context.data_location,
            mistyped=screen.words.say(_MISTYPED) if mistyped else "",
            said=screen.words.say(said) if said else "",
            path=AREA,
            area=AREA,
        )

    router.add_api_route(f"/{AREA}", show, methods=["GET"])
    add_looks_to(router, screens, f"/{AREA}")
    router.add_api_route(f"/{AREA}/erasure", ask, methods=["POST"])
    router.add_api_route(f"/{AREA}/erasure", withdraw, methods=["DELETE"])
