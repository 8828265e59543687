"""The list of each kind: found by name and tag, put in order, copied and removed."""

from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from chassis.problems import Problem
from services.config.domain.kinds import Kind
from services.config.domain.things import Sort, cursor_after, place_of
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.changes import find
from services.config.routes.screens.screen import Form, Screen, Screens
from services.config.routes.screens.wording import WORDING
from services.config.store import order, things
from services.config.store.things import Wanted

_PAGE: Final = 50
_MOST_SHOWN: Final = 1_000
_LONGEST_PART: Final = 200


class ListQuery(BaseModel):
    """What a list shows; whatever makes no sense is as if it were not there."""

    q: str = ""
    tag: str = ""
    sort: Sort = Sort.ORDER
    cursor: str = ""
    behind: UUID | None = None
    """The thing before the first one of this page."""
    shown: Annotated[int, Field(ge=0, le=_MOST_SHOWN)] = 0
    """How many are on the screen already."""

    @property
    def wanted(self) -> Wanted:
        """The same for the store."""
        having, tag = (
            each.replace("\x00", "")[:_LONGEST_PART].strip() or None for each in (self.q, self.tag)
        )
        return Wanted(self.sort, having, tag)

    @property
    def is_filtered(self) -> bool:
        """Whether some things may be left out."""
        return self.wanted.having is not None or self.wanted.tag is not None


Asked = Annotated[ListQuery, Query()]


@dataclass(frozen=True, slots=True)
class ListScreens:
    """The routes of one kind's list."""

    screens: Screens
    kind: Kind

    def add_to(self, router: APIRouter) -> None:
        """Add them to a router of screens."""
        base = f"/{self.kind.plural}"
        router.add_api_route(base, self.show, methods=["GET"])
        router.add_api_route(f"{base}/rows", self.rows, methods=["GET"])
        router.add_api_route(f"{base}/{{thing_id}}/place", self.put_in_place, methods=["POST"])

    async def show(
        self, request: Request, config: Config, tenant_id: Tenant, asked: Asked
    ) -> Response:
        """Show the list with what it can be searched by."""
        return await self.page(self.screens.of(request), config, tenant_id, asked)

    async def page(
        self, screen: Screen, config: Config, tenant_id: UUID, asked: ListQuery, *, said: str = ""
    ) -> Response:
        """Show the list, and say what has happened to one of it."""
        found = await self._found(config, tenant_id, asked, limit=_PAGE)
        return screen.show("list.html", **found, said=said, path=self.kind.plural)

    async def rows(
        self, request: Request, config: Config, tenant_id: Tenant, asked: Asked
    ) -> Response:
        """Show some rows: those that are searched for, or those behind a cursor."""
        found = await self._found(config, tenant_id, asked, limit=_PAGE)
        return self.screens.of(request).show("rows.html", **found)

    async def put_in_place(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Put one behind another, or first, and show as many rows as were there before."""
        form = await Form.of(request)
        try:
            after = UUID(form["after"]) if form["after"] else None
            shown = ListQuery(shown=int(form["shown"])).shown
        except ValueError:
            raise Problem(400, detail="That is not a form of ours.") from None
        async with writing(config, tenant_id, alone=True) as uow:
            await find(uow, tenant_id, self.kind, thing_id)
            if thing_id == after or not await order.put_behind(
                uow.connection, tenant_id, self.kind, thing_id, after
            ):
                raise Problem(409, detail="The list has changed. Open it again.")
        found = await self._found(config, tenant_id, ListQuery(), limit=max(shown, 1))
        return self.screens.of(request).show("rows.html", **found)

    async def _found(
        self, config: Config, tenant_id: UUID, asked: ListQuery, *, limit: int
    ) -> dict[str, Any]:
        try:
            after = place_of(asked.cursor, asked.sort) if asked.cursor else None
        except ValueError:
            raise Problem(400) from None
        async with reading(config, tenant_id) as uow:
            found = await things.listed(
                uow.connection, tenant_id, self.kind, asked.wanted, after=after, limit=limit + 1
            )
        items = [thing for _, thing in found[:limit]]
        following = None
        if len(found) > limit:
            key, last = found[limit - 1]
            following = cursor_after(key, last.thing_id)
        return {
            "kind": self.kind,
            "wording": WORDING[self.kind.name],
            "area": self.kind.plural,
            "asked": asked,
            "items": items,
            "following": following,
            "number": asked.shown + len(items),
            "can_move": asked.sort is Sort.ORDER and not asked.is_filtered,
        }
