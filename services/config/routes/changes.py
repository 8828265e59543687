"""What all that change a thing have in common: what was sent, which version, what it refers to."""

import re
from typing import Any, Final, TypeVar, get_args
from uuid import UUID

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from services.config.context import CREDENTIALS, Context
from services.config.domain.definitions import Definition
from services.config.domain.kinds import Kind
from services.config.domain.things import (
    PastVersion,
    Thing,
    names_with,
    read_definition,
    references_of,
)
from services.config.routes.openapi import IF_MATCH_FORM
from services.config.store import history, things

# Whatever pydantic finds by itself is about the form; rules of ours are about the sense.
_OF_FORM: Final = frozenset(get_args(ErrorType))

MOST_USERS: Final = 50
"""How many of those that use a thing are named."""

M = TypeVar("M", bound=BaseModel)


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


async def create(
    uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, thing_id: UUID, wanted: Definition
) -> Thing:
    """Store a new thing; raises 409 where that cannot be."""
    await require_meant(uow, tenant_id, kind, wanted)
    made = await things.add(
        uow.connection,
        tenant_id,
        kind,
        thing_id,
        wanted,
        credentials=await sealed(uow, tenant_id, wanted),
        now=uow.now,
    )
    if made is None:
        raise name_taken(kind)
    await require_room(uow, tenant_id, 1)
    return made


async def duplicate(uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, present: Thing) -> Thing:
    """Store another thing that is the same but for its name, with the same credentials."""
    names = names_with("copy", present.name)
    next(names)  # its own
    name = await things.free_name(uow.connection, tenant_id, kind, names)
    wanted = _as_it_would_be_written(present)
    await require_meant(uow, tenant_id, kind, wanted)
    made = await things.add(
        uow.connection,
        tenant_id,
        kind,
        uuid7(uow.now),
        wanted,
        name=name,
        credentials=await things.credentials_of(uow.connection, tenant_id, present.thing_id),
        now=uow.now,
    )
    if made is None:
        raise name_taken(kind)
    await require_room(uow, tenant_id, 1)
    return made


async def remove(uow: UnitOfWork[Context], tenant_id: UUID, present: Thing) -> None:
    """Remove a thing that was found and locked; raises 409 that names those who use it."""
    users, number = await things.users_of(
        uow.connection, tenant_id, present.thing_id, limit=MOST_USERS
    )
    if number:
        raise Problem(
            409,
            detail="Others use it. Change or remove them first.",
            extensions={"reason": "in-use", "users": named(users), "number": number},
        )
    await things.remove(uow.connection, tenant_id, present.thing_id)
    await things.count_in(uow.connection, tenant_id, -1, now=uow.now)


def named(users: list[things.User]) -> list[dict[str, str]]:
    """Name things that use another."""
    return [{"id": str(each.thing_id), "kind": each.kind, "name": each.name} for each in users]


def _as_it_would_be_written(present: Thing) -> Definition:
    try:
        return present.definition()
    except ValidationError:
        raise Problem(
            409, detail="It does not satisfy the present rules any more. Change it first."
        ) from None


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
            credentials=await sealed(uow, tenant_id, wanted),
            now=uow.now,
            versions_kept=uow.context.limits.versions_kept,
        )
    except things.NameTaken:
        raise name_taken(kind) from None


async def bring_back(
    uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, present: Thing, past: PastVersion
) -> Thing:
    """Make a thing that was found and locked what it was; raises 409 where that cannot be."""
    try:
        wanted = read_definition(kind, past.name, past.tags, past.body)
    except ValidationError:
        raise Problem(409, detail="That version does not satisfy the present rules.") from None
    return await change(uow, tenant_id, kind, present, wanted)


async def version_of(
    uow: UnitOfWork[Context], tenant_id: UUID, kind: Kind, thing_id: UUID, version: int
) -> PastVersion:
    """Find what a thing was, or is, in one version; raises 404 where that is not kept."""
    await find(uow, tenant_id, kind, thing_id)
    found = await history.version_of(uow.connection, tenant_id, thing_id, version)
    if found is None:
        raise Problem(404, detail="That version is not kept, or was never made.")
    return found


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


def name_taken(kind: Kind) -> Problem:
    """Make the answer to a name that another thing of the kind has."""
    return Problem(
        409,
        detail=f"There is a {kind.name} of this name already.",
        extensions={"reason": "name-taken"},
    )


async def sealed(uow: UnitOfWork[Context], tenant_id: UUID, wanted: Definition) -> bytes | None:
    """Seal what is secret of a thing under its tenant's key."""
    if wanted.secret is None:
        return None
    plaintext = wanted.secret.get_secret_value().encode()
    return await uow.context.keys.seal(
        uow.connection, tenant_id, CREDENTIALS, plaintext, now=uow.now
    )
