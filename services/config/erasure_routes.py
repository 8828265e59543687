"""Where a customer asks for the erasure of everything before its time, sees it, and withdraws it."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.purges import ErasureAsked, ErasureWithdrawn, Phase, PurgeState
from services.config import store
from services.config.context import Context
from services.config.early_erasure import (
    ErasureRequest,
    Stage,
    begins_at,
    stage_of,
    wishes_of,
)
from services.config.routes import Config, Tenant

PATH: Final = "/api/v1/erasure-requests"

router = APIRouter(prefix=PATH)


@router.get("")
async def show(config: Config, tenant_id: Tenant) -> Response:
    """Show what is asked for, what is planned, what is held, and whether it can be withdrawn."""
    async with config.units.begin() as uow:
        return JSONResponse(await _shown(uow, tenant_id))


@router.post("", status_code=202)
async def ask(config: Config, tenant_id: Tenant) -> Response:
    """Ask for everything to be erased: 202, or 200 where that is asked for already."""
    async with config.units.begin() as uow:
        await uow.lock_tenant_exclusively(tenant_id)
        stage, _, _ = await _known(uow, tenant_id)
        if stage in {Stage.ERASING, Stage.ERASED}:
            raise Problem(410, detail="What this tenant kept here is being erased, or is erased.")
        if stage is not Stage.ASKED:
            wish = ErasureRequest(wish_id=uuid7(uow.now), asked_at=uow.now)
            await store.save_request(uow.connection, tenant_id, wish)
            uow.outbox.add(
                ErasureAsked(wish_id=wish.wish_id, tenant_id=tenant_id, asked_at=wish.asked_at)
            )
        shown = await _shown(uow, tenant_id)
    return JSONResponse(shown, status_code=200 if stage is Stage.ASKED else 202)


@router.delete("", status_code=202)
async def withdraw(config: Config, tenant_id: Tenant) -> Response:
    """Withdraw all that is asked for: 202, 200 where nothing is, 409 where it is too late."""
    async with config.units.begin() as uow:
        await uow.lock_tenant_exclusively(tenant_id)
        stage, said, own = await _known(uow, tenant_id)
        if stage in {Stage.ERASING, Stage.ERASED}:
            raise Problem(409, "It is too late", "The erasure has begun, and goes on.")
        if stage is Stage.ASKED:
            standing = wishes_of(said, own)
            for wish in standing:
                uow.outbox.add(
                    ErasureWithdrawn(
                        wish_id=wish.wish_id, tenant_id=tenant_id, withdrawn_at=uow.now
                    )
                )
            # Without one of our own it is purger who named them.
            last = own or ErasureRequest(standing[0].wish_id, standing[0].asked_at, heard=True)
            withdrawn = replace(last, withdrawn_at=uow.now)
            await store.save_request(uow.connection, tenant_id, withdrawn)
        shown = await _shown(uow, tenant_id)
    return JSONResponse(shown, status_code=202 if stage is Stage.ASKED else 200)


async def _known(
    uow: UnitOfWork[Context], tenant_id: UUID
) -> tuple[Stage, PurgeState | None, ErasureRequest | None]:
    """Say where a tenant's erasure stands, by what purger said and what was asked for here.

    Whoever decides by it has locked the tenant, so that who asks twice at once asks once.
    """
    said = await store.purges(uow.connection, tenant_id)
    own = await store.request(uow.connection, tenant_id)
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset[DataClass]())
    known = said or erased or await store.tenant(uow.connection, tenant_id)
    if not known:
        raise Problem(
            503,
            detail="This tenant has not been heard of yet. Try again.",
            headers={"retry-after": "1"},
        )
    return stage_of(said, own, erased), said, own


async def _shown(uow: UnitOfWork[Context], tenant_id: UUID) -> dict[str, Any]:
    stage, said, own = await _known(uow, tenant_id)
    wishes = wishes_of(said, own)
    plans = [plan for plan in said.plans if plan.phase is not Phase.WITHDRAWN] if said else []
    return {
        "stage": stage,
        "asked_at": _spelt(min((wish.asked_at for wish in wishes), default=None)),
        "can_be_withdrawn": stage is Stage.ASKED,
        "begins_at": _spelt(begins_at(said)),
        "purges": [
            plan.model_dump(
                mode="json", include={"clock", "phase", "start_at", "erase_by", "deadline", "held"}
            )
            | {"classes": plan.takes}
            for plan in plans
        ],
        "holds": [
            hold.model_dump(mode="json", include={"classes", "basis", "placed_at"})
            for hold in (said.holds if said else ())
        ],
    }


def _spelt(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
