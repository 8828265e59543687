"""Where staff ask for a grant, end one, and review a glass that was broken."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import form_of, id_in, see
from chassis.problems import Problem
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, present
from chassis.unit_of_work import UnitOfWork
from services.config import grants as process
from services.config.context import Context
from services.config.domain.grants import (
    LENGTHS,
    MOST_TOLD,
    BadReason,
    Category,
    Grant,
    may_review,
    may_revoke,
    reason_of,
)
from services.config.routes.access import reading
from services.config.routes.grant_pages import GrantPages
from services.config.routes.looks import LookPages
from services.config.store import grants as store
from services.config.store import looks

PATH: Final = "/staff/grants"

_SHOWN: Final = 50
_CATEGORIES: Final[Mapping[Category, str]] = {
    Category.QUESTION: "The customer has asked something",
    Category.FAULT: "Something does not work",
    Category.SECURITY: "The customer's data may be in danger",
}
_EMPTY: Final = {
    "tenant": "",
    "category": "",
    "ticket": "",
    "told": "",
    "minutes": "30",
    "glass": "",
    "renews": "",
}
_VERDICTS: Final = {"justified": True, "not-justified": False}


def grant_routers() -> Sequence[APIRouter]:
    """Return the routes of grants, of what they open, and of what the pages load."""
    pages = GrantPages()
    board = _Board(pages)
    router = StaffRouter(prefix=PATH, include_in_schema=False)
    router.add_api_route("", board.show, methods=["GET"])
    router.add_api_route("", board.ask, methods=["POST"])
    router.add_api_route("/reviews", board.show_reviews, methods=["GET"])
    router.add_api_route("/{grant_id}/revocations", board.revoke, methods=["POST"])
    router.add_api_route("/{grant_id}/reviews", board.review, methods=["POST"])
    return pages.router(), router, LookPages(pages).router()


class _Board:
    def __init__(self, pages: GrantPages) -> None:
        self._pages = pages

    @allowed(*process.LOOKERS, Role.PRIVACY, page="Grants")
    async def show(self, request: Request) -> Response:
        """Show the latest grants, your own or for privacy everybody's, and ask for one."""
        config = _config(request)
        form = _EMPTY | {"tenant": request.query_params.get("tenant", "")[:36]}
        renews = id_in(request.query_params.get("renews", ""))
        if renews is not None:
            form |= await _former(config, renews)
        return await self._page(config, form)

    @allowed(*process.LOOKERS)
    async def ask(self, request: Request) -> Response:
        """Ask for a grant for one tenant, with a reason, and lead to what it opens."""
        config, form = _config(request), _EMPTY | await form_of(request)
        tenant_id = id_in(form["tenant"].strip())
        lasts = next((each for each in LENGTHS if str(_minutes(each)) == form["minutes"]), None)
        if tenant_id is None or lasts is None:
            wrong = "Give the id of the tenant, as the list of tenants shows it."
            return await self._page(config, form, wrong=wrong, status=422)
        try:
            reason = reason_of(
                form["category"], form["ticket"], form["told"], breaks_glass=form["glass"] == "yes"
            )
            async with reading(config, tenant_id) as uow:
                renews = await _renewed(uow, tenant_id, form["renews"])
                await process.ask(uow, tenant_id, reason, lasts=lasts, renews=renews)
        except BadReason as bad:
            return await self._page(config, form, wrong=str(bad), status=422)
        except Problem as problem:
            wrong = problem.detail or problem.title
            return await self._page(config, form, wrong=wrong, status=problem.status)
        return see(f"tenants/{tenant_id}")

    @allowed(*process.LOOKERS, Role.PRIVACY)
    async def revoke(self, request: Request, grant_id: str) -> Response:
        """End a grant early: your own, or for privacy anybody's."""
        config = _config(request)
        await form_of(request)
        async with config.units.begin() as uow:
            grant = await _locked(uow, grant_id)
            mine = process.myself()
            if grant is None or (grant.subject != mine and not _is_privacy()):
                raise Problem(404, detail="There is no such grant.")
            if not may_revoke(grant, subject=mine, is_privacy=_is_privacy(), now=uow.now):
                raise Problem(409, detail="This grant has ended already.")
            await process.revoke(uow, grant)
        return see("../../grants")

    @allowed(Role.PRIVACY)
    async def show_reviews(self, request: Request) -> Response:
        """List the glasses that were broken and that a privacy officer has to review."""
        config = _config(request)
        async with config.units.begin() as uow:
            found = await store.to_review(uow.connection, limit=_SHOWN)
            told = await _told(uow, found)
            seen: dict[UUID, Sequence[tuple[str, int]]] = {}
            for grant in found:
                await uow.act_for(grant.tenant_id)
                seen[grant.grant_id] = await looks.under_grant(
                    uow.connection, grant.tenant_id, grant.grant_id
                )
        shown = {"found": found, "told": told, "seen": seen, "now": uow.now, **_always()}
        return self._pages.page("grant-reviews.html", shown)

    @allowed(Role.PRIVACY)
    async def review(self, request: Request, grant_id: str) -> Response:
        """Say whether a broken glass was justified; nobody reviews their own."""
        config, form = _config(request), await form_of(request)
        verdict = _VERDICTS.get(form.get("verdict", ""))
        if verdict is None:
            raise Problem(422, detail="Say whether it was justified.")
        async with config.units.begin() as uow:
            grant = await _locked(uow, grant_id)
            if grant is None or not grant.break_glass:
                raise Problem(404, detail="There is no such grant to review.")
            if not may_review(grant, subject=process.myself()):
                raise Problem(
                    409, detail="Another privacy officer has to review it, or one has done so."
                )
            await process.review(uow, grant, justified=verdict)
        return see("../../grants/reviews")

    async def _page(
        self,
        config: Running[Context],
        form: Mapping[str, str],
        *,
        wrong: str = "",
        status: int = 200,
    ) -> Response:
        async with config.units.begin() as uow:
            whose = None if _is_privacy() else process.myself()
            found = await store.latest(uow.connection, subject=whose, limit=_SHOWN)
            told = await _told(uow, found)
            waiting = await store.unreviewed(uow.connection)
        shown = {
            "form": form,
            "wrong": wrong,
            "found": found,
            "told": told,
            "waiting": waiting.number,
            "now": uow.now,
            "may_ask": bool(present.get().roles & set(process.LOOKERS)),
            "lengths": [_minutes(each) for each in LENGTHS],
            "most_told": MOST_TOLD,
            **_always(),
        }
        return self._pages.page("grants.html", shown, status=status)


def _always() -> Mapping[str, Any]:
    return {
        "me": process.myself(),
        "is_privacy": _is_privacy(),
        "categories": _CATEGORIES,
        "may_revoke": may_revoke,
        "may_review": may_review,
    }


async def _former(config: Running[Context], grant_id: UUID) -> Mapping[str, str]:
    """Fill the form with what one's own earlier grant said, to be asked for openly once more."""
    async with config.units.begin() as uow:
        grant = await store.find(uow.connection, grant_id)
        if grant is None or grant.subject != process.myself():
            return {}
        told = (await _told(uow, [grant])).get(grant_id)
    return {
        "tenant": str(grant.tenant_id),
        "category": grant.category.value,
        "ticket": (told.ticket if told else None) or "",
        "told": told.told if told else "",
        "glass": "yes" if grant.break_glass else "",
        "renews": str(grant_id),
    }


async def _renewed(uow: UnitOfWork[Context], tenant_id: UUID, told: str) -> UUID | None:
    """Say which of one's own grants for the tenant goes on; anything else is none."""
    grant_id = id_in(told)
    former = await store.find(uow.connection, grant_id) if grant_id else None
    if former is None or former.subject != process.myself() or former.tenant_id != tenant_id:
        return None
    return former.grant_id


async def _told(uow: UnitOfWork[Context], grants: Sequence[Grant]) -> Mapping[UUID, store.Told]:
    """Say why these grants were given; what went with its tenant is left out."""
    told: dict[UUID, store.Told] = {}
    for tenant_id in {grant.tenant_id for grant in grants}:
        await uow.act_for(tenant_id)
        own = [grant.grant_id for grant in grants if grant.tenant_id == tenant_id]
        told |= await store.reasons(uow.connection, tenant_id, own)
    return told


async def _locked(uow: UnitOfWork[Context], told: str) -> Grant | None:
    grant_id = id_in(told)
    return await store.find(uow.connection, grant_id, lock=True) if grant_id else None


def _is_privacy() -> bool:
    return Role.PRIVACY in present.get().roles


def _minutes(lasts: timedelta) -> int:
    return int(lasts.total_seconds() // 60)


def _config(request: Request) -> Running[Context]:
    found: Running[Context] = running(request)
    return found
