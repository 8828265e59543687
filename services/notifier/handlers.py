"""What notifier does about the messages it hears."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from chassis.database import Connection
from chassis.epochs import behind_since
from chassis.erasure import ErasureOrder, accept_erasure
from chassis.handlers import Handlers
from chassis.unit_of_work import UnitOfWork
from connect.service_desk import plain_number
from contracts.classes import DataClass
from contracts.ledger import EntryKind, LedgerEntry, ReceiptStage
from contracts.purges import PurgeReminder, PurgeStarted, PurgeState
from contracts.tenants import TenantState, TenantStatus
from services.notifier.context import Context
from services.notifier.domain.lifecycle import (
    Notice,
    may_have_been_told,
    news_of,
    reminder,
    withdrawn,
)
from services.notifier.domain.people import Tenant
from services.notifier.domain.receipts import ERASE_CONTACTS, Receipt
from services.notifier.domain.tickets import licences_may_be_kept, who_erases_tickets
from services.notifier.store import (
    contacts,
    deliveries,
    lifecycle,
    people,
    receipt_addresses,
    tickets,
)

ERASE_TICKETS = "erase-notifier"
"""The step of wave 1; tickets lie in Jira Service Management, none are stored here."""

_MAILS: Final = "it writes to people"

handlers: Handlers[Context] = Handlers("notifier")


@handlers.follows(TenantState, writes=DataClass.CONTACTS)
async def remember_tenant(tenant: TenantState, uow: UnitOfWork[Context]) -> None:
    """Know whether people of the tenant may be kept, of which app they are, by which licences."""
    await people.remember_tenant(
        uow.connection,
        Tenant(tenant.tenant_id, tenant.addon_key, tenant.classes[DataClass.CONTACTS]),
    )
    await lifecycle.remember_life(
        uow.connection,
        tenant.tenant_id,
        installed=tenant.status is TenantStatus.INSTALLED,
        platform=tenant.platform,
        created_at=tenant.created_at,
    )
    if licences_may_be_kept(tenant.classes):
        numbers = sorted({plain_number(number) for number in tenant.licence_numbers})
        if await tickets.remember_licences(uow.connection, tenant.tenant_id, numbers) and numbers:
            await contacts.note_licences_changed(uow.connection, tenant.tenant_id, now=uow.now)


@handlers.forgets(TenantState)
async def forget_tenant(tenant_id: UUID, uow: UnitOfWork[Context]) -> None:
    """Drop what was known of a tenant of which nothing is left anywhere."""
    await people.forget_tenant(uow.connection, tenant_id)
    await lifecycle.forget_life(uow.connection, tenant_id)


@handlers.follows(PurgeState, writes=DataClass.CONTACTS, once=_MAILS)
async def tell_of_purges(state: PurgeState, uow: UnitOfWork[Context]) -> None:
    """Tell people of holds, wishes and cancelled purges that they have not been told of."""
    await lifecycle.note_withdrawn(uow.connection, state.tenant_id, withdrawn(state))
    told = await lifecycle.told_to(uow.connection, state.tenant_id)
    for notice in news_of(state, told, now=uow.now):
        await _tell(uow, state.tenant_id, notice)


@handlers.forgets(PurgeState)
async def forget_purges(tenant_id: UUID, uow: UnitOfWork[Context]) -> None:
    """Drop what people were told: nothing stands any more, or they are gone."""
    await lifecycle.forget_life(uow.connection, tenant_id)


@handlers.obeys(PurgeReminder, once=_MAILS, nothing_waits=True)
async def remind_people(command: PurgeReminder, uow: UnitOfWork[Context]) -> None:
    """Remind a tenant's people of a purge that will start, unless it was withdrawn meanwhile."""
    tenant_id = command.tenant_id
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
    notice = reminder(command, now=uow.now)
    if (
        notice is None
        or DataClass.CONTACTS in erased
        or await lifecycle.is_withdrawn(uow.connection, tenant_id, command.purge_id)
    ):
        return
    await _tell(uow, tenant_id, notice)


@handlers.obeys(PurgeStarted, once=_MAILS)
async def erase_people(command: PurgeStarted, uow: UnitOfWork[Context]) -> None:
    """Set the guard and queue the erasure; tickets are erased at their desk first.

    Contacts are told first, or moved, then forgotten.
    """
    await accept_erasure(uow, ErasureOrder.of(command))
    if DataClass.TICKETS in command.classes:
        await _open_ticket_erasure(
            uow, command.purge_id, command.step, command.tenant_id, command.merged_into
        )
    if DataClass.CONTACTS in command.classes:
        await _plan_farewell(
            uow, command.purge_id, command.step, command.tenant_id, command.merged_into
        )


async def note_ledger_entry(entry: LedgerEntry, uow: UnitOfWork[Context]) -> None:
    """Keep what a receipt says; plan its mails, as the command for them may come later, or never.

    The ledger's reader has accepted the erasure itself in this transaction.
    """
    if entry.kind is EntryKind.TENANT_ERASED and DataClass.TICKETS in entry.classes:
        assert entry.tenant_id is not None
        await _open_ticket_erasure(
            uow, entry.purge_id, ERASE_TICKETS, entry.tenant_id, entry.merged_into
        )
    if entry.kind is EntryKind.TENANT_ERASED and DataClass.CONTACTS in entry.classes:
        assert entry.tenant_id is not None
        await _plan_farewell(
            uow, entry.purge_id, ERASE_CONTACTS, entry.tenant_id, entry.merged_into
        )
    if entry.receipt is not None and entry.receipt.stage is ReceiptStage.ERASED:
        receipt = Receipt(entry.receipt.receipt_code, entry.receipt.steps)
        await deliveries.keep_receipt(uow.connection, entry.purge_id, receipt, now=uow.now)


async def _tell(uow: UnitOfWork[Context], tenant_id: UUID, notice: Notice) -> None:
    restored_at = await lifecycle.doubted_until(uow.connection)
    await lifecycle.tell(
        uow.connection,
        tenant_id,
        notice,
        now=uow.now,
        wall=uow.wall,
        doubtful=may_have_been_told(notice.since, restored_at=restored_at, now=uow.now),
    )


async def _plan_farewell(
    uow: UnitOfWork[Context],
    purge_id: UUID,
    step: str,
    tenant_id: UUID,
    merged_into: UUID | None,
) -> None:
    """Plan one mail for each contact and whom an administrator named, or a move to who goes on, unless the erasure has begun.

    Command and ledger bring the same order, and purger may repeat it. Once
    the erasure has begun, deliveries may be gone that a contact is still there
    for, and planning anew would be a second mail.
    """
    if not await deliveries.erasure_is_untouched(uow.connection, purge_id, step):
        return
    if merged_into is not None:
        await people.note_move(uow.connection, purge_id, tenant_id, merged_into, now=uow.now)
        return
    await receipt_addresses.let_them_be_told(uow.connection, tenant_id, now=uow.now)
    await deliveries.plan_receipts(
        uow.connection,
        purge_id,
        tenant_id,
        now=uow.now,
        wall=uow.wall,
        # What the ledger orders now may have been ordered, and mailed, before the restore.
        doubtful=await behind_since(uow.connection) is not None,
    )


async def _open_ticket_erasure(
    uow: UnitOfWork[Context],
    purge_id: UUID,
    step: str,
    tenant_id: UUID,
    merged_into: UUID | None,
) -> None:
    """Note, once, that the tenant's tickets are to be erased, which its erasure waits for.

    Once the erasure has begun, the licence numbers may be gone, and nothing
    can be learnt of them any more.
    """
    if not await deliveries.erasure_is_untouched(uow.connection, purge_id, step):
        return
    who = who_erases_tickets(
        await tickets.licence_numbers(uow.connection, tenant_id),
        has_desk=uow.context.has_desk,
        goes_on=merged_into is not None,
    )
    if who is not None:
        await tickets.open_ticket_erasure(
            uow.connection, purge_id, tenant_id, who, now=uow.now, wall=uow.wall
        )


async def ready_to_erase(
    connection: Connection, orders: Sequence[ErasureOrder]
) -> set[tuple[UUID, str]]:
    """Say which erasures may begin.

    Those of contacts whose people are told or moved, or will never be; those of
    tickets when none is left at the desk.
    """
    purges = {order.purge_id for order in orders}
    untold = await deliveries.purges_with_open_deliveries(connection, purges)
    waiting = {
        ERASE_CONTACTS: untold | await people.purges_with_open_moves(connection, purges),
        ERASE_TICKETS: await tickets.purges_with_open_tickets(connection, purges),
    }
    return {
        (order.purge_id, order.step)
        for order in orders
        if order.purge_id not in waiting.get(order.step, ())
    }


async def attested_by_a_person(
    connection: Connection, orders: Sequence[ErasureOrder]
) -> set[tuple[UUID, str]]:
    """Say for which erasures of tickets a person gave their word; who it was stays here."""
    purges = {order.purge_id for order in orders if order.step == ERASE_TICKETS}
    return {
        (purge_id, ERASE_TICKETS) for purge_id in await tickets.attested_purges(connection, purges)
    }
