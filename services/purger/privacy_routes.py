"""What the privacy role decides about a tenant; on a laptop for now, as nobody can log in yet."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.service import Running, running
from contracts.purges import WishedBy
from services.purger import store
from services.purger.context import Context, Work
from services.purger.domain import same_person, wish_is_past_return
from services.purger.planning import replan_and_say
from services.purger.store import KeptWish

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/development")

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"\S", strip_whitespace=True)
]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]


# -- wishes -----------------------------------------------------------------------------------


class NewWish(BaseModel):
    """A member of staff wants a tenant erased before its time, as its customer wrote to us."""

    name: Name
    reason: Reason


class Person(BaseModel):
    """Who decides."""

    name: Name


class WishAnswer(BaseModel):
    """A wish, and since when it counts."""

    wish_id: UUID
    tenant_id: UUID
    made_by: str
    asked_at: datetime | None
    withdrawn_at: datetime | None


@router.post("/tenants/{tenant_id}/wishes", status_code=201)
async def make_wish(request: Request, tenant_id: UUID, wish: NewWish) -> WishAnswer:
    """Write a wish down; nothing happens before another person has confirmed it."""
    async with _purger(request).units.begin() as uow:
        await _lock_known_tenant(uow, tenant_id)
        wish_id = uuid7(uow.now)
        await store.record_wish(
            uow.connection,
            wish_id,
            tenant_id,
            made_by=WishedBy.PRIVACY,
            asked_at=None,
            now=uow.now,
            reason=wish.reason,
            asked_by=wish.name,
        )
        return _shown(await _wish(uow, wish_id))


@router.post("/wishes/{wish_id}/confirmations")
async def confirm_wish(request: Request, wish_id: UUID, person: Person) -> WishAnswer:
    """Let a wish count from now on; whoever made it cannot confirm it. Twice is once."""
    async with _purger(request).units.begin() as uow:
        wish = await _locked_wish(uow, wish_id)
        if wish.withdrawn_at is not None:
            raise Problem(409, "The wish was withdrawn", "Make another one.")
        if wish.asked_by is not None and same_person(wish.asked_by) == same_person(person.name):
            raise Problem(409, "A second person is needed", "Who made a wish cannot confirm it.")
        if wish.asked_at is None:
            await store.confirm_wish(uow.connection, wish_id, confirmed_by=person.name, now=uow.now)
            log.warning("erasure asked for", tenant_id=str(wish.tenant_id))
            await replan_and_say(uow, wish.tenant_id)
        return _shown(await _wish(uow, wish_id))


@router.post("/wishes/{wish_id}/withdrawals")
async def withdraw_wish(request: Request, wish_id: UUID, person: Person) -> WishAnswer:
    """Let a wish count no longer, whoever made it; 409 once the installer has been asked."""
    async with _purger(request).units.begin() as uow:
        wish = await _locked_wish(uow, wish_id)
        if wish.withdrawn_at is None:
            plans = await store.lock_plans(uow.connection, wish.tenant_id)
            if wish.asked_at is not None and wish_is_past_return(plans):
                raise Problem(409, "It is too late", "The erasure has begun, and goes on.")
            await store.withdraw_wish(
                uow.connection,
                wish_id,
                wish.tenant_id,
                made_by=WishedBy(wish.made_by),
                now=uow.now,
                withdrawn_by=person.name,
            )
            log.warning("wish withdrawn", tenant_id=str(wish.tenant_id))
            await replan_and_say(uow, wish.tenant_id)
        return _shown(await _wish(uow, wish_id))


async def _locked_wish(uow: Work, wish_id: UUID) -> KeptWish:
    """Find a wish and let nobody plan its tenant's purges meanwhile."""
    await uow.lock_tenant_exclusively((await _wish(uow, wish_id)).tenant_id)
    return await _wish(uow, wish_id)


async def _wish(uow: Work, wish_id: UUID) -> KeptWish:
    wish = await store.wish(uow.connection, wish_id)
    if wish is None:
        raise Problem(404, detail="There is no such wish.")
    return wish


def _shown(wish: KeptWish) -> WishAnswer:
    return WishAnswer.model_validate(wish, from_attributes=True)


async def _lock_known_tenant(uow: Work, tenant_id: UUID) -> None:
    await uow.lock_tenant_exclusively(tenant_id)
    if await store.tenant(uow.connection, tenant_id) is None:
        raise Problem(404, detail="There is no such tenant.")


def _purger(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
