"""Makes the planned purges of a tenant the wanted ones, whatever has changed; all edges share this."""

from typing import assert_never

from contracts.tenants import TenantState
from services.purger import store
from services.purger.context import Work
from services.purger.domain import Schedule, Withdraw, adopt_purge, compare_plans, plan_purges


async def replan(uow: Work, tenant: TenantState) -> bool:
    """Make a tenant's planned purges what its state means; True if one of them changed.

    Whoever calls it has to say them then.
    """
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
    return bool(decisions)
