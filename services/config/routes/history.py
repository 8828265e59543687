"""Where customers see what a thing was before, compare it with another version, and bring it back."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from services.config.domain.differences import differences
from services.config.domain.kinds import Kind
from services.config.domain.things import PastVersion
from services.config.routes import openapi
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.changes import (
    answer,
    bring_back,
    find,
    require_version,
    version_of,
)
from services.config.routes.openapi import PREFIX
from services.config.store import history

_LATEST = 2**31 - 1
Limit = Annotated[int, Query(ge=1, le=100)]
Version = Annotated[int, Path(ge=1, le=_LATEST)]
Other = Annotated[int, Query(ge=1, le=_LATEST)]


@dataclass(frozen=True, slots=True)
class HistoryRoutes:
    """The routes of one kind."""

    kind: Kind

    def router(self) -> APIRouter:
        """All of them, as the OpenAPI document describes them."""
        prefix = f"{PREFIX}/{self.kind.plural}/{{thing_id}}/versions"
        router = APIRouter(prefix=prefix, tags=[self.kind.plural])
        told = openapi.of_history(self.kind)
        for method, path, endpoint in (
            ("GET", "", self.versions),
            ("GET", "/{version}", self.version),
            ("GET", "/{version}/difference", self.difference),
            ("POST", "/{version}/restore", self.restore),
        ):
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                operation_id=f"{endpoint.__name__}_{self.kind.name}",
                **told[endpoint.__name__].arguments(),
            )
        return router

    async def versions(
        self,
        config: Config,
        tenant_id: Tenant,
        thing_id: UUID,
        limit: Limit = 50,
        before: Other = _LATEST,
    ) -> Response:
        """List past versions, the latest first; ``next`` is the ``before`` of what follows."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            found = await history.versions_of(
                uow.connection, tenant_id, thing_id, before=before, limit=limit + 1
            )
        page = found[:limit]
        return JSONResponse(
            {
                "version": present.version,
                "items": [
                    {
                        "version": each.version,
                        "name": each.name,
                        "tags": each.tags,
                        "made_at": each.made_at.isoformat(),
                    }
                    for each in page
                ],
                "next": page[-1].version if len(found) > limit else None,
            }
        )

    async def version(
        self, config: Config, tenant_id: Tenant, thing_id: UUID, version: Version
    ) -> Response:
        """Show what a thing was, or is, in one version; what is sealed has no history."""
        async with reading(config, tenant_id) as uow:
            found = await version_of(uow, tenant_id, self.kind, thing_id, version)
        return JSONResponse(
            {**_told(found), "version": found.version, "made_at": found.made_at.isoformat()}
        )

    async def difference(
        self,
        config: Config,
        tenant_id: Tenant,
        thing_id: UUID,
        version: Version,
        to: Other | None = None,
    ) -> Response:
        """Say what is different from one version to another, or to the present one."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            before = await version_of(uow, tenant_id, self.kind, thing_id, version)
            after = await version_of(uow, tenant_id, self.kind, thing_id, to or present.version)
        found = await asyncio.to_thread(differences, _told(before), _told(after), self.kind.long)
        return JSONResponse(
            {
                "from": before.version,
                "to": after.version,
                "fields": [
                    {"field": each.field, "before": each.before, "after": each.after}
                    if each.lines is None
                    else {"field": each.field, "lines": each.lines}
                    for each in found
                ],
            }
        )

    async def restore(
        self,
        request: Request,
        config: Config,
        tenant_id: Tenant,
        thing_id: UUID,
        version: Version,
    ) -> Response:
        """Make a thing what it was, as its next version; its credentials stay as they are."""
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id, lock=True)
            require_version(request, present)
            past = await version_of(uow, tenant_id, self.kind, thing_id, version)
            changed = await bring_back(uow, tenant_id, self.kind, present, past)
        return answer(changed)


def _told(version: PastVersion) -> dict[str, Any]:
    return {"name": version.name, "tags": version.tags, **version.body}
