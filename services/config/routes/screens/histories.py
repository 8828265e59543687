"""The history of a thing: its versions, what has changed since each, and back again."""

from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from chassis.unit_of_work import UnitOfWork
from chassis.words import word
from services.config.context import Context
from services.config.domain.kinds import Kind
from services.config.domain.things import Thing
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.changes import bring_back, find, version_of
from services.config.routes.screens.comparing import compared
from services.config.routes.screens.editors import EditorScreens
from services.config.routes.screens.forms import LABELS
from services.config.routes.screens.screen import Form, Screen, Screens
from services.config.store import history

_PAGE: Final = 50
_LATEST: Final = 2**31 - 1
Version = Annotated[int, Path(ge=1, le=_LATEST)]


@dataclass(frozen=True, slots=True)
class HistoryScreens:
    """The routes of one kind's histories."""

    screens: Screens
    kind: Kind

    def add_to(self, router: APIRouter) -> None:
        """Add them to a router of screens."""
        base = f"/{self.kind.plural}/{{thing_id}}/history"
        router.add_api_route(base, self.show, methods=["GET"])
        router.add_api_route(f"{base}/{{version}}", self.show_version, methods=["GET"])
        router.add_api_route(f"{base}/{{version}}", self.restore, methods=["POST"])

    async def show(
        self,
        request: Request,
        config: Config,
        tenant_id: Tenant,
        thing_id: UUID,
        before: Annotated[int, Query(ge=1, le=_LATEST)] = _LATEST,
    ) -> Response:
        """List the versions, the present one first."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            found = await history.versions_of(
                uow.connection, tenant_id, thing_id, before=before, limit=_PAGE + 1
            )
        return self.screens.of(request).show(
            "history.html",
            **self._shown(present, "history"),
            versions=found[:_PAGE],
            before=before if before != _LATEST else None,
            following=found[_PAGE - 1].version if len(found) > _PAGE else None,
            said="",
        )

    async def show_version(
        self,
        request: Request,
        config: Config,
        tenant_id: Tenant,
        thing_id: UUID,
        version: Version,
    ) -> Response:
        """Show what has changed since a version."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            return await self._version(self.screens.of(request), uow, tenant_id, present, version)

    async def restore(
        self,
        request: Request,
        config: Config,
        tenant_id: Tenant,
        thing_id: UUID,
        version: Version,
    ) -> Response:
        """Make a thing what it was, as its next version; ask again where it has changed since."""
        screen, form = self.screens.of(request), await Form.of(request)
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id, lock=True)
            if str(present.version) != form["version"]:
                said = word("It has changed since. Look again before you bring it back.")
                return await self._version(screen, uow, tenant_id, present, version, said=said)
            past = await version_of(uow, tenant_id, self.kind, thing_id, version)
            changed = await bring_back(uow, tenant_id, self.kind, present, past)
            return await EditorScreens(self.screens, self.kind).shown(
                screen, uow, tenant_id, changed, said=word("It is as it was then.")
            )

    async def _version(
        self,
        screen: Screen,
        uow: UnitOfWork[Context],
        tenant_id: UUID,
        present: Thing,
        version: int,
        *,
        said: str = "",
    ) -> Response:
        past = await version_of(uow, tenant_id, self.kind, present.thing_id, version)
        return screen.show(
            "version.html",
            **self._shown(present, f"history/{version}"),
            past=past,
            differences=await compared(uow, tenant_id, self.kind, past, present),
            labels=LABELS,
            said=screen.words.say(said),
        )

    def _shown(self, present: Thing, where: str) -> dict[str, Any]:
        plural = self.kind.plural
        path = f"{plural}/{present.thing_id}/{where}"
        return {"kind": self.kind, "thing": present, "area": plural, "path": path}
