"""Makes the planned purges of a tenant the wanted ones, whatever has changed; all edges share this."""

from typing import assert_never
from uuid import UUID

from contracts.tenants import TenantState
from services.purger import store
from services.purger.context import Work
from services.purger.domain import Schedule, Withdraw, adopt_purge, compare_plans, plan_purges
from services.purger.progress import say_purges


async def replan(uow: Work, tenant: TenantState) -> bool:
    """Make a tenant's planned purges what its state, wishes and holds mean; True if one changed.

    Whoever calls it has locked the tenant, as somebody may decide about it
    meanwhile, and says its purges then.
    """
    retention = uow.context.retention
    planned = await store.lock_plans(uow.connection, tenant.tenant_id)
    wished_at, held = await store.wished_and_held(uow.connection, tenant.tenant_id)
    wanted = plan_purges(tenant, retention, wished_at=wished_at, held=held)
    decisions = [
        *compare_plans(planned, wanted, tenant),
        *adopt_purge(planned, tenant, retention, wished_at=wished_at),
    ]
    for decision in decisions:
        match decision:
            case Schedule(plan):
                await store.schedule_purge(uow.connection, tenant.tenant_id, plan, now=uow.now)
            case Withdraw(purge_id):
                await store.withdraw_purge(uow.connection, purge_id, now=uow.now)
            case other:
                assert_never(other)
    return bool(decisions)


async def replan_and_say(uow: Work, tenant_id: UUID) -> None:
    """Do the same after something was decided about a tenant, and say what stands now.

    Of a tenant that is not known yet nothing is planned: its state will bring that. What stands
    said of it nevertheless, as after a restore, is said anew.
    """
    tenant = await store.tenant(uow.connection, tenant_id)
    if tenant is not None:
        await replan(uow, tenant)
    if tenant is not None or await store.is_spoken_of(uow.connection, tenant_id):
        await say_purges(uow, [tenant_id])
