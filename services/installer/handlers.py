"""What the installer does about purges: accepts or refuses them, erases, and follows the ledger."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

import structlog

from chassis.erasure import ErasureOrder, accept_erasures
from chassis.handlers import Handlers, together
from chassis.unit_of_work import UnitOfWork, Units
from contracts.access import AccessGranted, AccessRevoked, CustomerDataAccessed
from contracts.censuses import StatesDoubted
from contracts.classes import DataClass
from contracts.ledger import LedgerEntry
from contracts.purges import PurgeAccepted, PurgeRefused, PurgeRequested, PurgeStarted
from contracts.tenants import ClassState, TenantState, Version
from services.installer.domain import tenants as domain
from services.installer.domain.tenants import Accept, AcceptAgain, Refuse
from services.installer.domain.timelines import Entry
from services.installer.door import Door
from services.installer.store import tenants as store
from services.installer.store import timelines
from services.installer.store.tenants import AcceptedPurge
from services.installer.subscriptions import note_purged_licences

log = structlog.get_logger(__name__)

handlers: Handlers[Door] = Handlers("installer")

_TENANTS_A_PAGE = 500


@handlers.obeys(PurgeRequested)
@together
async def decide_purge(requests: Sequence[PurgeRequested], uow: UnitOfWork[Door]) -> None:
    """Answer wave 0: past this commit a tenant does not come back.

    A reinstall waits for the same row's lock, so one of the two sees the other.
    """
    tenants = await store.lock_tenants(uow.connection, {each.tenant_id for each in requests})
    known = await store.accepted_purges(uow.connection, {each.purge_id for each in requests})
    epoch = await uow.epoch()
    for request in requests:
        accepted = known.get(request.purge_id)
        tenant = tenants.get(request.tenant_id)
        decision = domain.decide_purge(
            tenant, request, accepted_at=accepted.accepted_at if accepted else None, epoch=epoch
        )
        match decision:
            case Accept(said):
                await store.record_purge(
                    uow.connection, request.purge_id, said.tenant_id, request.classes, now=uow.now
                )
                await store.record_state(uow, said, "tenant-purging")
                tenants[said.tenant_id] = said
                known[request.purge_id] = AcceptedPurge(said.tenant_id, request.classes, uow.now)
                _say_accepted(uow, request, said.version, uow.now)
            case AcceptAgain(accepted_at):
                assert tenant is not None
                _say_accepted(uow, request, tenant.version, accepted_at)
            case Refuse(reason):
                _say_refused(uow, request, tenant, reason)
            case other:
                assert_never(other)


@handlers.obeys(PurgeStarted)
@together
async def start_erasure(commands: Sequence[PurgeStarted], uow: UnitOfWork[Door]) -> None:
    """Set the guards and queue the erasures; asked again, look again and answer again."""
    await accept_erasures(uow, [ErasureOrder.of(command) for command in commands])
    tenants = await store.lock_tenants(uow.connection, {command.tenant_id for command in commands})
    for command in commands:
        await _begin_purge(uow, tenants, command.tenant_id, command.purge_id, command.classes)


@together
async def follow_ledger(entries: Sequence[LedgerEntry], uow: UnitOfWork[Door]) -> None:
    """Make states agree with the ledger: what it orders is purging, what it proves is erased.

    The last proof of a tenant's last class leaves a tombstone.
    """
    purges = await store.accepted_purges(uow.connection, {entry.purge_id for entry in entries})
    named = {entry.tenant_id for entry in entries if entry.tenant_id is not None}
    tenants = await store.lock_tenants(
        uow.connection, named | {purge.tenant_id for purge in purges.values()}
    )
    for entry in entries:
        if entry.tenant_id is not None:
            if await _begin_purge(uow, tenants, entry.tenant_id, entry.purge_id, entry.classes):
                purges |= await store.accepted_purges(uow.connection, {entry.purge_id})
        elif entry.receipt is not None and entry.purge_id in purges:
            await _finish_purge(uow, tenants, purges[entry.purge_id], entry)


async def _finish_purge(
    uow: UnitOfWork[Door],
    tenants: dict[UUID, TenantState],
    purge: AcceptedPurge,
    entry: LedgerEntry,
) -> None:
    tenant = tenants.get(purge.tenant_id)
    assert entry.receipt is not None
    if tenant is None:
        return
    erased = domain.erased_by(entry.receipt, purge.classes)
    said = domain.finish_purge(tenant, erased, epoch=await uow.epoch())
    if said is None:
        return
    if domain.is_gone(said):
        del tenants[said.tenant_id]
        await note_purged_licences(uow, said.tenant_id)
        await store.forget_tenant(uow, said.tenant_id)
        log.info("tenant gone", tenant_id=said.tenant_id, purge_id=entry.purge_id)
    else:
        tenants[said.tenant_id] = said
        await store.record_state(uow, said, "tenant-updated")


@handlers.hears(StatesDoubted)
async def restate_doubted(doubted: StatesDoubted, uow: UnitOfWork[Door]) -> None:
    """Say these tenants' states again; of who is gone nothing can be said."""
    known = await restate_some(uow, doubted.tenant_ids)
    unknown = len(set(doubted.tenant_ids) - known)
    log.info("doubted states said again", restated=len(known), unknown=unknown)


@handlers.hears(AccessGranted, writes=DataClass.INSTALLATION)
async def note_grant(granted: AccessGranted, uow: UnitOfWork[Door]) -> None:
    """Let a tenant's timeline tell that staff may look at what the customer keeps."""
    await _note(uow, granted.tenant_id, Entry.STAFF_ACCESS_GRANTED)


@handlers.hears(AccessRevoked, writes=DataClass.INSTALLATION)
async def note_revocation(revoked: AccessRevoked, uow: UnitOfWork[Door]) -> None:
    """Let it tell that they no longer may."""
    await _note(uow, revoked.tenant_id, Entry.STAFF_ACCESS_REVOKED)


@handlers.hears(CustomerDataAccessed, writes=DataClass.INSTALLATION)
async def note_look(accessed: CustomerDataAccessed, uow: UnitOfWork[Door]) -> None:
    """Let it tell that they did."""
    await _note(uow, accessed.tenant_id, Entry.STAFF_LOOKED)


async def _note(uow: UnitOfWork[Door], tenant_id: UUID, entry: Entry) -> None:
    if await store.lock_tenants(uow.connection, {tenant_id}):
        await timelines.add_entry(uow.connection, tenant_id, entry, now=uow.now)


async def restate_some(uow: UnitOfWork[Any], tenant_ids: Collection[UUID]) -> set[UUID]:
    """Say these tenants' states again with newer versions; return those that are known."""
    locked = await store.lock_tenants(uow.connection, tenant_ids)
    epoch = await uow.epoch()
    known = [domain.restated(tenant, epoch=epoch) for tenant in locked.values()]
    await store.restate_tenants(uow, known)
    return {tenant.tenant_id for tenant in known}


async def restate(units: Units[Any]) -> None:
    """Say every tenant's state again with a newer version, a page in a transaction."""
    after: UUID | None = None
    while True:
        async with units.begin() as uow:
            tenants = await store.lock_page(uow.connection, after=after, limit=_TENANTS_A_PAGE)
            if not tenants:
                return
            epoch = await uow.epoch()
            await store.restate_tenants(
                uow, [domain.restated(tenant, epoch=epoch) for tenant in tenants]
            )
        after = tenants[-1].tenant_id


async def _begin_purge(
    uow: UnitOfWork[Door],
    tenants: dict[UUID, TenantState],
    tenant_id: UUID,
    purge_id: UUID,
    classes: Sequence[DataClass],
) -> bool:
    """Bring a tenant past the point of no return that a restored database forgot it had passed.

    ``tenants`` are those that are locked, and are kept as they are then.
    """
    tenant = tenants.get(tenant_id)
    if tenant is None or all(tenant.classes[each] is not ClassState.LIVE for each in classes):
        return False
    said = domain.begin_purge(tenant, purge_id, classes, epoch=await uow.epoch())
    assert said is not None
    tenants[tenant_id] = said
    await store.record_purge(uow.connection, purge_id, tenant_id, classes, now=uow.now)
    await store.record_state(uow, said, "tenant-purging")
    log.warning("purge adopted", tenant_id=tenant_id, purge_id=purge_id)
    return True


def _say_refused(
    uow: UnitOfWork[Door], request: PurgeRequested, tenant: TenantState | None, reason: str
) -> None:
    uow.outbox.add(
        PurgeRefused(
            purge_id=request.purge_id,
            step=request.step,
            tenant_id=request.tenant_id,
            tenant_version=tenant.version if tenant else request.tenant_version,
            reason=reason,
            refused_at=uow.now,
        )
    )
    log.info("purge refused", purge_id=request.purge_id, reason=reason)


def _say_accepted(
    uow: UnitOfWork[Door], request: PurgeRequested, version: Version, accepted_at: datetime
) -> None:
    uow.outbox.add(
        PurgeAccepted(
            purge_id=request.purge_id,
            step=request.step,
            tenant_id=request.tenant_id,
            tenant_version=version,
            accepted_at=accepted_at,
        )
    )
