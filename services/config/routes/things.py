"""Where customers create, list, change and remove things, one router a kind."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from services.config.context import Context
from services.config.domain.definitions import Definition
from services.config.domain.kinds import Kind
from services.config.domain.things import (
    KEYS_KEPT,
    Sort,
    Thing,
    cursor_after,
    place_of,
    references_of,
)
from services.config.routes import openapi
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.changes import (
    MOST_USERS,
    answer,
    change,
    contradiction,
    create,
    duplicate,
    find,
    named,
    read,
    remove,
    require_short_texts,
    require_version,
)
from services.config.routes.openapi import KEY_FORM, LONGEST_KEY, PREFIX
from services.config.store import order, repeats, things
from services.config.store.things import Wanted

Part = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class ListQuery(BaseModel):
    """Which page of which list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(max_length=1200, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    sort: Sort = Sort.ORDER
    q: Part | None = Field(None, description="A part of a name or a tag, in whatever case.")
    tag: Part | None = Field(None, description="A whole tag.")


class Place(BaseModel):
    """Where a thing is to stand: behind this one of its kind, or before all."""

    model_config = ConfigDict(extra="forbid")

    after: UUID | None


@dataclass(frozen=True, slots=True)
class ThingRoutes:
    """The routes of one kind."""

    kind: Kind

    def router(self) -> APIRouter:
        """All of them, as the OpenAPI document describes them."""
        router = APIRouter(prefix=f"{PREFIX}/{self.kind.plural}", tags=[self.kind.plural])
        told = openapi.of_things(self.kind)
        routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", "", self.create),
            ("GET", "", self.list_some),
            ("GET", "/{thing_id}", self.show),
            ("PUT", "/{thing_id}", self.replace),
            ("DELETE", "/{thing_id}", self.remove),
            ("POST", "/{thing_id}/duplicates", self.duplicate),
            ("PUT", "/{thing_id}/place", self.put_in_place),
            ("GET", "/{thing_id}/users", self.users),
            *([("GET", "/{thing_id}/pipeline", self.pipeline)] if self.kind.refers else []),
        ]
        for method, path, endpoint in routes:
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                operation_id=f"{endpoint.__name__}_{self.kind.name}",
                **told[endpoint.__name__].arguments(),
            )
        return router

    async def create(self, request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Store a new thing: 201 with its address, 409 where its name is taken.

        With an ``Idempotency-Key`` a repeat within a day creates nothing and is
        answered with what was created, as it is now.
        """
        wanted = await self._wanted(request, config.context)
        key = _idempotency_key(request)
        async with writing(config, tenant_id) as uow:
            thing_id = uuid7(uow.now)
            if key is not None:
                before = await self._created_before(uow, tenant_id, key, request, thing_id)
                if before is not None:
                    return self._created(before)
            made = await create(uow, tenant_id, self.kind, thing_id, wanted)
        return self._created(made)

    async def list_some(
        self,
        config: Config,
        tenant_id: Tenant,
        wanted: Annotated[ListQuery, Query()],
    ) -> Response:
        """List things without their texts; ``next`` is the cursor of what follows."""
        try:
            after = None if wanted.cursor is None else place_of(wanted.cursor, wanted.sort)
        except ValueError:
            raise contradiction(("cursor", "is not one that was given here")) from None
        async with reading(config, tenant_id) as uow:
            found = await things.listed(
                uow.connection,
                tenant_id,
                self.kind,
                Wanted(wanted.sort, wanted.q, wanted.tag),
                after=after,
                limit=wanted.limit + 1,
            )
        page = found[: wanted.limit]
        following = None
        if len(found) > wanted.limit:
            key, last = page[-1]
            following = cursor_after(key, last.thing_id)
        return JSONResponse({"items": [each.shown() for _, each in page], "next": following})

    async def show(self, config: Config, tenant_id: Tenant, thing_id: UUID) -> Response:
        """Show one thing, without what is secret of it."""
        async with reading(config, tenant_id) as uow:
            return answer(await find(uow, tenant_id, self.kind, thing_id))

    async def replace(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Replace a thing; ``If-Match`` says which version was read before."""
        wanted = await self._wanted(request, config.context)
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id, lock=True)
            require_version(request, present)
            changed = await change(uow, tenant_id, self.kind, present, wanted)
        return answer(changed)

    async def remove(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Remove a thing with its history; 409 names those that use it."""
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id, lock=True)
            require_version(request, present)
            await remove(uow, tenant_id, present)
        return Response(status_code=204)

    async def duplicate(self, config: Config, tenant_id: Tenant, thing_id: UUID) -> Response:
        """Store another thing that is the same but for its name, with the same credentials."""
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            made = await duplicate(uow, tenant_id, self.kind, present)
        return self._created(made)

    async def put_in_place(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Put a thing behind another of its kind, or before all; its version stays."""
        place = await read(Place, request)
        if place.after == thing_id:
            raise Problem(409, detail="A thing cannot stand behind itself.")
        async with writing(config, tenant_id, alone=True) as uow:
            await find(uow, tenant_id, self.kind, thing_id)
            if not await order.put_behind(
                uow.connection, tenant_id, self.kind, thing_id, place.after
            ):
                raise Problem(409, detail=f"There is no {self.kind.name} to put it behind.")
        return Response(status_code=204)

    async def users(self, config: Config, tenant_id: Tenant, thing_id: UUID) -> Response:
        """Name what refers to a thing: the first by name, and how many there are."""
        async with reading(config, tenant_id) as uow:
            await find(uow, tenant_id, self.kind, thing_id)
            users, number = await things.users_of(
                uow.connection, tenant_id, thing_id, limit=MOST_USERS
            )
        return JSONResponse({"users": named(users), "number": number})

    async def pipeline(self, config: Config, tenant_id: Tenant, thing_id: UUID) -> Response:
        """Show a thing with all that it refers to, each as it is now."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            wanted = references_of(self.kind, present.body)
            found = await things.found(uow.connection, tenant_id, wanted.values())
        told: dict[str, Any] = {self.kind.name: present.shown()}
        for field, name in self.kind.refers.items():
            target = found.get(wanted[field]) if field in wanted else None
            told[name] = None if target is None else target.shown()
        return JSONResponse(told)

    async def _wanted(self, request: Request, context: Context) -> Definition:
        wanted = await read(self.kind.model, request)
        require_short_texts(self.kind, wanted, context)
        return wanted

    async def _created_before(
        self, uow: UnitOfWork[Context], tenant_id: UUID, key: str, request: Request, thing_id: UUID
    ) -> Thing | None:
        """Claim the key for this thing, or return what it was claimed for before."""
        keys = uow.context.keys
        told = f"{self.kind.name} ".encode() + await request.body()
        # Bodies hold credentials, so a plain hash would help to guess them.
        fingerprint = keys.blind_index("idempotency.body", told)
        repeat = await repeats.claim(
            uow.connection,
            tenant_id,
            keys.blind_index("idempotency.key", tenant_id.bytes + key.encode()),
            fingerprint,
            thing_id,
            now=uow.wall,
            kept_since=uow.wall - KEYS_KEPT,
        )
        if repeat is None:
            return None
        if repeat.fingerprint != fingerprint:
            raise Problem(422, detail="This Idempotency-Key was used with another body.")
        before = await things.find(uow.connection, tenant_id, self.kind, repeat.thing_id)
        if before is None:
            raise Problem(
                409, detail="What was created with this Idempotency-Key has been removed since."
            )
        return before

    def _created(self, made: Thing) -> Response:
        address = f"{PREFIX}/{self.kind.plural}/{made.thing_id}"
        return answer(made, status=201, headers={"location": address})


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    if not re.fullmatch(KEY_FORM, given):
        raise Problem(
            400,
            detail=f"An Idempotency-Key has 1 to {LONGEST_KEY} characters of ASCII, and no space.",
        )
    return given
