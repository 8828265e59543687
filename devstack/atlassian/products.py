"""What a site answers an app, and the page of a site that embeds an app."""

import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from connect.hosts import parse_base_url
from connect.jwt import Algorithm, InvalidToken, find_token, parse, verify
from connect.qsh import CONTEXT_QSH, query_string_hash
from devstack.atlassian.signer import Atlassian, sign_with_secret
from devstack.atlassian.sites import SITE_NAME, Site, context_path

PAGES = Path(__file__).parent.parent / "pages"
ENTRY_PATH = "/entry"
ADMIN_PATH = "/administration"
CONTEXT_TOKEN_LIFE = timedelta(minutes=15)
PERSON = "5be24ad8b1653240376955d2"  # the account that Atlassian offers for tests


class Products:
    """The sites' own side: the licence endpoint, the cloud id, an app in a frame and its bridge."""

    def __init__(self, atlassian: Atlassian, installer_url: str, app_keys: list[str]) -> None:
        self._atlassian = atlassian
        self._installer_url = installer_url
        self._app_keys = app_keys
        self._templates = Jinja2Templates(directory=PAGES)

    def routes(self) -> list[Route]:
        """Give the routes below ``/sites/{name}`` that an app or a browser asks."""
        addon = "/rest/atlassian-connect/1/addons/{app}"
        return [
            Route(f"/sites/{{name}}{addon}", self.addon),
            Route(f"/sites/{{name}}/wiki{addon}", self.addon),
            Route("/sites/{name}/_edge/tenant_info", self.tenant_info),
            Route("/sites/{name}/page", self.page),
            Route("/sites/{name}/context-token", self.context_token),
            Route("/all.js", self.bridge),
            Route("/site.js", self.host_script),
        ]

    async def addon(self, request: Request) -> Response:
        """Tell an app of itself and its licence, if its token is good for this very request."""
        site, app_key = site_of(self._atlassian, request), request.path_params["app"]
        base_path = f"/sites/{site.name}{context_path(site.product_type)}"
        raw_path = request.scope["raw_path"].decode()
        if not raw_path.startswith(f"{base_path}/rest/"):  # another product's path
            raise HTTPException(404)
        if not self._is_signed(request, site, app_key, base_path):
            raise HTTPException(401)
        if not self._atlassian.is_installed(site, app_key):
            raise HTTPException(404)
        return JSONResponse(
            {
                "key": app_key,
                "version": "1.0",
                "state": "ENABLED",
                "host": {
                    "product": site.product_type.title(),
                    "contacts": [{"name": "A Person", "email": f"person@{site.name}.example"}],
                },
                "license": self._atlassian.subscribe(site, app_key).licence(),
                "links": {"marketplace": [{"href": "https://marketplace.example/app"}]},
            }
        )

    def _is_signed(self, request: Request, site: Site, app_key: str, base_path: str) -> bool:
        scope = request.scope
        try:
            token = parse(
                find_token(authorization=request.headers.getlist("authorization")), Algorithm.HS256
            )
            verify(
                token,
                site.shared_secret.encode(),
                now=time.time(),
                issuer=app_key,
                qsh=query_string_hash("GET", scope["raw_path"], scope["query_string"], base_path),
            )
        except InvalidToken:
            return False
        return True

    async def tenant_info(self, request: Request) -> Response:
        """Tell anyone the cloud id."""
        return JSONResponse({"cloudId": site_of(self._atlassian, request).cloud_id})

    async def page(self, request: Request) -> Response:
        """Show a page of the site with the app in a frame, as a customer sees it.

        ``administration`` in the query stands for who administers the site, and nobody asks who does.
        """
        site, app_key = site_of(self._atlassian, request), app_of(self._app_keys, request)
        try:
            entry = await self._entry_url(request, site, app_key)
        except httpx2.HTTPError:
            raise HTTPException(502) from None
        parts = urlsplit(entry)
        policy = (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
            f"frame-src {parts.scheme}://{parts.netloc}"
        )
        return self._templates.TemplateResponse(
            request,
            "site.html",
            {"site": site, "app_key": app_key, "entry": entry},
            headers={"Content-Security-Policy": policy},
        )

    async def _entry_url(self, request: Request, site: Site, app_key: str) -> str:
        app = await self._atlassian.look_up(self._installer_url, app_key)
        base = parse_base_url(app.base_url)
        active = self._atlassian.subscribe(site, app_key).ended_on is None
        query = urlencode(
            {
                "lic": "active" if active else "none",
                "xdm_e": f"{request.url.scheme}://{request.url.netloc}",
                "xdm_c": "channel-entry",
                "cp": context_path(site.product_type),
            }
        )
        path = ADMIN_PATH if "administration" in request.query_params else ENTRY_PATH
        token = sign_with_secret(site, query_string_hash("GET", path, query))
        base_path = base.path if base is not None else ""
        return f"{self._installer_url.rstrip('/')}{base_path}{path}?{query}&jwt={token}"

    async def context_token(self, request: Request) -> Response:
        """Make the token that ``AP.context.getToken`` gives; the page fetches it for the frame."""
        site, app_key = site_of(self._atlassian, request), app_of(self._app_keys, request)
        if not self._atlassian.is_installed(site, app_key):
            raise HTTPException(404)
        token = sign_with_secret(
            site,
            CONTEXT_QSH,
            lifetime_seconds=int(CONTEXT_TOKEN_LIFE.total_seconds()),
            more_claims={"sub": PERSON, "context": {"user": {"accountId": PERSON}}},
        )
        return JSONResponse({"token": token}, headers={"Cache-Control": "no-store"})

    async def bridge(self, _: Request) -> Response:
        """Serve the script that an app's page loads for ``AP``."""
        return FileResponse(PAGES / "all.js", media_type="text/javascript")

    async def host_script(self, _: Request) -> Response:
        """Serve the script of the page around the frame."""
        return FileResponse(PAGES / "site.js", media_type="text/javascript")


def site_of(atlassian: Atlassian, request: Request) -> Site:
    """Give the site that a path names; it comes into being when first named, until it is deleted."""
    name = request.path_params["name"]
    if SITE_NAME.fullmatch(name) is None or name in atlassian.deleted:
        raise HTTPException(404)
    return atlassian.site(name)


def app_of(app_keys: list[str], request: Request) -> str:
    """Give the app that a query names, or the first one."""
    app_key = request.query_params.get("app", app_keys[0])
    if app_key not in app_keys:
        raise HTTPException(404)
    return app_key
