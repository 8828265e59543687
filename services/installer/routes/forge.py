"""Forge's calls: the lifecycle events of an app that has a remote, and its uninstall beforehand."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from chassis.service import running
from connect.calls import Refusal, Refused
from connect.forge import (
    ForgeEventType,
    ForgeSite,
    ForgeTokens,
    Invocation,
    check_event,
    read_event,
)
from services.installer.domain.aliases import ForgeInstallation
from services.installer.domain.timelines import Entry
from services.installer.door import hear_forge_installed, hear_forge_uninstalled
from services.installer.routes.calls import (
    TurnedAway,
    authorization_of,
    body_of,
    counting,
    durably,
    refuse_large,
    refusing,
    unknown_app,
)

_PRODUCTION: Final = "PRODUCTION"
_UNKNOWN_PRODUCT: Final = "unknown"
_ENTRIES: Final = {
    ForgeEventType.INSTALLED: Entry.FORGE_INSTALLED,
    ForgeEventType.UPGRADED: Entry.FORGE_UPGRADED,
}


@dataclass(frozen=True, slots=True)
class ForgeDoor:
    """One app as Forge calls it.

    The gate takes tokens for this app alone; ``modules`` are those whose calls
    are Forge's own.
    """

    gate: ForgeTokens
    modules: Collection[str]


def forge_router(apps: Mapping[str, ForgeDoor], *, any_environment: bool) -> APIRouter:
    """Return the routes by which Forge tells of installations.

    Installations of the vendor's own developers are refused, unless
    ``any_environment`` is set.
    """
    calls = _Calls(apps, any_environment=any_environment)
    router = APIRouter()
    router.add_route("/forge/{addon_key}/lifecycle", calls.lifecycle, methods=["POST"])
    router.add_route("/forge/{addon_key}/pre-uninstall", calls.pre_uninstall, methods=["POST"])
    return router


class _Calls:
    """The calls, for all apps."""

    def __init__(self, apps: Mapping[str, ForgeDoor], *, any_environment: bool) -> None:
        self._apps = apps
        self._any_environment = any_environment

    async def lifecycle(self, request: Request) -> Response:
        """Store what Forge says of an installation; 204 once that is durable."""
        addon_key: str = request.path_params["addon_key"]
        units = running(request).units
        with counting(request, "forge-lifecycle"), refusing(addon_key, "Bearer"):
            app = self._app(request)
            invocation = await self._invocation(app, request)
            event = read_event(await body_of(request))
            check_event(invocation, event, modules=app.modules)
            installation = _installation(addon_key, invocation, event.site)
            entry = _ENTRIES.get(event.event_type)
            if entry is None:
                await durably(lambda: hear_forge_uninstalled(units, installation))
            else:
                await durably(lambda: hear_forge_installed(units, installation, entry))
        return Response(status_code=204)

    async def pre_uninstall(self, request: Request) -> Response:
        """Note that an installation ends, by the call of a module that Forge makes beforehand.

        What its body holds is published nowhere, so the token alone is
        believed, and the body not read.
        """
        addon_key: str = request.path_params["addon_key"]
        units = running(request).units
        with counting(request, "forge-pre-uninstall"), refusing(addon_key, "Bearer"):
            app = self._app(request)
            invocation = await self._invocation(app, request)
            if invocation.module_key not in app.modules:
                raise Refused(Refusal.FOREIGN_MODULE)
            if invocation.by_a_person:
                raise Refused(Refusal.BY_A_PERSON)
            installation = _installation(addon_key, invocation, None)
            await durably(lambda: hear_forge_uninstalled(units, installation))
        return Response(status_code=204)

    def _app(self, request: Request) -> ForgeDoor:
        app = self._apps.get(request.path_params["addon_key"])
        if app is None:
            raise unknown_app()
        return app

    async def _invocation(self, app: ForgeDoor, request: Request) -> Invocation:
        """Check the token of a call, before its body is read."""
        refuse_large(request)
        invocation = await app.gate.verify(authorization_of(request))
        if invocation.environment != _PRODUCTION and not self._any_environment:
            raise TurnedAway(
                "another-environment", 403, "Only production installations are served here."
            )
        return invocation


def _installation(
    addon_key: str, invocation: Invocation, told: ForgeSite | None
) -> ForgeInstallation:
    site = invocation.site or told
    return ForgeInstallation(
        addon_key=addon_key,
        installation_id=invocation.installation_id,
        cloud_id=site.cloud_id if site else None,
        product_type=site.product if site else _UNKNOWN_PRODUCT,
    )
