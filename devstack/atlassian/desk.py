"""The HTTP side of the stand-in, as one web app."""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from connect.forge import ForgeEventType
from connect.lifecycle import EventType
from devstack.atlassian.products import PAGES, Products, app_of, site_of
from devstack.atlassian.service_desk import PATH as SERVICE_DESK
from devstack.atlassian.service_desk import page_or
from devstack.atlassian.signer import Atlassian
from devstack.atlassian.sites import Site

EVENTS_BY_VERB = {
    "install": EventType.INSTALLED,
    "uninstall": EventType.UNINSTALLED,
    "enable": EventType.ENABLED,
    "disable": EventType.DISABLED,
}
FORGE_EVENTS_BY_VERB = {
    "install": ForgeEventType.INSTALLED,
    "upgrade": ForgeEventType.UPGRADED,
    "uninstall": ForgeEventType.UNINSTALLED,
}

_AnyEvent = TypeVar("_AnyEvent", bound=StrEnum)


class Desk:
    """The HTTP side: the key hosts, routes that make a site act, and the page of sites."""

    def __init__(self, atlassian: Atlassian, installer_url: str, app_keys: list[str]) -> None:
        self._atlassian = atlassian
        self._installer_url = installer_url
        self._app_keys = app_keys
        self._answers: dict[tuple[str, str], str] = {}
        self._templates = Jinja2Templates(directory=PAGES)

    def routes(self) -> list[Route]:
        """Give the page, the key hosts and the routes by which a site acts."""
        return [
            Route("/", self.page),
            Route("/install-keys/{kid}", self.install_key),
            Route("/key-host", self.key_host),
            Route("/key-host/{state}", self.move_key_host, methods=["POST"]),
            Route("/forge/.well-known/jwks.json", self.forge_keys),
            Route("/sites/{name}/delete", self.delete, methods=["POST"]),
            Route("/sites/{name}/import", self.import_data, methods=["POST"]),
            Route("/sites/{name}/licence/{state}", self.change_licence, methods=["POST"]),
            Route("/sites/{name}/forge/{verb}", self.call_remote, methods=["POST"]),
            Route("/sites/{name}/{verb}", self.call_app, methods=["POST"]),
        ]

    async def install_key(self, request: Request) -> Response:
        """Publish the public key, as text."""
        key_id = request.path_params["kid"]
        self._atlassian.key_requests[key_id] += 1
        if self._atlassian.key_host_is_away:
            return PlainTextResponse("away", status_code=503)
        if key_id != self._atlassian.key_id:
            return PlainTextResponse("unknown", status_code=404)
        return PlainTextResponse(self._atlassian.public_key_pem)

    async def key_host(self, _: Request) -> Response:
        """Say what the key host was asked so far."""
        return JSONResponse(
            {
                "away": self._atlassian.key_host_is_away,
                "requests": self._atlassian.key_requests.total(),
                "key_id": self._atlassian.key_id,
            }
        )

    async def move_key_host(self, request: Request) -> Response:
        """Send the key host away, or bring it back."""
        state = request.path_params["state"]
        if state not in {"away", "back"}:
            raise HTTPException(404)
        self._atlassian.key_host_is_away = state == "away"
        return page_or(request, await self.key_host(request))

    async def forge_keys(self, _: Request) -> Response:
        """Publish the keys of Forge's tokens."""
        return JSONResponse(self._atlassian.forge.key_set())

    async def delete(self, request: Request) -> Response:
        """Delete a site: it answers nothing any more, and tells no app of its end."""
        site = site_of(self._atlassian, request)
        self._atlassian.deleted.add(site.name)
        return page_or(request, JSONResponse({"site": site.name, "deleted": True}))

    async def import_data(self, request: Request) -> Response:
        """Let a site's data be replaced by an import, and say as whom it speaks from then on."""
        site = self._atlassian.import_data(site_of(self._atlassian, request))
        return page_or(request, JSONResponse({"site": site.name, "client_key": site.client_key}))

    async def change_licence(self, request: Request) -> Response:
        """Let what a site pays for an app end, or begin again."""
        site, app_key = site_of(self._atlassian, request), app_of(self._app_keys, request)
        match request.path_params["state"]:
            case "end":
                self._atlassian.end_licence(site, app_key)
            case "renew":
                self._atlassian.renew_licence(site, app_key)
            case _:
                raise HTTPException(404)
        active = self._atlassian.subscribe(site, app_key).ended_on is None
        answer = {"site": site.name, "app": app_key, "active": active}
        return page_or(request, JSONResponse(answer))

    async def call_app(self, request: Request) -> Response:
        """Make a site call the app; a site that was never named before is made up.

        An install may say by which support entitlement number (``sen``) it is paid for.
        """
        site, app_key = site_of(self._atlassian, request), app_of(self._app_keys, request)
        event = _event(EVENTS_BY_VERB, request)
        if event is EventType.INSTALLED:
            number = request.query_params.get("sen", site.service_entitlement_number)
            site = replace(site.with_new_secret(), service_entitlement_number=number)
            self._atlassian.sites[site.name] = site
        call = self._atlassian.send(site, event, self._installer_url, app_key)
        return await self._answer_of(call, request, event, site.name, app_key)

    async def call_remote(self, request: Request) -> Response:
        """Make Forge tell the app's remote of an installation at this site."""
        site, app_key = site_of(self._atlassian, request), app_of(self._app_keys, request)
        event = _event(FORGE_EVENTS_BY_VERB, request)
        call = self._atlassian.send_forge(site, event, self._installer_url, app_key)
        return await self._answer_of(call, request, event, site.name, app_key)

    async def _answer_of(
        self,
        call: Awaitable[httpx2.Response],
        request: Request,
        event: StrEnum,
        name: str,
        app_key: str,
    ) -> Response:
        try:
            status = (await call).status_code
        except httpx2.HTTPError:
            status = None
        self._answers[name, app_key] = f"{event}: {'no answer' if status is None else status}"
        answer = {"site": name, "app": app_key, "event": event.value, "status": status}
        return page_or(request, JSONResponse(answer, status_code=502 if status is None else 200))

    async def page(self, request: Request) -> Response:
        """Show the sites, a button for each call, and the app's last answer."""
        return self._templates.TemplateResponse(
            request,
            "atlassian.html",
            {
                "sites": self._present_sites(),
                "app_keys": self._app_keys,
                "verbs": list(EVENTS_BY_VERB),
                "answers": self._answers,
                "ended_licences": self._ended_licences(),
                "away": self._atlassian.key_host_is_away,
                "service_desk": SERVICE_DESK,
                "desk": self._atlassian.service_desk,
                "licence_of": self._licence_number,
            },
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
                "form-action 'self'; frame-ancestors 'none'"
            },
        )

    def _present_sites(self) -> dict[str, Site]:
        sites, deleted = self._atlassian.sites, self._atlassian.deleted
        return {name: site for name, site in sites.items() if name not in deleted}

    def _licence_number(self, site: Site, app_key: str) -> str:
        return site.subscription(app_key).number

    def _ended_licences(self) -> set[tuple[str, str]]:
        subscriptions = self._atlassian.subscriptions.items()
        return {place for place, paid in subscriptions if paid.ended_on is not None}


def create_app(atlassian: Atlassian, installer_url: str, app_keys: list[str]) -> Starlette:
    """Build the web app of the stand-in, for a process of its own or for a test."""
    products = Products(atlassian, installer_url, app_keys)
    desk = Desk(atlassian, installer_url, app_keys)
    return Starlette(
        routes=[
            *products.routes(),
            *atlassian.marketplace.routes(),
            *atlassian.service_desk.routes(),
            *desk.routes(),
        ],
    )


def _event(events: Mapping[str, _AnyEvent], request: Request) -> _AnyEvent:
    event = events.get(request.path_params["verb"])
    if event is None:
        raise HTTPException(404)
    return event
