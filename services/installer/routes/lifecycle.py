"""Connect's calls: four lifecycle hooks and the descriptor, for each of the vendor's apps.

Plain Starlette routes: what is to be checked, and in which order, is Atlassian's protocol, and an
install should cost little more than its signature and its transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from chassis.service import running
from connect.descriptor import CONTENT_TYPE
from connect.forge import installation_id_of
from connect.hosts import AllowedHosts
from connect.lifecycle import (
    Disabled,
    Enabled,
    Installed,
    LifecycleBody,
    Uninstalled,
    read_body,
)
from connect.signed_install import SignedInstalls
from connect.signed_requests import SignedRequests
from services.installer.callers import Callers, PastReturn
from services.installer.domain.aliases import Alias, AliasKind
from services.installer.domain.tenants import Installation
from services.installer.domain.timelines import Entry
from services.installer.door import hear_installed, hear_switched, hear_uninstalled
from services.installer.routes.calls import (
    NO_TOKEN,
    TurnedAway,
    authorization_of,
    body_of,
    counting,
    durably,
    refuse_large,
    refusing,
    unknown_app,
)
from services.installer.settings import path_of

Body = TypeVar("Body", bound=LifecycleBody)


@dataclass(frozen=True, slots=True)
class AppDoor:
    """One app as it is called from outside; ``on_forge`` is whether Forge calls it too."""

    gate: SignedInstalls
    descriptor: bytes
    on_forge: bool


def lifecycle_router(apps: Mapping[str, AppDoor], hosts: AllowedHosts) -> APIRouter:
    """Return the routes by which Atlassian installs and uninstalls these apps."""
    calls = _Calls(apps, hosts)
    base = path_of("{addon_key}")
    router = APIRouter()
    router.add_route(f"{base}/lifecycle/installed", calls.installed, methods=["POST"])
    router.add_route(f"{base}/lifecycle/uninstalled", calls.uninstalled, methods=["POST"])
    router.add_route(f"{base}/lifecycle/enabled", calls.enabled, methods=["POST"])
    router.add_route(f"{base}/lifecycle/disabled", calls.disabled, methods=["POST"])
    router.add_route(f"{base}/atlassian-connect.json", calls.descriptor, methods=["GET"])
    return router


class _Calls:
    """The calls, for all apps."""

    def __init__(self, apps: Mapping[str, AppDoor], hosts: AllowedHosts) -> None:
        self._apps = apps
        self._hosts = hosts

    async def installed(self, request: Request) -> Response:
        """Store what the site says of itself; 204 once that is durable."""
        this = running(request)
        with counting(request, "installed"):
            app = self._app(request)
            body = await self._signed_by_atlassian(app, request, Installed)
            heard = await durably(
                lambda: hear_installed(
                    this.units, _installation(body), forge=_forge_name(app, body)
                )
            )
        this.context.figures.installs_heard_total.labels(body.key, heard).inc()
        return Response(status_code=204)

    async def uninstalled(self, request: Request) -> Response:
        """Note that the site removed the app; 204 also where nothing is known of it."""
        with counting(request, "uninstalled"):
            body = await self._signed_by_atlassian(self._app(request), request, Uninstalled)
            units = running(request).units
            await durably(lambda: hear_uninstalled(units, body.key, body.client_key))
        return Response(status_code=204)

    async def enabled(self, request: Request) -> Response:
        """Note that the site may use the app."""
        with counting(request, "enabled"):
            return await self._switched(request, Enabled, Entry.ENABLED)

    async def disabled(self, request: Request) -> Response:
        """Note that the site may not use the app.

        After an uninstall this call can come without a token (Atlassian's
        AC-2561): it is not believed, and answered like one that is.
        """
        try:
            with counting(request, "disabled"):
                return await self._switched(request, Disabled, Entry.DISABLED)
        except TurnedAway as away:
            if away.reason != NO_TOKEN:
                raise
            return Response(status_code=204)

    async def descriptor(self, request: Request) -> Response:
        """Serve the app's descriptor, the same bytes for as long as the app is the same."""
        return Response(
            self._app(request).descriptor,
            headers={"content-type": CONTENT_TYPE, "cache-control": "public, max-age=300"},
        )

    def _app(self, request: Request) -> AppDoor:
        app = self._apps.get(request.path_params["addon_key"])
        if app is None:
            raise unknown_app()
        return app

    async def _signed_by_atlassian(self, app: AppDoor, request: Request, model: type[Body]) -> Body:
        """Read a call that Atlassian signed, the signature before the body."""
        addon_key: str = request.path_params["addon_key"]
        scope = request.scope
        refuse_large(request)
        with refusing(addon_key):
            call = await app.gate.verify(
                method=scope["method"],
                raw_path=scope["raw_path"],
                raw_query=scope["query_string"],
                authorization=authorization_of(request),
                base_path=path_of(addon_key),
            )
            body = read_body(model, await body_of(request), self._hosts)
            app.gate.check_body(call, body)
        return body

    async def _switched(
        self, request: Request, model: type[LifecycleBody], entry: Entry
    ) -> Response:
        """Store what a site signed with its own secret; 204 also for one that is being purged."""
        app, addon_key = self._app(request), request.path_params["addon_key"]
        units, scope = running(request).units, request.scope
        callers = Callers(units, addon_key)
        refuse_large(request)
        try:
            with refusing(addon_key):
                # The token's times are of the real world, whatever business time is.
                call = await durably(
                    lambda: SignedRequests(callers.secrets).verify(
                        method=scope["method"],
                        raw_path=scope["raw_path"],
                        raw_query=scope["query_string"],
                        authorization=authorization_of(request),
                        base_path=path_of(addon_key),
                    )
                )
                body = read_body(model, await body_of(request), self._hosts)
                app.gate.check_body(call, body)
        except PastReturn:
            return Response(status_code=204)
        assert callers.found is not None
        tenant_id = callers.found.tenant_id
        await durably(lambda: hear_switched(units, tenant_id, entry))
        return Response(status_code=204)


def _installation(body: Installed) -> Installation:
    return Installation(
        addon_key=body.key,
        product_type=body.product_type,
        client_key=body.client_key,
        base_url=body.base_url,
        service_entitlement_number=body.service_entitlement_number,
        shared_secret=body.shared_secret.get_secret_value(),
        oauth_client_id=body.oauth_client_id,
        entitlement_id=body.entitlement_id,
        entitlement_number=body.entitlement_number,
    )


def _forge_name(app: AppDoor, body: Installed) -> Alias | None:
    """Give the site's name on Forge; None where Forge would not tell us that it is out of use."""
    if not app.on_forge or body.installation_id is None:
        return None
    name = installation_id_of(body.installation_id)
    return Alias(AliasKind.FORGE_INSTALLATION, body.key, name) if name is not None else None
