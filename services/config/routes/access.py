"""Who is let in: whose session a request is, and whether that tenant's content may be touched."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Request

from chassis.problems import Problem
from chassis.service import Running, running
from chassis.sessions import Session
from chassis.unit_of_work import UnitOfWork
from chassis.words import word
from contracts.classes import DataClass
from services.config.context import Context
from services.config.domain.access import Access, access_to_content
from services.config.domain.access import Tenant as KnownTenant
from services.config.store import tenants


# A plain function would be called in a thread of its own for each request.
async def _config(request: Request) -> Running[Context]:
    return running(request)


Config = Annotated[Running[Context], Depends(_config)]


async def _session_of(request: Request, config: Config) -> Session:
    return await config.context.sessions.session_of(request, wall=config.resources.clock.wall())


CustomerSession = Annotated[Session, Depends(_session_of)]


async def _tenant_of(session: CustomerSession) -> UUID:
    return session.tenant_id


_ADMINISTRATORS_ALONE: Final = word(
    "Only who administers your site can do that. Open the app anew from the administration of your site."
)


async def _administered_by(session: CustomerSession) -> UUID:
    if not session.administers:
        raise Problem(403, detail=_ADMINISTRATORS_ALONE)
    return session.tenant_id


Tenant = Annotated[UUID, Depends(_tenant_of)]
AdministeredTenant = Annotated[UUID, Depends(_administered_by)]
"""The same for an administrator of the site alone: 403 for others."""

_REFUSED: Final = {
    Access.UNKNOWN: (503, word("This tenant has not been heard of yet. Try again.")),
    Access.LEFT: (403, word("The app is not installed, so what it keeps here is closed.")),
    Access.GOING: (410, word("What this tenant kept here is being erased, or is erased.")),
    Access.READABLE: (403, word("The app has moved. What is still here can be read and exported.")),
    Access.KEPT_ELSEWHERE: (
        403,
        word("This kind of app keeps its content in the customer's product."),
    ),
}


@asynccontextmanager
async def reading(config: Running[Context], tenant_id: UUID) -> AsyncIterator[UnitOfWork[Context]]:
    """Begin a transaction that sees the rows of this tenant alone; raises where it is not served.

    Erasures of the tenant wait until the end.
    """
    async with config.units.begin() as uow:
        await _enter(uow, tenant_id, writes=False)
        yield uow


@asynccontextmanager
async def writing(
    config: Running[Context], tenant_id: UUID, *, alone: bool = False
) -> AsyncIterator[UnitOfWork[Context]]:
    """Do the same for what changes content, which who has moved to Forge may not.

    ``alone`` keeps everybody else of the tenant out, for what touches so many
    rows that two at once could wait for each other.
    """
    async with config.units.begin() as uow:
        await _enter(uow, tenant_id, writes=True, alone=alone)
        yield uow


def _reason(access: Access, tenant: KnownTenant | None) -> str:
    """Say which advice a page shows: of who has moved only what was left here is gone."""
    if access is Access.GOING and tenant is not None and tenant.has_moved:
        return Access.KEPT_ELSEWHERE.value
    return access.value


async def _enter(
    uow: UnitOfWork[Context], tenant_id: UUID, *, writes: bool, alone: bool = False
) -> None:
    if alone:
        await uow.lock_tenant_exclusively(tenant_id)
    else:
        await uow.lock_tenants([tenant_id])
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
    tenant = await tenants.tenant(uow.connection, tenant_id)
    access = access_to_content(tenant, erased)
    if writes and access is Access.GOING:
        uow.count_suppressed("route", DataClass.CONTENT)
    if access is not Access.OPEN and (writes or access is not Access.READABLE):
        status, detail = _REFUSED[access]
        headers = {"retry-after": "1"} if access is Access.UNKNOWN else None
        raise Problem(
            status, detail=detail, headers=headers, extensions={"reason": _reason(access, tenant)}
        )
    await uow.act_for(tenant_id)
