"""What every call's transaction stands on: the order of its locks, and what ends or goes on."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import structlog

from chassis.unit_of_work import UnitOfWork, WayIn
from contracts.classes import DataClass
from contracts.tenants import DepartureKind, TenantState, TenantStatus
from services.installer.context import Door
from services.installer.domain import tenants as domain
from services.installer.domain.timelines import Entry
from services.installer.store import aliases, licences, links, timelines
from services.installer.store import tenants as store

log = structlog.get_logger(__name__)

_ATTEMPTS: Final = 5
_LIVING: Final = frozenset({TenantStatus.INSTALLED, TenantStatus.UNINSTALLED})

T = TypeVar("T")


class Overtaken(Exception):  # noqa: N818 - names what is so
    """Another transaction was faster each time; the same call may come again."""


async def until_undisturbed(story: Callable[[], Awaitable[T]]) -> T:
    """Tell a story again that another transaction crossed, a bounded number of times.

    Raises ``Overtaken`` after the last of them.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await story()
        except (Overtaken, asyncpg.TransactionRollbackError):
            continue
    raise Overtaken


async def lock_living(
    uow: UnitOfWork[Door], tenant_id: UUID, *, where: WayIn = "route"
) -> TenantState | None:
    """Lock a tenant in the order lock, guard, row; None for one that is purging, or gone."""
    await uow.lock_tenants([tenant_id])
    erased = await uow.erased_classes([tenant_id])
    tenant = await store.lock_tenant(uow.connection, tenant_id)
    if tenant is None:
        return None
    if tenant.status not in _LIVING or DataClass.INSTALLATION in erased.get(tenant_id, ()):
        uow.count_suppressed(where, DataClass.INSTALLATION)
        return None
    return tenant


async def leave(uow: UnitOfWork[Door], tenant: TenantState, how: DepartureKind) -> None:
    """Let a tenant leave now, unless it is installed by another name.

    Call it under the tenant's lock, after its name was put out of use.
    """
    if await aliases.is_installed_by_any_name(uow.connection, tenant.tenant_id):
        return
    said = domain.leave(tenant, how, epoch=await uow.epoch(), at=uow.now)
    if said is not None:
        await store.record_state(uow, said, "tenant-uninstalled")
        log.info("tenant left", tenant_id=tenant.tenant_id, how=how)


async def merge(uow: UnitOfWork[Door], tenant: TenantState, living_id: UUID) -> None:
    """Let another tenant go on for one: it closes, and its other names and its licences move.

    Call it under the locks of both.
    """
    connection, tenant_id = uow.connection, tenant.tenant_id
    await aliases.move_all_aliases(connection, tenant_id, to=living_id)
    await licences.move_licences(connection, tenant_id, to=living_id)
    said = domain.merge_into(tenant, living_id, epoch=await uow.epoch(), now=uow.now)
    if said is not None:
        await store.record_state(uow, said, "tenant-uninstalled")
        await timelines.add_entry(connection, tenant_id, Entry.MERGED, now=uow.now)
        log.info("tenant merged", tenant_id=tenant_id, merged_into=living_id)


async def note_revival(uow: UnitOfWork[Door], tenant: TenantState) -> None:
    """Undo the link of a tenant that comes back before its purge began; call it under its lock."""
    if tenant.merged_into is not None:
        await links.undo_link(uow.connection, tenant.tenant_id, now=uow.now)
        log.info("link undone", tenant_id=tenant.tenant_id, merged_into=tenant.merged_into)


async def show_life(uow: UnitOfWork[Door], tenant: TenantState) -> TenantState:
    """Note that a tenant's site was heard of; give its state, which may be installed again.

    Call it under the tenant's lock.
    """
    await store.note_seen(uow.connection, tenant.tenant_id, now=uow.now)
    said = domain.show_life(tenant, epoch=await uow.epoch())
    if said is None:
        return tenant
    await store.record_state(uow, said, "tenant-installed")
    await timelines.add_entry(uow.connection, said.tenant_id, Entry.ACCESS_BACK, now=uow.now)
    log.info("tenant has come back", tenant_id=said.tenant_id)
    return said
