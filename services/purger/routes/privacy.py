"""What the privacy role decides about a tenant: wishes for an early erasure, and legal holds."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import Request
from pydantic import BaseModel, Field, StringConstraints

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, said_by
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.messages import TenantClass
from contracts.purges import LegalBasis, WishedBy
from contracts.tenants import TenantState
from services.purger.context import Context, Work
from services.purger.domain.brake import same_person
from services.purger.domain.plans import too_late_to_hold, wish_is_past_return
from services.purger.planning import replan_and_say
from services.purger.store import holds, purges, tenants, wishes
from services.purger.store.holds import KeptHold
from services.purger.store.wishes import KeptWish

log = structlog.get_logger(__name__)

router = StaffRouter()

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
@allowed(Role.PRIVACY)
async def make_wish(request: Request, tenant_id: UUID, wish: NewWish) -> WishAnswer:
    """Write a wish down; nothing happens before another person has confirmed it."""
    async with _purger(request).units.begin() as uow:
        await _lock_known_tenant(uow, tenant_id)
        wish_id = uuid7(uow.now)
        await wishes.record_wish(
            uow.connection,
            wish_id,
            tenant_id,
            made_by=WishedBy.PRIVACY,
            asked_at=None,
            now=uow.now,
            reason=wish.reason,
            asked_by=said_by(wish.name),
        )
        return _shown(await _wish(uow, wish_id))


@router.post("/wishes/{wish_id}/confirmations")
@allowed(Role.PRIVACY)
async def confirm_wish(request: Request, wish_id: UUID, person: Person) -> WishAnswer:
    """Let a wish count from now on; whoever made it cannot confirm it. Twice is once."""
    async with _purger(request).units.begin() as uow:
        wish = await _locked_wish(uow, wish_id)
        if wish.withdrawn_at is not None:
            raise Problem(409, "The wish was withdrawn", "Make another one.")
        if wish.asked_by is not None and same_person(wish.asked_by) == same_person(
            said_by(person.name)
        ):
            raise Problem(409, "A second person is needed", "Who made a wish cannot confirm it.")
        if wish.asked_at is None:
            await wishes.confirm_wish(
                uow.connection, wish_id, confirmed_by=said_by(person.name), now=uow.now
            )
            log.warning("erasure asked for", tenant_id=str(wish.tenant_id))
            await replan_and_say(uow, wish.tenant_id)
        return _shown(await _wish(uow, wish_id))


@router.post("/wishes/{wish_id}/withdrawals")
@allowed(Role.PRIVACY)
async def withdraw_wish(request: Request, wish_id: UUID, person: Person) -> WishAnswer:
    """Let a wish count no longer, whoever made it; 409 once the installer has been asked."""
    async with _purger(request).units.begin() as uow:
        wish = await _locked_wish(uow, wish_id)
        if wish.withdrawn_at is None:
            plans = await purges.lock_plans(uow.connection, wish.tenant_id)
            if wish.asked_at is not None and wish_is_past_return(plans):
                raise Problem(409, "It is too late", "The erasure has begun, and goes on.")
            await wishes.withdraw_wish(
                uow.connection,
                wish_id,
                wish.tenant_id,
                made_by=WishedBy(wish.made_by),
                now=uow.now,
                withdrawn_by=said_by(person.name),
            )
            log.warning("wish withdrawn", tenant_id=str(wish.tenant_id))
            await replan_and_say(uow, wish.tenant_id)
        return _shown(await _wish(uow, wish_id))


async def _locked_wish(uow: Work, wish_id: UUID) -> KeptWish:
    """Find a wish and let nobody plan its tenant's purges meanwhile."""
    await uow.lock_tenant_exclusively((await _wish(uow, wish_id)).tenant_id)
    return await _wish(uow, wish_id)


async def _wish(uow: Work, wish_id: UUID) -> KeptWish:
    wish = await wishes.wish(uow.connection, wish_id)
    if wish is None:
        raise Problem(404, detail="There is no such wish.")
    return wish


def _shown(wish: KeptWish) -> WishAnswer:
    return WishAnswer.model_validate(wish, from_attributes=True)


# -- legal holds ------------------------------------------------------------------------------


class NewHold(BaseModel):
    """A member of staff says that some classes of a tenant's data must be kept."""

    name: Name
    reason: Reason
    basis: LegalBasis
    classes: Annotated[set[TenantClass], Field(min_length=1)]


class Release(BaseModel):
    """A member of staff says that a hold is no longer needed."""

    name: Name
    reason: Reason


class HoldAnswer(BaseModel):
    """A hold, with why and by whom it was placed and released."""

    hold_id: UUID
    tenant_id: UUID
    classes: list[DataClass]
    basis: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str | None
    released_at: datetime | None


@router.get("/tenants/{tenant_id}/holds")
@allowed(Role.PRIVACY)
async def show_holds(request: Request, tenant_id: UUID) -> list[HoldAnswer]:
    """List a tenant's holds, released ones too."""
    async with _purger(request).units.begin() as uow:
        return [_of(hold) for hold in await holds.holds_of(uow.connection, tenant_id)]


@router.post("/tenants/{tenant_id}/holds", status_code=201)
@allowed(Role.PRIVACY)
async def place_hold(request: Request, tenant_id: UUID, wanted: NewHold) -> HoldAnswer:
    """Keep these classes from now on; 409, and nothing held, where one of them is past return."""
    async with _purger(request).units.begin() as uow:
        tenant = await _lock_known_tenant(uow, tenant_id)
        plans = await purges.lock_plans(uow.connection, tenant_id)
        late = too_late_to_hold(wanted.classes, tenant, plans)
        if late:
            names = ", ".join(each for each in TENANT_CLASSES if each in late)
            raise Problem(409, "It is too late", f"Being erased, or erased: {names}.")
        hold = KeptHold(
            hold_id=uuid7(uow.now),
            tenant_id=tenant_id,
            classes=tuple(each for each in TENANT_CLASSES if each in wanted.classes),
            basis=wanted.basis,
            reason=wanted.reason,
            placed_by=said_by(wanted.name),
            placed_at=uow.now,
            released_by=None,
            released_at=None,
        )
        await holds.place_hold(uow.connection, hold)
        log.warning("legal hold placed", tenant_id=str(tenant_id), hold_id=str(hold.hold_id))
        await replan_and_say(uow, tenant_id)
    return _of(hold)


@router.post("/holds/{hold_id}/releases")
@allowed(Role.PRIVACY)
async def release_hold(request: Request, hold_id: UUID, release: Release) -> HoldAnswer:
    """Let a hold keep nothing any more: what is due is asked for at once. Twice is once."""
    purger = _purger(request)
    async with purger.units.begin() as uow:
        tenant_id = (await _hold(uow, hold_id)).tenant_id
        await uow.lock_tenant_exclusively(tenant_id)
        is_first = await holds.release_hold(
            uow.connection,
            hold_id,
            released_by=said_by(release.name),
            reason=release.reason,
            now=uow.now,
        )
        if is_first:
            log.warning("legal hold released", tenant_id=str(tenant_id), hold_id=str(hold_id))
            await replan_and_say(uow, tenant_id)
        hold = await _hold(uow, hold_id)
    purger.wake_job("ask for due purges")
    return _of(hold)


async def _hold(uow: Work, hold_id: UUID) -> KeptHold:
    hold = await holds.hold(uow.connection, hold_id)
    if hold is None:
        raise Problem(404, detail="There is no such hold.")
    return hold


def _of(hold: KeptHold) -> HoldAnswer:
    return HoldAnswer.model_validate(hold, from_attributes=True)


async def _lock_known_tenant(uow: Work, tenant_id: UUID) -> TenantState:
    await uow.lock_tenant_exclusively(tenant_id)
    tenant = await tenants.tenant(uow.connection, tenant_id)
    if tenant is None:
        raise Problem(404, detail="There is no such tenant.")
    return tenant


def _purger(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
