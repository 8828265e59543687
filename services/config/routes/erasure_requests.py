"""Where a customer asks for the erasure of everything before its time, sees it, and withdraws it."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from chassis.identifiers import uuid7
from chassis.openapi import problem_response
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.purges import ErasureAsked, ErasureWithdrawn, Phase, PurgeState
from services.config.context import Context
from services.config.domain.early_erasure import (
    ErasureRequest,
    Stage,
    begins_at,
    stage_of,
    wishes_of,
)
from services.config.routes.access import AdministeredTenant, Config, Tenant
from services.config.routes.openapi import SERVED, Operation, json_answer
from services.config.store import early_erasure, tenants

PATH: Final = "/api/v1/erasure-requests"

# Who has left, or whose content is gone, is answered all the same.
_SERVED: Final = {status: SERVED[status] for status in ("401", "503")}

router = APIRouter(prefix=PATH, tags=["erasure-requests"])

_TIME: Final = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
_ANSWER: Final = json_answer(
    "What is asked for, planned and held.",
    {
        "type": "object",
        "required": ["stage", "asked_at", "can_be_withdrawn", "begins_at", "purges", "holds"],
        "properties": {
            "stage": {"enum": [each.value for each in Stage]},
            "asked_at": _TIME,
            "can_be_withdrawn": {"type": "boolean"},
            "begins_at": _TIME,
            "purges": {"type": "array", "items": {"type": "object"}},
            "holds": {"type": "array", "items": {"type": "object"}},
        },
    },
    {
        "stage": "asked",
        "asked_at": "2026-11-23T12:00:00+00:00",
        "can_be_withdrawn": True,
        "begins_at": "2026-11-30T12:00:00+00:00",
        "purges": [],
        "holds": [],
    },
)
_ADMINISTRATORS: Final = problem_response("It is for who administers the site.")
_SHOWN: Final = Operation(200, {"200": _ANSWER}, served=_SERVED)
_ASKED: Final = Operation(
    202,
    {
        "200": _ANSWER,
        "202": _ANSWER,
        "403": _ADMINISTRATORS,
        "410": problem_response("The erasure has begun, or is over."),
    },
    served=_SERVED,
)
_WITHDRAWN: Final = Operation(
    202,
    {
        "200": _ANSWER,
        "202": _ANSWER,
        "403": _ADMINISTRATORS,
        "409": problem_response("The erasure has begun."),
    },
    served=_SERVED,
)


@router.get("", **_SHOWN.arguments())
async def show(config: Config, tenant_id: Tenant) -> Response:
    """Show what is asked for, what is planned, what is held, and whether it can be withdrawn."""
    async with config.units.begin() as uow:
        return JSONResponse(await _shown(uow, tenant_id))


@router.post("", **_ASKED.arguments())
async def ask(config: Config, tenant_id: AdministeredTenant) -> Response:
    """Ask for everything to be erased: 202, or 200 where that is asked for already.

    It is for who administers the site, as to withdraw it.
    """
    async with config.units.begin() as uow:
        await uow.lock_tenant_exclusively(tenant_id)
        stage, _, _ = await _known(uow, tenant_id)
        if stage in {Stage.ERASING, Stage.ERASED}:
            raise Problem(410, detail="What this tenant kept here is being erased, or is erased.")
        if stage is not Stage.ASKED:
            wish = ErasureRequest(wish_id=uuid7(uow.now), asked_at=uow.now)
            await early_erasure.save_request(uow.connection, tenant_id, wish)
            uow.outbox.add(
                ErasureAsked(wish_id=wish.wish_id, tenant_id=tenant_id, asked_at=wish.asked_at)
            )
        shown = await _shown(uow, tenant_id)
    return JSONResponse(shown, status_code=200 if stage is Stage.ASKED else 202)


@router.delete("", **_WITHDRAWN.arguments())
async def withdraw(config: Config, tenant_id: AdministeredTenant) -> Response:
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
            await early_erasure.save_request(uow.connection, tenant_id, withdrawn)
        shown = await _shown(uow, tenant_id)
    return JSONResponse(shown, status_code=202 if stage is Stage.ASKED else 200)


async def _known(
    uow: UnitOfWork[Context], tenant_id: UUID
) -> tuple[Stage, PurgeState | None, ErasureRequest | None]:
    """Say where a tenant's erasure stands, by what purger said and what was asked for here.

    Whoever decides by it has locked the tenant, so that who asks twice at once asks once.
    """
    said = await early_erasure.purges(uow.connection, tenant_id)
    own = await early_erasure.request(uow.connection, tenant_id)
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset[DataClass]())
    known = said or erased or await tenants.tenant(uow.connection, tenant_id)
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
