"""Where staff look at what a customer keeps: under a grant, and not without a trace."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import id_in
from chassis.problems import Problem
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.unit_of_work import UnitOfWork
from services.config import grants as process
from services.config.context import Context
from services.config.domain.grants import Closed, Grant, why_closed
from services.config.domain.kinds import KINDS, Kind
from services.config.domain.things import Sort, cursor_after, place_of
from services.config.routes.access import reading
from services.config.routes.grant_pages import GrantPages
from services.config.routes.screens.wording import WORDING
from services.config.store import grants, things
from services.config.store.things import Wanted

_ROWS: Final = 50
_BY_PLURAL: Final = {kind.plural: kind for kind in KINDS}
_WHY: Final = {
    Closed.NO_GRANT: "You have no grant for this tenant.",
    Closed.REVOKED: "Your grant for this tenant was revoked.",
    Closed.OVER: "Your grant for this tenant is over.",
}


class NotOpen(Exception):  # noqa: N818 - reads as the fact it states
    """No grant opens to who asks what a tenant keeps."""

    def __init__(self, why: Closed) -> None:
        self.why = why
        super().__init__(why.value)


@asynccontextmanager
async def opened(
    config: Running[Context], tenant_id: UUID
) -> AsyncIterator[tuple[UnitOfWork[Context], Grant]]:
    """Begin a transaction in which a grant of who asks is good, and stays so until its end.

    It sees this tenant's rows alone. Raises ``NotOpen``, which is written down,
    or a ``Problem`` where the tenant itself is not served.
    """
    try:
        async with reading(config, tenant_id) as uow:
            yield uow, await _good_grant(uow, tenant_id)
    except NotOpen as refused:
        async with config.units.begin() as uow:
            await process.note_refusal(uow, tenant_id, refused.why.value)
        raise


async def _good_grant(uow: UnitOfWork[Context], tenant_id: UUID) -> Grant:
    me = process.myself()
    grant = await grants.best_of(uow.connection, tenant_id, me)
    closed = why_closed(grant, subject=me, tenant_id=tenant_id, now=uow.now)
    if grant is None or closed is not None:
        raise NotOpen(closed or Closed.NO_GRANT)
    return grant


class LookPages:
    """The pages on which a tenant's things are shown to staff."""

    def __init__(self, pages: GrantPages) -> None:
        self._pages = pages

    def router(self) -> APIRouter:
        """Return the routes."""
        router = StaffRouter(prefix="/staff/tenants", include_in_schema=False)
        router.add_api_route("/{tenant_id}", self.show_kinds, methods=["GET"])
        router.add_api_route("/{tenant_id}/{plural}", self.show_list, methods=["GET"])
        router.add_api_route("/{tenant_id}/{plural}/{thing_id}", self.show_thing, methods=["GET"])
        return router

    @allowed(*process.LOOKERS)
    async def show_kinds(self, request: Request, tenant_id: str) -> Response:
        """Show which kinds of a tenant's things a grant opens; nothing of the tenant's is read."""
        return await self._answer(request, tenant_id, self._kinds)

    @allowed(*process.LOOKERS)
    async def show_list(self, request: Request, tenant_id: str, plural: str) -> Response:
        """List a tenant's things of a kind, under a grant; the customer sees that."""
        kind = _BY_PLURAL.get(plural)

        async def page(config: Running[Context], tenant: UUID) -> Response:
            return await self._list(config, tenant, kind, request.query_params.get("cursor", ""))

        return await self._answer(request, tenant_id, page)

    @allowed(*process.LOOKERS)
    async def show_thing(
        self, request: Request, tenant_id: str, plural: str, thing_id: str
    ) -> Response:
        """Show one thing of a tenant's without what is sealed, under a grant; the customer sees that."""
        kind, thing = _BY_PLURAL.get(plural), id_in(thing_id)

        async def page(config: Running[Context], tenant: UUID) -> Response:
            return await self._thing(config, tenant, kind, thing)

        return await self._answer(request, tenant_id, page)

    async def _answer(
        self,
        request: Request,
        told: str,
        page: Callable[[Running[Context], UUID], Awaitable[Response]],
    ) -> Response:
        tenant_id = id_in(told)
        if tenant_id is None:
            return self._closed("There is no such tenant.", status=404)
        try:
            return await page(running(request), tenant_id)
        except NotOpen as refused:
            return self._closed(_WHY[refused.why], status=403, ask_for=tenant_id)
        except Problem as problem:
            why = problem.detail or problem.title
            return self._closed(why, status=problem.status)

    def _closed(self, why: str, *, status: int, ask_for: UUID | None = None) -> Response:
        """Say why nothing is shown, and where a grant would help how to ask for one."""
        shown = {"why": why, "ask_for": ask_for}
        return self._pages.page("grant-closed.html", shown, status=status)

    async def _kinds(self, config: Running[Context], tenant_id: UUID) -> Response:
        async with opened(config, tenant_id) as (uow, grant):
            shown = _always(uow, grant)
        return self._pages.page("grant-open.html", shown)

    async def _list(
        self, config: Running[Context], tenant_id: UUID, kind: Kind | None, cursor: str
    ) -> Response:
        if kind is None:
            raise _no_such_thing()
        try:
            after = place_of(cursor, Sort.NAME) if cursor else None
        except ValueError:
            raise Problem(400, detail="The page that was asked for is none of ours.") from None
        async with opened(config, tenant_id) as (uow, grant):
            await process.note_look(uow, grant, kind.name, None)
            found = await things.listed(
                uow.connection, tenant_id, kind, Wanted(Sort.NAME), after=after, limit=_ROWS + 1
            )
        items = [thing for _, thing in found[:_ROWS]]
        following = None
        if len(found) > _ROWS:
            key, last = found[_ROWS - 1]
            following = cursor_after(key, last.thing_id)
        shown = {
            **_always(uow, grant),
            "kind": kind,
            "items": items,
            "following": following,
        }
        return self._pages.page("grant-list.html", shown)

    async def _thing(
        self, config: Running[Context], tenant_id: UUID, kind: Kind | None, thing_id: UUID | None
    ) -> Response:
        if kind is None or thing_id is None:
            raise _no_such_thing()
        async with opened(config, tenant_id) as (uow, grant):
            await process.note_look(uow, grant, kind.name, thing_id)
            thing = await things.find(uow.connection, tenant_id, kind, thing_id)
            if thing is None:
                raise _no_such_thing()
        plurals = {each.name: each.plural for each in KINDS}
        shown = {
            **_always(uow, grant),
            "kind": kind,
            "thing": thing,
            "facts": {
                _label(name): _said(value)
                for name, value in thing.body.items()
                if name not in kind.refers and value not in (None, "", [], {})
            },
            "refers": [
                (_label(name.removesuffix("_id")), plurals[meant], thing.body[name])
                for name, meant in kind.refers.items()
                if thing.body.get(name)
            ],
        }
        return self._pages.page("grant-thing.html", shown)


def _always(uow: UnitOfWork[Context], grant: Grant) -> Mapping[str, Any]:
    """What each page that a grant has opened says of it, and where it leads."""
    return {"grant": grant, "now": uow.now, "kinds": KINDS, "wording": WORDING}


def _no_such_thing() -> Problem:
    return Problem(404, detail="The tenant has no such thing.")


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)
