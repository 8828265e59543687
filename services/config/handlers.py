"""What config does about the messages it hears."""

from collections.abc import Sequence
from uuid import UUID

from chassis.erasure import ErasureOrder, accept_erasures
from chassis.handlers import Handlers, together
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.purges import PurgeStarted, PurgeState
from contracts.tenants import TenantState
from services.config.context import Context
from services.config.domain.access import Tenant
from services.config.error_intake import remember_apps
from services.config.moves import note_move
from services.config.store import early_erasure
from services.config.store import errors as error_store
from services.config.store import tenants as tenants_store

handlers: Handlers[Context] = Handlers("config")


@handlers.follows(TenantState, writes=DataClass.CONTENT)
@together
async def remember_tenants(tenants: Sequence[TenantState], uow: UnitOfWork[Context]) -> None:
    """Know whether the tenants may use what they keep here."""
    await tenants_store.remember_tenants(
        uow.connection,
        [
            Tenant(
                tenant_id=tenant.tenant_id,
                status=tenant.status,
                platform=tenant.platform,
                content=tenant.classes[DataClass.CONTENT],
            )
            for tenant in tenants
        ],
    )
    await remember_apps(uow, {tenant.tenant_id: tenant.addon_key for tenant in tenants})


@handlers.forgets(TenantState)
@together
async def forget_tenants(tenant_ids: Sequence[UUID], uow: UnitOfWork[Context]) -> None:
    """Drop what was known of tenants of which nothing is left anywhere."""
    await tenants_store.forget_tenants(uow.connection, tenant_ids)
    await error_store.forget_apps(uow.connection, tenant_ids)


@handlers.follows(PurgeState)
@together
async def remember_purges(states: Sequence[PurgeState], uow: UnitOfWork[Context]) -> None:
    """Know what purger plans, so that customers can see it and what became of their requests."""
    await early_erasure.remember_purges(uow.connection, states)
    await early_erasure.settle_requests(
        uow.connection,
        [state.tenant_id for state in states],
        [wish.wish_id for state in states for wish in state.wishes],
    )


@handlers.forgets(PurgeState)
@together
async def forget_purges(tenant_ids: Sequence[UUID], uow: UnitOfWork[Context]) -> None:
    """Drop what was planned for tenants and asked for by them: it is done, or was never begun."""
    await early_erasure.forget_purges(uow.connection, tenant_ids)


@handlers.obeys(PurgeStarted)
@together
async def erase_content(commands: Sequence[PurgeStarted], uow: UnitOfWork[Context]) -> None:
    """Set the guards and queue the erasures; asked again, look again and answer again.

    Where another tenant goes on for one, what is the customer's moves first.
    """
    await accept_erasures(uow, [ErasureOrder.of(command) for command in commands])
    for command in commands:
        if command.merged_into is not None and DataClass.CONTENT in command.classes:
            await note_move(uow, command.purge_id, command.tenant_id, command.merged_into)
