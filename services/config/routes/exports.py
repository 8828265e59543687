"""Where a customer fetches all that its tenant keeps, by a ticket that is good once."""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from chassis.openapi import problem_response
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from services.config.archives import HISTORY
from services.config.archives.writer import Pages, written
from services.config.context import Context
from services.config.domain.kinds import KINDS, Kind
from services.config.domain.schemas import STRING, an_object
from services.config.routes.access import Config, Tenant, reading
from services.config.routes.openapi import INVALID, PREFIX, SERVED, Operation, json_answer
from services.config.store import export_uses, transfers

TICKET_HOLDS: Final = timedelta(seconds=60)

_PATH: Final = f"{PREFIX}/exports"
_TICKET_BYTES: Final = 32
_TENANT_BYTES: Final = 16
_MOST_TICKET_CHARACTERS: Final = 200
_PURPOSE: Final = "export.ticket"
# So few that even the longest texts of a page are a small part of a service's memory.
_THINGS_A_PAGE: Final = 50

router = APIRouter(prefix=_PATH, tags=["exports"])

_TICKET: Final = Operation(
    201,
    {
        "201": json_answer(
            "To be used once, within a minute.",
            an_object(ticket=STRING, expires_in_seconds={"type": "integer", "minimum": 1}),
            {"ticket": "AZNXS2vQfDqaVQAAAAAAAQ", "expires_in_seconds": 60},
        )
    },
)
_DOWNLOAD: Final = Operation(
    200,
    {
        "200": {
            "description": "A ZIP of JSON, with its schema.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        "401": problem_response("The ticket was used, has ended, or never was."),
        "413": problem_response("The body is too large."),
        **INVALID,
    },
    {
        "schema": {**an_object(ticket=STRING), "additionalProperties": False},
        "example": {"ticket": "AZNXS2vQfDqaVQAAAAAAAQ"},
    },
    media_type="application/x-www-form-urlencoded",
    served={status: SERVED[status] for status in ("403", "410", "503")},
    # The ticket stands in the body, where no log and no address shows it.
    security=({},),
)


@router.post("", operation_id="make_export_ticket", **_TICKET.arguments())
async def make_ticket(config: Config, tenant_id: Tenant) -> Response:
    """Give a ticket for one download, since a browser sends no session with one."""
    random = secrets.token_bytes(_TICKET_BYTES)
    async with reading(config, tenant_id) as uow:
        await transfers.add_ticket(
            uow.connection,
            tenant_id,
            uow.context.keys.blind_index(_PURPOSE, tenant_id.bytes + random),
            now=uow.wall,
            ends_at=uow.wall + TICKET_HOLDS,
        )
    ticket = urlsafe_b64encode(tenant_id.bytes + random).decode().rstrip("=")
    told = {"ticket": ticket, "expires_in_seconds": int(TICKET_HOLDS.total_seconds())}
    return JSONResponse(told, status_code=201)


@router.post("/downloads", operation_id="download_export", **_DOWNLOAD.arguments())
async def download(request: Request, config: Config) -> Response:
    """Fetch everything that the tenant of the ticket keeps, as a file; credentials are not in it.

    It is sent while it is read, in many transactions: what is changed meanwhile
    may be there as it was or as it is. Where the tenant's erasure begins it breaks off.
    """
    tenant_id, random = _of_ticket(await _form(request))
    # Before anything is said of the tenant: whoever has no ticket learns nothing of it.
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        key = uow.context.keys.blind_index(_PURPOSE, tenant_id.bytes + random)
        holds = await transfers.use_ticket(uow.connection, tenant_id, key, now=uow.wall)
    if not holds:
        raise _no_ticket()
    async with reading(config, tenant_id) as uow:
        await export_uses.note_use(uow.connection, tenant_id, purge_id=None, now=uow.now)
        now = uow.wall
    return send_archive(tenant_id, lambda: reading(config, tenant_id), at=now)


Entering = Callable[[], AbstractAsyncContextManager[UnitOfWork[Context]]]
"""Begins a transaction that may read the tenant's content, or raises."""


def send_archive(tenant_id: UUID, entering: Entering, *, at: datetime) -> Response:
    """Send all that a tenant keeps as a file that is named by the day."""
    return StreamingResponse(
        written(_members(tenant_id, entering), at),
        media_type="application/zip",
        headers={
            "content-disposition": f'attachment; filename="keepword-{at:%Y-%m-%d}.zip"',
        },
    )


async def _members(tenant_id: UUID, entering: Entering) -> AsyncIterator[tuple[str, Pages]]:
    for kind in KINDS:
        yield f"{kind.plural}.json", _things(tenant_id, entering, kind)
    yield HISTORY, _history(tenant_id, entering)


async def _things(
    tenant_id: UUID, entering: Entering, kind: Kind
) -> AsyncIterator[list[dict[str, Any]]]:
    after = None
    while True:
        async with entering() as uow:
            page = await transfers.page_of_things(
                uow.connection, tenant_id, kind, after=after, limit=_THINGS_A_PAGE
            )
        yield [thing.shown() for thing in page]
        if len(page) < _THINGS_A_PAGE:
            return
        after = page[-1].thing_id


async def _history(tenant_id: UUID, entering: Entering) -> AsyncIterator[list[dict[str, Any]]]:
    after = None
    while True:
        async with entering() as uow:
            page = await transfers.page_of_history(
                uow.connection, tenant_id, after=after, limit=_THINGS_A_PAGE
            )
        yield [
            {
                "kind": each.kind,
                "id": str(each.thing_id),
                "version": each.version,
                "name": each.name,
                "tags": each.tags,
                # A datasource and a template have a kind of their own.
                "body": each.body,
                "made_at": each.made_at.isoformat(),
            }
            for each in page
        ]
        if len(page) < _THINGS_A_PAGE:
            return
        after = page[-1].thing_id, page[-1].version


async def _form(request: Request) -> str:
    try:
        told = parse_qs((await request.body()).decode("ascii"), strict_parsing=True)
        [ticket] = told.pop("ticket")
    except (ValueError, KeyError):
        raise Problem(400, detail="The body is a form with one ticket.") from None
    if told:
        raise Problem(400, detail="The body is a form with one ticket, and nothing else.")
    return ticket


def _of_ticket(ticket: str) -> tuple[UUID, bytes]:
    if len(ticket) > _MOST_TICKET_CHARACTERS:
        raise _no_ticket()
    try:
        told = urlsafe_b64decode(ticket.encode("ascii") + b"=" * (-len(ticket) % 4))
    except ValueError:
        raise _no_ticket() from None
    if len(told) != _TENANT_BYTES + _TICKET_BYTES:
        raise _no_ticket()
    return UUID(bytes=told[:_TENANT_BYTES]), told[_TENANT_BYTES:]


def _no_ticket() -> Problem:
    return Problem(401, detail="This ticket was used, has ended, or never was. Ask for another.")
