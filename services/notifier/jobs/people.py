"""Moves people to the tenant that goes on for theirs."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never
from uuid import UUID

import structlog

from chassis.database import Pool
from chassis.jobs import Job
from chassis.keys import KeyDestroyed, Undecipherable
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from services.notifier.context import Context
from services.notifier.domain.people import (
    ADDRESS,
    NAME,
    Access,
    Move,
    access_to_contacts,
    decide_move,
)
from services.notifier.store import contacts, lifecycle, receipt_addresses
from services.notifier.store import people as store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Moves:
    """The job that moves people to the tenant that goes on for theirs."""

    units: Units[Context]
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("move people", timedelta(seconds=1), self.run),)

    async def run(self) -> int:
        """Move all who can move, and give up on those who never will; return how many settled.

        Nobody is written to: to those who move, nothing has ended.
        """
        settled = 0
        for purge_id in await store.open_moves(self.worker):
            async with self.units.begin() as uow:
                settled += await self._settle(uow, purge_id)
        return settled

    async def _settle(self, uow: UnitOfWork[Context], purge_id: UUID) -> bool:
        move = await store.lock_open_move(uow.connection, purge_id)
        if move is None:
            return False
        target = move.merged_into
        await uow.lock_tenants([target])
        erased = (await uow.erased_classes([target])).get(target, frozenset())
        access = access_to_contacts(await store.tenant(uow.connection, target), erased)
        decision = decide_move(access, uow.now - move.noted_at)
        match decision:
            case Move.NOW:
                moved = await _move_people(uow, move)
                log.info("people moved", purge_id=purge_id, people=moved)
            case Move.NEVER:
                if access is Access.GOING:
                    uow.count_suppressed("job", DataClass.CONTACTS)
                log.warning("people not moved but erased", purge_id=purge_id, tenant=access)
            case Move.LATER:
                return False
            case other:
                assert_never(other)
        await store.settle_move(uow.connection, purge_id, moved=decision is Move.NOW)
        return True


async def _move_people(uow: UnitOfWork[Context], move: store.OpenMove) -> int:
    """Seal each contact anew under the other tenant's key; one person is kept there once."""
    keys, source, target = uow.context.keys, move.tenant_id, move.merged_into
    await uow.act_for(source)
    people = await store.contacts(uow.connection, source)
    await lifecycle.pass_on_welcome(uow.connection, source, to=target)
    await uow.act_for(target)
    moved = 0
    for sealed, standing in people:
        try:
            name = await keys.open(uow.connection, source, NAME, sealed.name)
            address = await keys.open(uow.connection, source, ADDRESS, sealed.address)
        except (KeyDestroyed, Undecipherable):
            log.error("contact not moved, it cannot be read", purge_id=move.purge_id)  # noqa: TRY400 - its frames say nothing
            continue
        anew = store.SealedContact(
            sealed.contact_id,
            await keys.seal(uow.connection, target, NAME, name, now=uow.now),
            await keys.seal(uow.connection, target, ADDRESS, address, now=uow.now),
            sealed.corrected,
        )
        await store.add_contact_unless_known(uow.connection, target, anew, standing, now=uow.now)
        moved += 1
    await contacts.move_stands(uow.connection, source, target)
    await _move_receipt_address(uow, source, target)
    return moved


async def _move_receipt_address(uow: UnitOfWork[Context], source: UUID, target: UUID) -> None:
    """Let who is named to get receipts get those of the other tenant, where nobody is named there."""
    keys, named = uow.context.keys, await receipt_addresses.named(uow.connection, source)
    if named is None or named.contact_id is None or named.address_index is None:
        return
    if await receipt_addresses.named(uow.connection, target) is not None:
        return
    await uow.act_for(source)
    sealed = await store.sealed_contacts(uow.connection, [(source, named.contact_id)])
    try:
        [found] = sealed.values()
        name = await keys.open(uow.connection, source, NAME, found.name)
        address = await keys.open(uow.connection, source, ADDRESS, found.address)
    except (KeyDestroyed, Undecipherable, ValueError):
        return
    await uow.act_for(target)
    contact_id = await receipt_addresses.seal_in(
        uow.connection,
        target,
        named.contact_id,
        name=await keys.seal(uow.connection, target, NAME, name, now=uow.now),
        address=await keys.seal(uow.connection, target, ADDRESS, address, now=uow.now),
        address_index=named.address_index,
    )
    await receipt_addresses.may_change(
        uow.connection, target, now=uow.now, counted_since=uow.now, most=1
    )
    await receipt_addresses.note_named(
        uow.connection, target, replace(named, contact_id=contact_id)
    )
