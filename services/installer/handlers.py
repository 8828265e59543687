"""What the installer does about purges: accepts or refuses them, erases, and follows the ledger."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

import structlog

from chassis.erasure import ErasureOrder, accept_erasure
from chassis.handlers import Handlers
from chassis.unit_of_work import UnitOfWork, Units
from contracts.censuses import StatesDoubted
from contracts.classes import DataClass
from contracts.ledger import LedgerEntry
from contracts.purges import PurgeAccepted, PurgeRefused, PurgeRequested, PurgeStarted
from contracts.tenants import Version
from services.installer.domain import tenants as domain
from services.installer.domain.tenants import Accept, AcceptAgain, Refuse
from services.installer.door import Door
from services.installer.store import tenants as store
from services.installer.subscriptions import note_purged_licences

log = structlog.get_logger(__name__)

handlers: Handlers[Door] = Handlers("installer")

_TENANTS_A_PAGE = 500


@handlers.obeys(PurgeRequested)
async def decide_purge(request: PurgeRequested, uow: UnitOfWork[Door]) -> None:
    """Answer wave 0: past this commit a tenant does not come back.

    A reinstall waits for the same row's lock, so one of the two sees the other.
    """
    tenant = await store.lock_tenant(uow.connection, request.tenant_id)
    known = await store.accepted_purge(uow.connection, request.purge_id)
    decision = domain.decide_purge(
        tenant, request, accepted_at=known.accepted_at if known else None, epoch=await uow.epoch()
    )
    match decision:
        case Accept(said):
            await store.record_purge(
                uow.connection, request.purge_id, said.tenant_id, request.classes, now=uow.now
            )
            await store.record_state(uow, said, "tenant-purging")
            _say_accepted(uow, request, said.version, uow.now)
        case AcceptAgain(accepted_at):
            assert tenant is not None
            _say_accepted(uow, request, tenant.version, accepted_at)
        case Refuse(reason):
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
        case other:
            assert_never(other)


@handlers.obeys(PurgeStarted)
async def start_erasure(command: PurgeStarted, uow: UnitOfWork[Door]) -> None:
    """Set the guard and queue the erasure; asked again, look again and answer again."""
    await accept_erasure(uow, ErasureOrder.of(command))
    await _begin_purge(uow, command.tenant_id, command.purge_id, command.classes)


async def follow_ledger(entry: LedgerEntry, uow: UnitOfWork[Door]) -> None:
    """Make states agree with the ledger: what it orders is purging, what it proves is erased.

    The last proof of a tenant's last class leaves a tombstone.
    """
    if entry.tenant_id is not None:
        await _begin_purge(uow, entry.tenant_id, entry.purge_id, entry.classes)
        return
    purge = await store.accepted_purge(uow.connection, entry.purge_id)
    if purge is None or entry.receipt is None:
        return
    tenant = await store.lock_tenant(uow.connection, purge.tenant_id)
    if tenant is None:
        return
    erased = domain.erased_by(entry.receipt, purge.classes)
    said = domain.finish_purge(tenant, erased, epoch=await uow.epoch())
    if said is None:
        return
    if domain.is_gone(said):
        await note_purged_licences(uow, said.tenant_id)
        await store.forget_tenant(uow, said.tenant_id)
        log.info("tenant gone", tenant_id=said.tenant_id, purge_id=entry.purge_id)
    else:
        await store.record_state(uow, said, "tenant-updated")


@handlers.hears(StatesDoubted)
async def restate_doubted(doubted: StatesDoubted, uow: UnitOfWork[Door]) -> None:
    """Say these tenants' states again with newer versions; of who is gone nothing can be said."""
    locked = [await store.lock_tenant(uow.connection, each) for each in sorted(doubted.tenant_ids)]
    epoch = await uow.epoch()
    known = [domain.restated(tenant, epoch=epoch) for tenant in locked if tenant is not None]
    await store.restate_tenants(uow, known)
    log.info("doubted states said again", restated=len(known), unknown=len(locked) - len(known))


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
    uow: UnitOfWork[Door], tenant_id: UUID, purge_id: UUID, classes: Sequence[DataClass]
) -> None:
    """Bring a tenant past the point of no return that a restored database forgot it had passed."""
    tenant = await store.lock_tenant(uow.connection, tenant_id)
    if tenant is None:
        return
    said = domain.begin_purge(tenant, purge_id, classes, epoch=await uow.epoch())
    if said is not None:
        await store.record_purge(uow.connection, purge_id, tenant_id, classes, now=uow.now)
        await store.record_state(uow, said, "tenant-purging")
        log.warning("purge adopted", tenant_id=tenant_id, purge_id=purge_id)


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
