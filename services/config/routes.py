"""The HTTP edge of config: the datasources of the tenant whose session it is."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.service import Running, running
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from services.config import store
from services.config.context import CREDENTIALS, Context
from services.config.domain import (
    Access,
    Datasource,
    DatasourceInput,
    access_to_content,
    cursor_after,
    place_of,
)

PATH: Final = "/api/v1/datasources"

router = APIRouter(prefix=PATH)


def _config(request: Request) -> Running[Context]:
    return running(request)


Config = Annotated[Running[Context], Depends(_config)]


async def _tenant_of(request: Request, config: Config) -> UUID:
    return await config.context.sessions.tenant_of(request, wall=config.resources.clock.wall())


Tenant = Annotated[UUID, Depends(_tenant_of)]

_REFUSED: Final = {
    Access.UNKNOWN: (503, "This tenant has not been heard of yet. Try again."),
    Access.LEFT: (403, "The app is not installed, so what it keeps here is closed."),
    Access.GOING: (410, "What this tenant kept here is being erased, or is erased."),
    Access.KEPT_ELSEWHERE: (403, "This kind of app keeps its content in the customer's product."),
}


async def _enter(uow: UnitOfWork[Context], tenant_id: UUID, *, writes: bool = False) -> None:
    """Hold erasures of the tenant off until the end, and see its rows alone, if it is served."""
    await uow.lock_tenants([tenant_id])
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
    access = access_to_content(await store.tenant(uow.connection, tenant_id), erased)
    if writes and access is Access.GOING:
        uow.count_suppressed("route", DataClass.CONTENT)
    if access is not Access.OPEN:
        status, detail = _REFUSED[access]
        headers = {"retry-after": "1"} if access is Access.UNKNOWN else None
        raise Problem(status, detail=detail, headers=headers)
    await uow.act_for(tenant_id)


async def _wanted(request: Request) -> DatasourceInput:
    """Read the body, after the session: who has none is not read."""
    try:
        return DatasourceInput.model_validate_json(await request.body(), strict=True)
    except ValidationError as refused:
        # Below a field there are only names of options, which are the customer's.
        errors = refused.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**error, "loc": error["loc"][:1]} for error in errors]
        ) from None


def _wanted_version(request: Request) -> int | None:
    """The version that ``If-Match`` asks for (RFC 9110 section 13.1.1), if any."""
    given = request.headers.get("if-match")
    if given is None or given == "*":
        return None
    number = given.strip('"')
    if not number.isascii() or not number.isdigit() or len(number) > 9:  # noqa: PLR2004 - fits an integer of PostgreSQL
        raise Problem(412, detail="If-Match is not an ETag that was given here.")
    return int(number)


@router.post("", status_code=201)
async def create(request: Request, config: Config, tenant_id: Tenant) -> Response:
    """Store a new datasource: 201 with its address, 409 where its name is taken."""
    wanted = await _wanted(request)
    async with config.units.begin() as uow:
        await _enter(uow, tenant_id, writes=True)
        made = await store.add_datasource(
            uow.connection,
            tenant_id,
            uuid7(uow.now),
            wanted,
            sealed_credentials=await _sealed(uow, tenant_id, wanted),
            now=uow.now,
        )
        if made is None:
            raise _name_taken()
    return _answer(made, status=201, headers={"location": f"{PATH}/{made.datasource_id}"})


@router.get("")
async def list_some(
    config: Config,
    tenant_id: Tenant,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """List datasources, oldest first; ``next`` is the cursor of what follows."""
    try:
        after = place_of(cursor) if cursor is not None else None
    except ValueError:
        raise Problem(400, detail="cursor is not one that was given here.") from None
    async with config.units.begin() as uow:
        await _enter(uow, tenant_id)
        found = await store.datasources(uow.connection, tenant_id, after=after, limit=limit + 1)
    page = found[:limit]
    following = cursor_after(page[-1].datasource_id) if len(found) > limit else None
    return JSONResponse({"items": [_shown(each) for each in page], "next": following})


@router.get("/{datasource_id}")
async def show(config: Config, tenant_id: Tenant, datasource_id: UUID) -> Response:
    """Show one datasource, without its credentials."""
    async with config.units.begin() as uow:
        await _enter(uow, tenant_id)
        found = await store.datasource(uow.connection, tenant_id, datasource_id)
    if found is None:
        raise _not_found()
    return _answer(found)


@router.put("/{datasource_id}")
async def replace(
    request: Request, config: Config, tenant_id: Tenant, datasource_id: UUID
) -> Response:
    """Replace a datasource: 412 where ``If-Match`` names another version."""
    wanted = await _wanted(request)
    version = _wanted_version(request)
    try:
        async with config.units.begin() as uow:
            await _enter(uow, tenant_id, writes=True)
            replaced = await store.replace_datasource(
                uow.connection,
                tenant_id,
                datasource_id,
                wanted,
                sealed_credentials=await _sealed(uow, tenant_id, wanted),
                version=version,
                now=uow.now,
            )
            if replaced is None:
                raise await _missing(uow, tenant_id, datasource_id)
    except store.NameTaken:
        raise _name_taken() from None
    return _answer(replaced)


@router.delete("/{datasource_id}", status_code=204)
async def remove(
    request: Request, config: Config, tenant_id: Tenant, datasource_id: UUID
) -> Response:
    """Remove a datasource: 412 where ``If-Match`` names another version."""
    version = _wanted_version(request)
    async with config.units.begin() as uow:
        await _enter(uow, tenant_id, writes=True)
        if not await store.remove_datasource(
            uow.connection, tenant_id, datasource_id, version=version
        ):
            raise await _missing(uow, tenant_id, datasource_id)
    return Response(status_code=204)


async def _sealed(
    uow: UnitOfWork[Context], tenant_id: UUID, wanted: DatasourceInput
) -> bytes | None:
    if wanted.credentials is None:
        return None
    plaintext = wanted.credentials.get_secret_value().encode()
    return await uow.context.keys.seal(
        uow.connection, tenant_id, CREDENTIALS, plaintext, now=uow.now
    )


async def _missing(uow: UnitOfWork[Context], tenant_id: UUID, datasource_id: UUID) -> Problem:
    """Tell a datasource that is not there from one in another version."""
    if await store.datasource(uow.connection, tenant_id, datasource_id) is None:
        return _not_found()
    return Problem(412, detail="The datasource has changed. Read it again.")


def _not_found() -> Problem:
    return Problem(404, detail="There is no such datasource.")


def _name_taken() -> Problem:
    return Problem(409, detail="There is a datasource of this name already.")


def _answer(
    datasource: Datasource, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    etag = {"etag": f'"{datasource.version}"'}
    return JSONResponse(_shown(datasource), status_code=status, headers={**etag, **(headers or {})})


def _shown(datasource: Datasource) -> dict[str, Any]:
    return {
        "datasource_id": str(datasource.datasource_id),
        "name": datasource.name,
        "kind": datasource.kind,
        "url": datasource.url,
        "options": datasource.options,
        "username": datasource.username,
        "has_credentials": datasource.has_credentials,
        "version": datasource.version,
        "created_at": datasource.created_at.isoformat(),
        "updated_at": datasource.updated_at.isoformat(),
    }
