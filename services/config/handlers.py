"""What config does about the messages it hears."""

from uuid import UUID

from chassis.erasure import ErasureOrder, accept_erasure
from chassis.handlers import Handlers
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.purges import PurgeStarted, PurgeState
from contracts.tenants import TenantState
from services.config import store
from services.config.context import Context
from services.config.domain import Tenant
from services.config.moves import note_move

handlers: Handlers[Context] = Handlers("config")


@handlers.follows(TenantState, writes=DataClass.CONTENT)
async def remember_tenant(tenant: TenantState, uow: UnitOfWork[Context]) -> None:
    """Know whether the tenant may use what it keeps here."""
    await store.remember_tenant(
        uow.connection,
        Tenant(
            tenant_id=tenant.tenant_id,
            status=tenant.status,
            platform=tenant.platform,
            content=tenant.classes[DataClass.CONTENT],
        ),
    )


@handlers.forgets(TenantState)
async def forget_tenant(tenant_id: UUID, uow: UnitOfWork[Context]) -> None:
    """Drop what was known of a tenant of which nothing is left anywhere."""
    await store.forget_tenant(uow.connection, tenant_id)


@handlers.follows(PurgeState)
async def remember_purges(state: PurgeState, uow: UnitOfWork[Context]) -> None:
    """Know what purger plans, so that the customer can see it and what became of its request."""
    await store.remember_purges(uow.connection, state)
    standing = [wish.wish_id for wish in state.wishes]
    await store.settle_request(uow.connection, state.tenant_id, standing)


@handlers.forgets(PurgeState)
async def forget_purges(tenant_id: UUID, uow: UnitOfWork[Context]) -> None:
    """Drop what was planned for a tenant and asked for by it: it is done, or was never begun."""
    await store.forget_purges(uow.connection, tenant_id)


@handlers.obeys(PurgeStarted)
async def erase_content(command: PurgeStarted, uow: UnitOfWork[Context]) -> None:
    """Set the guard and queue the erasure; asked again, look again and answer again.

    Where another tenant goes on for this one, what is the customer's moves first.
    """
    await accept_erasure(uow, ErasureOrder.of(command))
    if command.merged_into is not None and DataClass.CONTENT in command.classes:
        await note_move(uow, command.purge_id, command.tenant_id, command.merged_into)
