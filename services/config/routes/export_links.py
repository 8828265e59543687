"""Where the link of a reminder leads: a page for who has left, and the export that it opens."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter
from starlette.responses import Response

from chassis.metrics import NAMESPACE
from chassis.pages import PageFiles, form_of, templates_in, wants_page
from chassis.problems import Problem
from chassis.service import Running, running
from chassis.tokens import (
    KeysAway,
    TokenKeys,
    TokenOver,
    TokenRefused,
    claims_of,
    key_id_of,
)
from chassis.unit_of_work import UnitOfWork
from chassis.words import Language, language_of
from contracts.exports import AUDIENCE, ISSUER, PATH, ExportLink
from services.config.context import Context
from services.config.domain.export_links import MOST_USES, LinkState, state_of_link
from services.config.domain.schemas import TIME, an_object
from services.config.routes.access import Config, Tenant, reading
from services.config.routes.exports import send_archive
from services.config.routes.openapi import PREFIX, SERVED, Operation, json_answer
from services.config.store import early_erasure, export_uses, tenants

log = structlog.get_logger(__name__)

USES_PATH: Final = f"{PREFIX}/export-uses"

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"export.js": "text/javascript", "export.css": "text/css"}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    # The code is all that it takes to fetch what a customer has here.
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
_USES_SHOWN: Final = 100

_UNKNOWN: Final = "unknown"
_OVER: Final = "over"
_NOT_NOW: Final = "not-now"
_REFUSED: Final[Mapping[str, tuple[int, str]]] = {
    _UNKNOWN: (403, "This is no link of ours, or not the whole of one."),
    _OVER: (410, "The time of this link is over."),
    _NOT_NOW: (503, "The link cannot be checked now. Try again."),
    LinkState.NOT_YET: (503, "The purge of this link has not been heard of yet. Try again."),
    LinkState.CANCELLED: (410, "The purge of this link was cancelled: open the app instead."),
    LinkState.ERASED: (410, "What this tenant kept here is being erased, or is erased."),
    LinkState.USED_UP: (410, f"This link was used {MOST_USES} times, and no more is allowed."),
}

_USES: Final = Operation(
    200,
    {
        "200": json_answer(
            "The latest downloads, the last one first; `way` is `app` or `link`.",
            an_object(
                uses={
                    "type": "array",
                    "items": an_object(used_at=TIME, way={"enum": ["app", "link"]}),
                }
            ),
            {"uses": [{"used_at": "2026-11-23T12:00:00+00:00", "way": "link"}]},
        )
    },
    served=SERVED,
)


class ExportLinkDoor:
    """The page behind links that notifier signs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._templates = templates_in(_PAGES)
        self._templates.globals["most_uses"] = MOST_USES
        self._used = Counter(
            "export_links",
            "Links of reminders that were used, by what became of each.",
            ("outcome",),
            namespace=NAMESPACE,
            registry=registry,
        )

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route(
            USES_PATH, show_uses, methods=["GET"], response_model=None, **_USES.arguments()
        )
        for method, act in (("GET", self.show), ("POST", self.fetch)):
            router.add_api_route(
                PATH, act, methods=[method], response_model=None, include_in_schema=False
            )
        PageFiles(_PAGES, _STATIC).add_to(router, below="/pages")
        return router

    async def show(self, request: Request) -> Response:
        """Show the page, which reads the link in the browser; nothing happens, whoever looks."""
        _keys_of(running(request))
        return self._page(_language(request, request.query_params.get("language")), "ready")

    async def fetch(self, request: Request) -> Response:
        """Send what the tenant of the link keeps, and note it; or say why not."""
        form = await form_of(request)
        config: Running[Context] = running(request)
        try:
            answer = await self._fetch(config, form.get("token", ""))
        except _NoExport as none:
            self._used.labels(none.reason).inc()
            return self._refuse(request, _language(request, form.get("language")), none.reason)
        self._used.labels(LinkState.OPEN.value).inc()
        return answer

    async def _fetch(self, config: Running[Context], token: str) -> Response:
        link = await self._read(token, config)
        async with config.units.begin() as uow:
            # Alone, so that two who come at once are counted one after another.
            await uow.lock_tenant_exclusively(link.tenant_id)
            await _require_open(uow, link, counting=True)
            await export_uses.note_use(
                uow.connection, link.tenant_id, purge_id=link.purge_id, now=uow.now
            )
            now = uow.now
        log.info("export fetched by link", tenant_id=link.tenant_id, purge_id=link.purge_id)

        @asynccontextmanager
        async def entering() -> AsyncIterator[UnitOfWork[Context]]:
            async with config.units.begin() as uow:
                await uow.lock_tenants([link.tenant_id])
                await _require_open(uow, link)
                yield uow

        return send_archive(link.tenant_id, entering, at=now)

    async def _read(self, token: str, config: Running[Context]) -> ExportLink:
        """Read a token; raises ``_NoExport``. Links go by business time, as purges do."""
        keys = _keys_of(config)
        try:
            claims = claims_of(
                token,
                await keys.find(key_id_of(token)),
                issuer=ISSUER,
                audience=AUDIENCE,
                at=config.units.clock.now(),
            )
            return ExportLink.of(claims)
        except TokenOver:
            raise _NoExport(_OVER) from None
        except (TokenRefused, ValueError):
            raise _NoExport(_UNKNOWN) from None
        except KeysAway:
            raise _NoExport(_NOT_NOW) from None

    def _refuse(self, request: Request, language: Language, reason: str) -> Response:
        status, detail = _REFUSED[reason]
        headers = {"retry-after": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        if not wants_page(request):
            raise Problem(status, detail=detail, headers=headers, extensions={"reason": reason})
        return self._page(language, reason, status=status, headers=headers)

    def _page(
        self,
        language: Language,
        state: str,
        *,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        shown: dict[str, Any] = {"language": language, "state": state}
        return Response(
            self._templates.get_template(f"export.{language}.html").render(shown),
            status_code=status,
            headers={**_HEADERS, **(headers or {})},
            media_type="text/html",
        )


def _keys_of(config: Running[Context]) -> TokenKeys:
    if config.context.export_keys is None:
        raise Problem(404, detail="No links are given out here.")
    return config.context.export_keys


async def show_uses(config: Config, tenant_id: Tenant) -> Response:
    """List when the tenant's export was fetched, in the app or by the link of a reminder."""
    async with reading(config, tenant_id) as uow:
        uses = await export_uses.latest_uses(uow.connection, tenant_id, limit=_USES_SHOWN)
    told = [
        {"used_at": use.used_at.isoformat(), "way": "link" if use.purge_id else "app"}
        for use in uses
    ]
    return JSONResponse({"uses": told})


class _NoExport(Exception):  # noqa: N818 - reads as the fact it states
    """A link opens nothing, for this reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


async def _require_open(
    uow: UnitOfWork[Context], link: ExportLink, *, counting: bool = False
) -> None:
    """Act for the tenant of a link; raises ``_NoExport`` where that opens nothing any more.

    The caller has locked the tenant.
    """
    tenant_id = link.tenant_id
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
    await uow.act_for(tenant_id)
    uses = 0
    if counting:
        uses = await export_uses.uses_of_link(uow.connection, tenant_id, link.purge_id)
    state = state_of_link(
        link.purge_id,
        tenant=await tenants.tenant(uow.connection, tenant_id),
        said=await early_erasure.purges(uow.connection, tenant_id),
        erased=erased,
        uses=uses,
    )
    if state is not LinkState.OPEN:
        raise _NoExport(state.value)


def _language(request: Request, wanted: str | None) -> Language:
    """Choose the language that was asked for, or else what the browser reads."""
    if wanted in set(Language):
        return Language(wanted)
    return language_of(request.headers.get("accept-language", ""))
