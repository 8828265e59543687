"""An app's page in the customer's browser, in a frame at the customer's site."""

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chassis.pages import PageFiles, wants_page
from chassis.problems import Problem
from chassis.service import running
from chassis.words import Language, Words, language_of
from connect.hosts import AllowedHosts
from services.installer.domain.visits import Refusal
from services.installer.routes.calls import authorization_of
from services.installer.routes.sessions import session_for, turn_away
from services.installer.sessions import SessionSigner
from services.installer.settings import ADMIN_PATH, ENTRY_PATH, InstallerSettings, path_of
from services.installer.visitors import NoSession, admit

PAGES: Final = Path(__file__).parent.parent / "pages" / "app"
_NO_APP: Final = "no-app"
_STATIC: Final = {"entry.js": "text/javascript", "entry.css": "text/css"}


def pages_router(settings: InstallerSettings, signer: SessionSigner) -> APIRouter:
    """Return the routes of the apps' pages, and of what these load from us."""
    pages = _Pages(settings, signer)
    files = PageFiles(PAGES, _STATIC)
    base = path_of("{addon_key}")
    router = APIRouter()
    router.add_route(f"{base}{ENTRY_PATH}", pages.entry, methods=["GET"])
    router.add_route(f"{base}{ADMIN_PATH}", pages.administration, methods=["GET"])
    router.add_route(f"{base}/", pages.descriptor, methods=["GET"])
    for name in _STATIC:
        # Below the page, so that its links are right wherever the app's address leads;
        # the same for every app, and for a page that says there is no such app.
        router.add_route(f"{base}/{name}", files.show, methods=["GET"], name=name)
    return router


class _Pages:
    """The pages, for all apps."""

    def __init__(self, settings: InstallerSettings, signer: SessionSigner) -> None:
        self._apps = {app.key: app for app in settings.apps}
        self._signer = signer
        self._told = {
            "bridge_url": settings.connect_bridge_url,
            "config_url": settings.config_public_url,
            "notifier_url": settings.notifier_public_url,
            # What error reports of the page say they are of.
            "release": f"keepword@{version('keepword')}",
            "policy_url": settings.privacy_policy_url,
            "data_location": settings.data_location,
        }
        self._headers = {
            "content-security-policy": content_policy(settings),
            # The frame's address carries Atlassian's token.
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "vary": "accept-language",
        }
        self._templates = {language: Words.of(language, PAGES).templates() for language in Language}

    async def entry(self, request: Request) -> Response:
        """Show the app's page, with a session for the site that signed its address."""
        return await self._shown(request, administers=False)

    async def administration(self, request: Request) -> Response:
        """Show the same with an administrator's session: the site signs this address for no other."""
        return await self._shown(request, administers=True)

    async def _shown(self, request: Request, *, administers: bool) -> Response:
        app = self._apps.get(request.path_params["addon_key"])
        if app is None:
            return self._no_app(request)
        scope, addon_key = request.scope, app.key
        this = running(request)
        try:
            caller = await admit(
                this.units,
                addon_key,
                lambda gate: gate.verify(
                    method=scope["method"],
                    raw_path=scope["raw_path"],
                    raw_query=scope["query_string"],
                    authorization=authorization_of(request),
                    base_path=path_of(addon_key),
                ),
            )
        except NoSession as none:
            return self._refused(request, none.refusal, addon_key)
        session = session_for(
            self._signer, caller, wall=this.units.clock.wall(), administers=administers
        )
        return self._page(request, "entry.html", {"app": app, "session": session, **self._told})

    async def descriptor(self, request: Request) -> Response:
        """Lead whoever opens the app's own address to its descriptor."""
        if request.path_params["addon_key"] not in self._apps:
            return self._no_app(request)
        return RedirectResponse("atlassian-connect.json", status_code=HTTPStatus.FOUND)

    def _no_app(self, request: Request) -> Response:
        if not wants_page(request):
            raise Problem(HTTPStatus.NOT_FOUND, detail="There is no such app here.")
        return self._page(request, "refusal.html", {"why": _NO_APP}, status=HTTPStatus.NOT_FOUND)

    def _refused(self, request: Request, refusal: Refusal, addon_key: str) -> Response:
        problem = turn_away(request, "entry", addon_key, refusal)
        if not wants_page(request):
            raise problem
        return self._page(
            request,
            "refusal.html",
            {"why": refusal.value},
            status=problem.status,
            headers=problem.headers,
        )

    def _page(
        self,
        request: Request,
        name: str,
        shown: Mapping[str, Any],
        *,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        return Response(
            self._templates[_language_of(request)].get_template(name).render(shown),
            status_code=status,
            headers={**self._headers, **(headers or {})},
            media_type="text/html",
        )


def _language_of(request: Request) -> Language:
    """The language that a site tells in the page's address (``loc``), else the browser's."""
    told = request.query_params.get("loc", "")
    return language_of(f"{told},{request.headers.get('accept-language', '')};q=0.9")


def content_policy(settings: InstallerSettings) -> str:
    """Say what an app's page may load, whom it may call, and who may show it in a frame."""
    url = settings.config_public_url
    config = [] if url is None else [_origin(url)]
    notifier = settings.notifier_public_url
    called = [*config, *([] if notifier is None else [_origin(notifier)])]
    directives = {
        "default-src": ["'none'"],
        "script-src": ["'self'", _origin(settings.connect_bridge_url), *config],
        "style-src": ["'self'", *config],
        "connect-src": ["'self'", *dict.fromkeys(called)],
        # What is made of a customer's own script in a preview can lead its frame nowhere else.
        **({} if url is None else {"frame-src": [f"{url}/screens/preview.html"]}),
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": _frames(settings.site_hosts),
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())


def _frames(hosts: AllowedHosts) -> list[str]:
    return [
        *(f"https://*.{domain}" for domain in hosts.domains),
        *(f"https://{host}" for host in sorted(hosts.https)),
        *(f"http://{host}" for host in sorted(hosts.http)),
    ]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
