"""Where people say what they wish to get: one click ends a kind of news, a page offers the rest."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import PageFiles, templates_in
from chassis.service import Running, running
from chassis.unit_of_work import UnitOfWork
from services.notifier.context import Context
from services.notifier.domain.preferences import (
    PREFERENCES_PATH,
    SCOPES,
    UNSUBSCRIBE_PATH,
    Link,
    Links,
    choices,
    decide_change,
)
from services.notifier.domain.suppressions import Reason
from services.notifier.routes.forms import form_of
from services.notifier.store import suppressions as store

log = structlog.get_logger(__name__)

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"notifier.css": "text/css"}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    # The address is all that it takes to choose for somebody.
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
_ONE_CLICK: Final = {"List-Unsubscribe": "One-Click"}


def preferences_router(*, vendor_name: str, public_url: str) -> APIRouter:
    """Return the public routes; who has a link of ours needs nothing else, cookies least of all."""
    pages = _Preferences(vendor_name, public_url)
    router = APIRouter(include_in_schema=False)
    for path, show, act in (
        (UNSUBSCRIBE_PATH, pages.ask, pages.unsubscribe),
        (PREFERENCES_PATH, pages.show, pages.choose),
    ):
        router.add_api_route(f"{path}/{{token}}", show, methods=["GET"], response_model=None)
        router.add_api_route(f"{path}/{{token}}", act, methods=["POST"], response_model=None)
    PageFiles(_PAGES, _STATIC).add_to(router, below="/pages")
    return router


class _Preferences:
    """The pages behind the links in our messages."""

    def __init__(self, vendor_name: str, public_url: str) -> None:
        self._templates = templates_in(_PAGES)
        self._vendor_name = vendor_name
        self._public_url = public_url

    async def ask(self, request: Request, token: str) -> Response:
        """Offer to end a kind of news; nothing changes, whoever looks."""
        link = self._link(request, token)
        if link is None:
            return self._no_link()
        return self._page("unsubscribe.html", {"kind": link.kind, "token": token, "done": False})

    async def unsubscribe(self, request: Request, token: str) -> Response:
        """End a kind of news, by a mail program's one click or by the page's; again is the same."""
        link = self._link(request, token)
        if link is None:
            return self._no_link()
        if _ONE_CLICK.items() - (await form_of(request)).items():
            return self._page("no-link.html", {}, status=HTTPStatus.BAD_REQUEST)
        async with _notifier(request).units.begin() as uow:
            new = await store.suppress(
                uow, link.address_index, scope=link.kind, reason=Reason.OPTED_OUT
            )
        if new:
            log.info("news declined", scope=link.kind, campaign_id=link.campaign_id)
        return self._page("unsubscribe.html", {"kind": link.kind, "token": token, "done": True})

    async def show(self, request: Request, token: str) -> Response:
        """Show what somebody gets, each with a button that changes it."""
        link = self._link(request, token)
        if link is None:
            return self._no_link()
        async with _notifier(request).units.begin() as uow:
            return await self._choices(uow, link, token, saved=False)

    async def choose(self, request: Request, token: str) -> Response:
        """Change what somebody gets, and show it; again is the same."""
        link = self._link(request, token)
        if link is None:
            return self._no_link()
        form = await form_of(request)
        scope, wanted = form.get("scope"), form.get("wanted")
        if scope not in SCOPES or wanted not in {"yes", "no"}:
            return self._page("no-link.html", {}, status=HTTPStatus.BAD_REQUEST)
        async with _notifier(request).units.begin() as uow:
            await _change(uow, link, scope, wanted=wanted == "yes")
            return await self._choices(uow, link, token, saved=True)

    async def _choices(
        self, uow: UnitOfWork[Context], link: Link, token: str, *, saved: bool
    ) -> Response:
        standing = await store.suppressions_of(uow.connection, link.address_index)
        *kinds, everything = choices(standing)
        return self._page(
            "preferences.html",
            {"kinds": kinds, "everything": everything, "token": token, "saved": saved},
        )

    def _link(self, request: Request, token: str) -> Link | None:
        keys = _notifier(request).context.keys
        return Links(keys.blind_index, self._public_url).read(token)

    def _no_link(self) -> Response:
        return self._page("no-link.html", {}, status=HTTPStatus.NOT_FOUND)

    def _page(
        self, name: str, shown: Mapping[str, Any], *, status: int = HTTPStatus.OK
    ) -> Response:
        return Response(
            self._templates.get_template(name).render(vendor_name=self._vendor_name, **shown),
            status_code=status,
            headers=_HEADERS,
            media_type="text/html",
        )


async def _change(uow: UnitOfWork[Context], link: Link, scope: str, *, wanted: bool) -> None:
    await store.lock(uow, [link.address_index])
    standing = await store.suppressions_of(uow.connection, link.address_index)
    declined = {scope for scope, reason in standing if reason is Reason.OPTED_OUT}
    change = decide_change(declined, scope, wanted=wanted)
    for each in sorted(change.decline):
        await store.suppress(uow, link.address_index, scope=each, reason=Reason.OPTED_OUT)
    for each in sorted(change.accept):
        await store.lift(uow, link.address_index, scope=each, reason=Reason.OPTED_OUT)
    if change.decline or change.accept:
        log.info("wishes changed", scope=scope, wanted=wanted, campaign_id=link.campaign_id)


def _notifier(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
