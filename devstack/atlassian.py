"""A stand-in for Atlassian: customer sites whose installs and uninstalls are signed as the real ones.

It publishes its public key as the key host does, reads an app's descriptor as the Marketplace does,
and calls the app's lifecycle hooks. Run it with ``python -m devstack.atlassian``, or use
:class:`Atlassian` within a test.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import NAMESPACE_DNS, uuid4, uuid5

import httpx2
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from connect import jwt
from connect.hosts import parse_base_url
from connect.lifecycle import EventType
from connect.qsh import query_string_hash

TOKEN_SECONDS = 180
HOOK_TIMEOUT_SECONDS = 10.0
SITE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
SIGNED_BY_ATLASSIAN = frozenset({EventType.INSTALLED, EventType.UNINSTALLED})
EVENTS_BY_VERB = {
    "install": EventType.INSTALLED,
    "uninstall": EventType.UNINSTALLED,
    "enable": EventType.ENABLED,
    "disable": EventType.DISABLED,
}
FIRST_SITES = (("acme", "jira"), ("globex", "jira"), ("initech", "confluence"))


@dataclass(frozen=True, slots=True)
class Site:
    """One customer's site; the client key stays when everything else changes."""

    client_key: str
    base_url: str
    shared_secret: str = field(repr=False)
    product_type: str = "jira"
    service_entitlement_number: str | None = None

    @classmethod
    def named(cls, name: str, product_type: str = "jira") -> "Site":
        """Make up the site ``<name>.atlassian.net``: the same client key each time, a new secret."""
        path = "/wiki" if product_type == "confluence" else ""
        host = f"{name}.atlassian.net"
        return cls(
            str(uuid5(NAMESPACE_DNS, host)), f"https://{host}{path}", _secret(), product_type
        )

    def with_new_secret(self) -> "Site":
        """Give the same site with another secret, as each installation has one of its own."""
        return replace(self, shared_secret=_secret())

    def lifecycle_body(self, event: EventType, app_key: str) -> bytes:
        """Write the body of a lifecycle call, with the fields that Atlassian sends today."""
        body = {
            "key": app_key,
            "clientKey": self.client_key,
            "sharedSecret": self.shared_secret if event is EventType.INSTALLED else None,
            "serverVersion": "server-version",
            "pluginsVersion": "version-of-connect",
            "baseUrl": self.base_url,
            "displayUrl": self.base_url,
            "displayUrlServicedeskHelpCenter": self.base_url,
            "productType": self.product_type,
            "description": f"Atlassian {self.product_type.title()} at {self.base_url}",
            "serviceEntitlementNumber": self.service_entitlement_number,
            "eventType": event.value,
        }
        present = {name: value for name, value in body.items() if value is not None}
        return json.dumps(present).encode()


@dataclass(frozen=True, slots=True)
class Hook:
    """A signed lifecycle call, ready to be sent to ``path`` of the app's base URL."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppAddress:
    """What the descriptor says about where an app is called: its base URL and its hooks' paths."""

    base_url: str
    hooks: Mapping[EventType, str]


class Atlassian:
    """The signer, its key host and the sites it speaks for.

    ``key_requests`` counts what the key host was asked, by key id; while
    ``key_host_is_away`` is set it answers 503.
    """

    def __init__(self, http: httpx2.AsyncClient, *, key_id: str | None = None) -> None:
        self._http = http
        self.private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = key_id or str(uuid4())
        self.key_requests: Counter[str] = Counter()
        self.key_host_is_away = False
        self.sites = {name: Site.named(name, product) for name, product in FIRST_SITES}

    @property
    def public_key_pem(self) -> str:
        """The key as the key host publishes it."""
        return (
            self.private_key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(
        self,
        site: Site,
        *,
        audience: str,
        path: str,
        query: str = "",
        method: str = "POST",
        issued_at: int | None = None,
        lifetime_seconds: int = TOKEN_SECONDS,
        more_claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a signed-install token (RS256) for a request to ``path`` below the app's base URL.

        About 3000 of these are made in a second, so a benchmark signs its
        requests beforehand; a longer life keeps them valid while it runs.
        """
        issued_at = int(time.time()) if issued_at is None else issued_at
        claims = {
            "iss": site.client_key,
            "aud": [audience],
            "iat": issued_at,
            "exp": issued_at + lifetime_seconds,
            "qsh": query_string_hash(method, path, query),
            **(more_claims or {}),
        }
        return jwt.sign(claims, self.private_key, key_id=self.key_id)

    def hook(
        self,
        site: Site,
        event: EventType,
        *,
        app_key: str,
        audience: str,
        path: str,
        query: str = "",
        issued_at: int | None = None,
        lifetime_seconds: int = TOKEN_SECONDS,
    ) -> Hook:
        """Make one lifecycle call: signed by us for (un)installed, by the shared secret otherwise."""
        if event in SIGNED_BY_ATLASSIAN:
            token = self.sign(
                site,
                audience=audience,
                path=path,
                query=query,
                issued_at=issued_at,
                lifetime_seconds=lifetime_seconds,
            )
        else:
            token = _sign_with_secret(site, path, query, issued_at, lifetime_seconds)
        return Hook(
            path=f"{path}?{query}" if query else path,
            headers={"Authorization": f"JWT {token}", "Content-Type": "application/json"},
            content=site.lifecycle_body(event, app_key),
        )

    async def install(
        self, site: Site, installer_base_url: str, app_key: str, *, query: str = ""
    ) -> httpx2.Response:
        """Tell the app that it is installed at this site."""
        return await self.send(site, EventType.INSTALLED, installer_base_url, app_key, query=query)

    async def uninstall(
        self, site: Site, installer_base_url: str, app_key: str, *, query: str = ""
    ) -> httpx2.Response:
        """Tell the app that this site has removed it."""
        return await self.send(
            site, EventType.UNINSTALLED, installer_base_url, app_key, query=query
        )

    async def send(
        self,
        site: Site,
        event: EventType,
        installer_base_url: str,
        app_key: str,
        *,
        query: str = "",
    ) -> httpx2.Response:
        """Read the app's descriptor, call the hook it names for this event, and give the answer.

        ``installer_base_url`` is where the installer listens; the audience and
        the paths are the descriptor's own.
        """
        app = await self.look_up(installer_base_url, app_key)
        base = parse_base_url(app.base_url)
        base_path = base.path if base is not None else ""
        hook = self.hook(
            site,
            event,
            app_key=app_key,
            audience=app.base_url,
            path=app.hooks[event],
            query=query,
        )
        return await self._http.post(
            f"{installer_base_url.rstrip('/')}{base_path}{hook.path}",
            content=hook.content,
            headers=hook.headers,
            timeout=HOOK_TIMEOUT_SECONDS,
        )

    async def look_up(self, installer_base_url: str, app_key: str) -> AppAddress:
        """Fetch the app's descriptor for its base URL and hooks."""
        response = await self._http.get(
            f"{installer_base_url.rstrip('/')}/connect/{app_key}/atlassian-connect.json",
            timeout=HOOK_TIMEOUT_SECONDS,
        )
        descriptor = response.raise_for_status().json()
        return AppAddress(
            base_url=descriptor["baseUrl"],
            hooks={EventType(event): path for event, path in descriptor["lifecycle"].items()},
        )

    def site(self, name: str) -> Site:
        """Give the site of this name; it comes into being when first named."""
        if SITE_NAME.fullmatch(name) is None:
            raise ValueError("a site is named by lower-case letters, digits and hyphens")
        return self.sites.setdefault(name, Site.named(name))


class Desk:
    """The HTTP side: the key host, routes that make a site call the app, and the page of sites."""

    def __init__(self, atlassian: Atlassian, installer_url: str, app_keys: list[str]) -> None:
        self._atlassian = atlassian
        self._installer_url = installer_url
        self._app_keys = app_keys
        self._answers: dict[tuple[str, str], str] = {}
        self._templates = Jinja2Templates(directory=Path(__file__).parent / "pages")

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
        return _page_or(request, await self.key_host(request))

    async def call_app(self, request: Request) -> Response:
        """Make a site call the app; a site that was never named before is made up."""
        name, verb = request.path_params["name"], request.path_params["verb"]
        app_key = request.query_params.get("app", self._app_keys[0])
        event = EVENTS_BY_VERB.get(verb)
        if event is None or app_key not in self._app_keys or SITE_NAME.fullmatch(name) is None:
            raise HTTPException(404)
        status = await self._answer_of_app(name, event, app_key)
        self._answers[name, app_key] = f"{event}: {'no answer' if status is None else status}"
        answer = {"site": name, "app": app_key, "event": event.value, "status": status}
        return _page_or(request, JSONResponse(answer, status_code=502 if status is None else 200))

    async def _answer_of_app(self, name: str, event: EventType, app_key: str) -> int | None:
        site = self._atlassian.site(name)
        if event is EventType.INSTALLED:
            site = self._atlassian.sites[name] = site.with_new_secret()
        try:
            answer = await self._atlassian.send(site, event, self._installer_url, app_key)
        except httpx2.HTTPError:
            return None
        return answer.status_code

    async def page(self, request: Request) -> Response:
        """Show the sites, a button for each call, and the app's last answer."""
        return self._templates.TemplateResponse(
            request,
            "atlassian.html",
            {
                "sites": self._atlassian.sites,
                "app_keys": self._app_keys,
                "verbs": list(EVENTS_BY_VERB),
                "answers": self._answers,
                "away": self._atlassian.key_host_is_away,
            },
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
                "form-action 'self'; frame-ancestors 'none'"
            },
        )


def create_app(atlassian: Atlassian, installer_url: str, app_keys: list[str]) -> Starlette:
    """Build the web app of the stand-in, for a process of its own or for a test."""
    desk = Desk(atlassian, installer_url, app_keys)
    return Starlette(
        routes=[
            Route("/", desk.page),
            Route("/install-keys/{kid}", desk.install_key),
            Route("/key-host", desk.key_host),
            Route("/key-host/{state}", desk.move_key_host, methods=["POST"]),
            Route("/sites/{name}/{verb}", desk.call_app, methods=["POST"]),
        ]
    )


@asynccontextmanager
async def new_atlassian() -> AsyncIterator[Atlassian]:
    """Give a stand-in with an HTTP client of its own, closed at the end."""
    async with httpx2.AsyncClient() as http:
        yield Atlassian(http)


def _page_or(request: Request, answer: Response) -> Response:
    """Lead a person back to the page, and give a program the answer."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/", status_code=303)
    return answer


def _sign_with_secret(
    site: Site, path: str, query: str, issued_at: int | None, lifetime_seconds: int
) -> str:
    issued_at = int(time.time()) if issued_at is None else issued_at
    claims = {
        "iss": site.client_key,
        "iat": issued_at,
        "exp": issued_at + lifetime_seconds,
        "qsh": query_string_hash("POST", path, query),
    }
    return jwt.sign(claims, site.shared_secret.encode())


def _secret() -> str:
    return "ATCO" + token_hex(32)


async def serve(installer_url: str, app_keys: list[str], host: str, port: int) -> None:
    """Serve the stand-in until the process is told to stop."""
    async with new_atlassian() as atlassian:
        app = create_app(atlassian, installer_url, app_keys)
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m devstack.atlassian", description=__doc__)
    parser.add_argument("--installer-url", required=True, help="where the installer listens")
    parser.add_argument("--app-key", action="append", required=True, help="an app; may be repeated")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends on a laptop
        asyncio.run(serve(options.installer_url, options.app_key, options.host, options.port))


if __name__ == "__main__":
    main()
