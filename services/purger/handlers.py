"""What purger does about the messages it hears."""

from typing import assert_never
from uuid import UUID

import structlog

from chassis.handlers import Handlers
from contracts.purges import DataErased, Phase, PurgeAccepted, PurgeRefused
from contracts.tenants import TenantState
from services.purger import store
from services.purger.context import Context, Work
from services.purger.domain import (
    Schedule,
    Withdraw,
    adopt_purge,
    compare_plans,
    plan_purges,
    steps_of,
)
from services.purger.progress import advance, begin_erasing, say_purges

log = structlog.get_logger(__name__)

handlers: Handlers[Context] = Handlers("purger")

_BEFORE_NO_RETURN = frozenset({Phase.PLANNED, Phase.REQUESTED, Phase.WITHDRAWN})
_UNDER_WAY = frozenset({Phase.ERASING, Phase.ERASED})


@handlers.follows(TenantState)
async def replan_purges(tenant: TenantState, uow: Work) -> None:
    """Make a tenant's planned purges agree with its present state."""
    if not await store.save_tenant(uow.connection, tenant):
        return
    retention = uow.context.retention
    planned = await store.lock_plans(uow.connection, tenant.tenant_id)
    decisions = [
        *compare_plans(planned, plan_purges(tenant, retention), tenant),
        *adopt_purge(planned, tenant, retention),
    ]
    for decision in decisions:
        match decision:
            case Schedule(plan):
                await store.schedule_purge(uow.connection, tenant.tenant_id, plan, now=uow.now)
            case Withdraw(purge_id):
                await store.withdraw_purge(uow.connection, purge_id, now=uow.now)
            case other:
                assert_never(other)
    if decisions:
        await say_purges(uow, [tenant.tenant_id])


@handlers.forgets(TenantState)
async def forget_tenant(tenant_id: UUID, uow: Work) -> None:
    """Drop a tenant of whom the installer has nothing left; what is under way goes on."""
    planned = await store.lock_plans(uow.connection, tenant_id)
    for plan in planned:
        await store.withdraw_purge(uow.connection, plan.purge_id, now=uow.now)
    await store.forget_tenant(uow.connection, tenant_id)
    if planned:
        await say_purges(uow, [tenant_id])


@handlers.hears(PurgeAccepted)
async def start_erasing(accepted: PurgeAccepted, uow: Work) -> None:
    """Begin wave 1, whatever we planned meanwhile: the installer's word is final."""
    purge = await store.lock_purge(uow.connection, accepted.purge_id)
    if purge is None:
        # The tenant's state names this purge too, and there it is taken up and asked for again.
        log.warning("unknown purge was accepted", purge_id=str(accepted.purge_id))
        return
    if purge.plan.phase not in _BEFORE_NO_RETURN:
        return
    await begin_erasing(uow, purge)
    await say_purges(uow, [purge.tenant_id])


@handlers.hears(PurgeRefused)
async def postpone_purge(refused: PurgeRefused, uow: Work) -> None:
    """Put the purge back among the planned ones: a newer state of the tenant decides about it."""
    purge = await store.lock_purge(uow.connection, refused.purge_id)
    if purge is None or purge.plan.phase is not Phase.REQUESTED:
        return
    await store.postpone_purge(
        uow.connection,
        refused.purge_id,
        now=uow.now,
        until=uow.now + uow.context.silence,
    )
    log.info("purge refused", purge_id=str(refused.purge_id), reason=refused.reason)
    await say_purges(uow, [purge.tenant_id])


@handlers.hears(DataErased)
async def record_answer(answer: DataErased, uow: Work) -> None:
    """Keep an owner's answer and do what can be done now: a receipt, wave 2, the end."""
    purge = await store.lock_purge(uow.connection, answer.purge_id)
    if purge is None or purge.plan.phase not in _UNDER_WAY:
        return
    owners = {step.step: step.owner for step in steps_of(purge.plan.scope)}
    if owners.get(answer.step) != answer.owner:
        log.error("answer from a stranger", purge_id=str(answer.purge_id), step=answer.step)
        return
    if answer.remaining:
        log.error(
            "data remains after an erasure",
            purge_id=str(answer.purge_id),
            step=answer.step,
            remaining=answer.remaining,
        )
        return
    is_new = await store.record_answer(
        uow.connection,
        answer.purge_id,
        answer.step,
        counts=answer.counts,
        data_map_hash=answer.data_map_hash,
        erased_at=answer.erased_at,
        by=answer.by,
    )
    if is_new and await advance(uow, answer.purge_id):
        await say_purges(uow, [purge.tenant_id])
