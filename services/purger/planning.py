"""Makes the planned purges of a tenant the wanted ones, whatever has changed; all edges share this."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

import structlog

from contracts.classes import DataClass
from contracts.purges import Plan
from contracts.tenants import TenantState
from services.purger.context import Work
from services.purger.domain.dates import Retention
from services.purger.domain.plans import (
    Decision,
    Schedule,
    Withdraw,
    adopt_purge,
    compare_plans,
    held_too_late,
    plan_purges,
)
from services.purger.progress import say_purges
from services.purger.store import holds, purges, states
from services.purger.store import tenants as store_of_tenants

log = structlog.get_logger(__name__)

HELD_TOO_LATE: Final = "a hold was placed after its purge had begun"
"""Why a hold ends that could keep nothing, in the place of a person's reason."""


async def replan(uow: Work, tenants: Sequence[TenantState]) -> set[UUID]:
    """Make tenants' planned purges what their states, wishes and holds mean; say which changed.

    Whoever calls it has locked the tenants, as somebody may decide about them
    meanwhile, and says their purges then. A restored purger may have let a hold
    be placed on what was past the point of no return: it ends when that is heard.
    """
    tenant_ids = [tenant.tenant_id for tenant in tenants]
    planned = await purges.lock_plans_of(uow.connection, tenant_ids)
    wished_and_held = await holds.wished_and_held(uow.connection, tenant_ids)
    changed = set[UUID]()
    for tenant in tenants:
        wished_at, held = wished_and_held[tenant.tenant_id]
        if overtaken := held_too_late(held, tenant):
            await holds.end_holds(
                uow.connection, tenant.tenant_id, overtaken, why=HELD_TOO_LATE, now=uow.now
            )
            log.error(HELD_TOO_LATE, tenant_id=str(tenant.tenant_id))
            held -= overtaken
            changed.add(tenant.tenant_id)
        decisions = _decide(
            tenant, planned[tenant.tenant_id], uow.context.retention, wished_at, held
        )
        for decision in decisions:
            changed.add(tenant.tenant_id)
            await _carry_out(uow, tenant.tenant_id, decision)
    return changed


def _decide(
    tenant: TenantState,
    planned: Sequence[Plan],
    retention: Retention,
    wished_at: datetime | None,
    held: Collection[DataClass],
) -> list[Decision]:
    wanted = plan_purges(tenant, retention, wished_at=wished_at, held=held)
    return [
        *compare_plans(planned, wanted, tenant),
        *adopt_purge(planned, tenant, retention, wished_at=wished_at),
    ]


async def _carry_out(uow: Work, tenant_id: UUID, decision: Decision) -> None:
    match decision:
        case Schedule(plan):
            traceparent = uow.outbox.cause_of(tenant_id).traceparent
            await purges.schedule_purge(
                uow.connection, tenant_id, plan, now=uow.now, traceparent=traceparent
            )
        case Withdraw(purge_id):
            await purges.withdraw_purge(uow.connection, purge_id, now=uow.now)
        case other:
            assert_never(other)


async def replan_and_say(uow: Work, tenant_id: UUID) -> None:
    """Do the same after something was decided about a tenant, and say what stands now.

    Of a tenant that is not known yet nothing is planned: its state will bring that. What stands
    said of it nevertheless, as after a restore, is said anew.
    """
    tenant = await store_of_tenants.tenant(uow.connection, tenant_id)
    if tenant is not None:
        await replan(uow, [tenant])
    if tenant is not None or await states.spoken_of(uow.connection, [tenant_id]):
        await say_purges(uow, [tenant_id])
