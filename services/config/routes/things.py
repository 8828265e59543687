"""Where customers create, list, change and remove things, one router a kind."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar, get_args
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core.core_schema import ErrorType

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from services.config.context import CREDENTIALS, Context
from services.config.domain.definitions import Definition
from services.config.domain.kinds import Kind
from services.config.domain.things import (
    Sort,
    Thing,
    cursor_after,
    names_with,
    place_of,
    references_of,
)
from services.config.routes import openapi
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.openapi import IF_MATCH_FORM, PREFIX
from services.config.store import repeats, things
from services.config.store.things import Wanted

KEYS_KEPT: Final = timedelta(days=1)
"""How long a repeat with the same Idempotency-Key creates nothing."""

_LONGEST_KEY: Final = 200
_MOST_USERS: Final = 50
# Whatever pydantic finds by itself is about the form; rules of ours are about the sense.
_OF_FORM: Final = frozenset(get_args(ErrorType))

M = TypeVar("M", bound=BaseModel)

Limit = Annotated[int, Query(ge=1, le=100)]
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
            made = await self._add(uow, tenant_id, thing_id, wanted)
            if made is None:
                raise _name_taken(self.kind)
            await require_room(uow, tenant_id, 1)
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
            users, number = await things.users_of(
                uow.connection, tenant_id, thing_id, limit=_MOST_USERS
            )
            if number:
                raise Problem(
                    409,
                    detail="Others use it. Change or remove them first.",
                    extensions={"reason": "in-use", "users": _named(users), "number": number},
                )
            await things.remove(uow.connection, tenant_id, thing_id)
            await things.count_in(uow.connection, tenant_id, -1, now=uow.now)
        return Response(status_code=204)

    async def duplicate(self, config: Config, tenant_id: Tenant, thing_id: UUID) -> Response:
        """Store another thing that is the same but for its name, with the same credentials."""
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            names = names_with("copy", present.name)
            next(names)  # its own
            name = await things.free_name(uow.connection, tenant_id, self.kind, names)
            wanted = _as_it_would_be_written(present)
            await self._require_meant(uow, tenant_id, wanted)
            made = await things.add(
                uow.connection,
                tenant_id,
                self.kind,
                uuid7(uow.now),
                wanted,
                name=name,
                credentials=await things.credentials_of(uow.connection, tenant_id, thing_id),
                now=uow.now,
            )
            if made is None:
                raise _name_taken(self.kind)
            await require_room(uow, tenant_id, 1)
        return self._created(made)

    async def put_in_place(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Put a thing behind another of its kind, or before all; its version stays."""
        place = await read(Place, request)
        if place.after == thing_id:
            raise Problem(409, detail="A thing cannot stand behind itself.")
        async with writing(config, tenant_id) as uow:
            await find(uow, tenant_id, self.kind, thing_id, lock=True)
            if not await things.put_behind(
                uow.connection, tenant_id, self.kind, thing_id, place.after
            ):
                raise Problem(409, detail=f"There is no {self.kind.name} to put it behind.")
        return Response(status_code=204)

    async def users(self, config: Config, tenant_id: Tenant, thing_id: UUID) -> Response:
        """Name what refers to a thing: the first by name, and how many there are."""
        async with reading(config, tenant_id) as uow:
            await find(uow, tenant_id, self.kind, thing_id)
            users, number = await things.users_of(
                uow.connection, tenant_id, thing_id, limit=_MOST_USERS
            )
        return JSONResponse({"users": _named(users), "number": number})

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

    async def _add(
        self, uow: UnitOfWork[Context], tenant_id: UUID, thing_id: UUID, wanted: Definition
    ) -> Thing | None:
        await self._require_meant(uow, tenant_id, wanted)
        return await things.add(
            uow.connection,
            tenant_id,
            self.kind,
            thing_id,
            wanted,
            credentials=await _sealed(uow, tenant_id, wanted),
            now=uow.now,
        )

    async def _require_meant(
        self, uow: UnitOfWork[Context], tenant_id: UUID, wanted: Definition
    ) -> None:
        await require_meant(uow, tenant_id, self.kind, wanted)

    def _created(self, made: Thing) -> Response:
        address = f"{PREFIX}/{self.kind.plural}/{made.thing_id}"
        return answer(made, status=201, headers={"location": address})


async def read(model: type[M], request: Request) -> M:
    """Read the body, after the session: who has none is not read.

    What is wrong in form is answered with 400, what contradicts itself with 422.
    """
    try:
        return model.model_validate_json(await request.body(), strict=True)
    except ValidationError as refused:
        # Below a field there are only names of options, which are the customer's.
        errors = refused.errors(include_url=False, include_context=False, include_input=False)
        told: list[dict[str, Any]] = [{**error, "loc": error["loc"][:1]} for error in errors]
        if any(error["type"] in _OF_FORM for error in told):
            raise RequestValidationError(told) from None
        raise contradiction(*((".".join(map(str, e["loc"])), e["msg"]) for e in told)) from None


def contradiction(*errors: tuple[str, str]) -> Problem:
    """Make the answer to what has the right form and makes no sense: field and reason."""
    return Problem(
        422,
        "What is asked contradicts itself",
        extensions={"errors": [{"field": name, "message": text} for name, text in errors]},
    )


def require_short_texts(kind: Kind, wanted: Definition, context: Context) -> None:
    """Raise where a text is longer than a tenant may keep."""
    most = context.limits.most_text_characters
    for field in kind.long:
        if len(getattr(wanted, field)) > most:
            raise contradiction((field, f"is longer than {most} characters, which is the most"))


async def find(
    uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, thing_id: UUID, *, lock: bool = False
) -> Thing:
    """Find a thing of the tenant; raises 404 where there is none, whoever else may have one."""
    found = await things.find(uow.connection, tenant_id, kind, thing_id, lock=lock)
    if found is None:
        raise Problem(404, detail=f"There is no such {kind.name}.")
    return found


async def change(
    uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, present: Thing, wanted: Definition
) -> Thing:
    """Make a thing that was found and locked this; raises 409 where that cannot be."""
    if kind.nature_is_fixed and wanted.body()["kind"] != present.body["kind"]:
        raise Problem(
            409, detail=f"The kind of a {kind.name} never changes: others rely on it. Make another."
        )
    await require_meant(uow, tenant_id, kind, wanted)
    try:
        return await things.replace(
            uow.connection,
            tenant_id,
            kind,
            present,
            wanted,
            credentials=await _sealed(uow, tenant_id, wanted),
            now=uow.now,
            versions_kept=uow.context.limits.versions_kept,
        )
    except things.NameTaken:
        raise _name_taken(kind) from None


async def require_meant(
    uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, wanted: Definition
) -> None:
    """Raise 409 where a thing would refer to what is not there, or is of another kind."""
    body = wanted.body()
    references = references_of(kind, body)
    if not references:
        return
    found = await things.meant(uow.connection, tenant_id, references.values())
    for field, thing_id in references.items():
        target = found.get(thing_id)
        name = kind.refers[field]
        if target is None or target.kind != name:
            raise Problem(409, detail=f"{field}: there is no such {name}.")
        if field in kind.alike and target.body["kind"] != body["kind"]:
            raise Problem(409, detail=f"{field}: the {name} is of another kind than this.")


async def require_room(uow: UnitOfWork[Context], tenant_id: UUID, added: int) -> None:
    """Count things that were added; raises 409 where a tenant keeps too many."""
    most = uow.context.limits.most_things
    if await things.count_in(uow.connection, tenant_id, added, now=uow.now) > most and added:
        raise Problem(
            409,
            "There are too many things",
            f"A tenant may keep {most} things of all kinds together. Remove what is not needed.",
            extensions={"reason": "too-many", "most": most},
        )


def require_version(request: Request, present: Thing) -> None:
    """Raise 428 without ``If-Match``, 412 where it names another version (RFC 9110, 13.1.1)."""
    given = request.headers.get("if-match")
    ahead = {"version": present.version}
    if given is None:
        raise Problem(
            428,
            detail="Say by If-Match which version you have read.",
            extensions=ahead,
        )
    if re.fullmatch(IF_MATCH_FORM, given) is None:
        raise Problem(400, detail="If-Match holds an ETag, or several.", extensions=ahead)
    named = {each.strip() for each in given.split(",")}
    if not named & {"*", etag(present)}:
        raise Problem(412, detail="It has changed since you read it.", extensions=ahead)


def etag(thing: Thing) -> str:
    """The ETag of a thing's present version."""
    return f'"{thing.version}"'


def answer(thing: Thing, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a thing and its ETag."""
    return JSONResponse(
        thing.shown(), status_code=status, headers={"etag": etag(thing), **(headers or {})}
    )


def _named(users: list[things.User]) -> list[dict[str, str]]:
    return [{"id": str(each.thing_id), "kind": each.kind, "name": each.name} for each in users]


def _as_it_would_be_written(present: Thing) -> Definition:
    try:
        return present.definition()
    except ValidationError:
        raise Problem(
            409, detail="It does not satisfy the present rules any more. Change it first."
        ) from None


def _name_taken(kind: Kind) -> Problem:
    return Problem(409, detail=f"There is a {kind.name} of this name already.")


async def _sealed(uow: UnitOfWork[Context], tenant_id: UUID, wanted: Definition) -> bytes | None:
    if wanted.secret is None:
        return None
    plaintext = wanted.secret.get_secret_value().encode()
    return await uow.context.keys.seal(
        uow.connection, tenant_id, CREDENTIALS, plaintext, now=uow.now
    )


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    if not 1 <= len(given) <= _LONGEST_KEY:
        raise Problem(400, detail=f"An Idempotency-Key has 1 to {_LONGEST_KEY} characters.")
    return given
