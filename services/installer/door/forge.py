"""What Forge's lifecycle events bring about; each may come up to five times."""

from uuid import UUID

import structlog

from chassis.identifiers import uuid7
from chassis.unit_of_work import UnitOfWork, Units
from contracts.tenants import DepartureKind, TenantState
from services.installer.context import Door
from services.installer.domain import tenants as domain
from services.installer.domain.aliases import ForgeInstallation
from services.installer.domain.timelines import Entry
from services.installer.door.transactions import (
    Overtaken,
    leave,
    lock_living,
    note_revival,
    until_undisturbed,
)
from services.installer.store import aliases, timelines
from services.installer.store import tenants as store

log = structlog.get_logger(__name__)


async def hear_forge_installed(
    units: Units[Door], installation: ForgeInstallation, entry: Entry
) -> None:
    """Make an app that Forge calls installed, or upgraded, one tenant on Forge.

    It is the tenant of this installation, else that of its site, revived where
    it had left; else a new one. An id that was uninstalled is never installed
    again, so a call that tells so was late and changes nothing.
    """
    await until_undisturbed(lambda: _hear_installed(units, installation, entry))


async def hear_forge_uninstalled(units: Units[Door], installation: ForgeInstallation) -> None:
    """Note that an installation ended, once; its tenant left where it has no other."""
    await until_undisturbed(lambda: _hear_uninstalled(units, installation))


async def _hear_installed(
    units: Units[Door], installation: ForgeInstallation, entry: Entry
) -> None:
    async with units.begin() as uow:
        tenant_id = await aliases.find_tenant(uow.connection, installation.alias)
        is_known = tenant_id is not None
        if tenant_id is None and installation.site is not None:
            tenant_id = await aliases.find_tenant(uow.connection, installation.site)
        if tenant_id is None:
            await _begin(uow, installation, entry)
            return
        tenant = await lock_living(uow, tenant_id)
        if tenant is None:
            raise Overtaken
        if not is_known:
            await _name(uow, tenant_id, installation)
        elif not await aliases.is_in_use(uow.connection, tenant_id, installation.alias):
            return
        await _note_site(uow, tenant_id, installation)
        is_moved = await _move(uow, tenant)
        if is_moved or not is_known or entry is not Entry.FORGE_INSTALLED:
            await timelines.add_entry(uow.connection, tenant_id, entry, now=uow.now)


async def _begin(uow: UnitOfWork[Door], installation: ForgeInstallation, entry: Entry) -> None:
    tenant = domain.new_forge_tenant(
        uuid7(uow.wall),
        installation.addon_key,
        installation.product_type,
        epoch=await uow.epoch(),
        now=uow.now,
    )
    await store.add_forge_tenant(uow, tenant)
    await _name(uow, tenant.tenant_id, installation)
    await _note_site(uow, tenant.tenant_id, installation)
    await timelines.add_entry(uow.connection, tenant.tenant_id, entry, now=uow.now)


async def _name(uow: UnitOfWork[Door], tenant_id: UUID, installation: ForgeInstallation) -> None:
    if not await aliases.add_alias(uow.connection, tenant_id, installation.alias, now=uow.now):
        raise Overtaken


async def _note_site(
    uow: UnitOfWork[Door], tenant_id: UUID, installation: ForgeInstallation
) -> None:
    site = installation.site
    if site is None or await aliases.add_alias(uow.connection, tenant_id, site, now=uow.now):
        return
    holder_id = await aliases.find_tenant(uow.connection, site)
    if holder_id != tenant_id:
        log.warning("site is another tenant's", tenant_id=tenant_id, other_tenant_id=holder_id)


async def _move(uow: UnitOfWork[Door], tenant: TenantState) -> bool:
    """Say that a tenant is installed on Forge, where that is news."""
    said = domain.move_to_forge(tenant, epoch=await uow.epoch(), now=uow.now)
    if said is None:
        return False
    is_revived = tenant.departure is not None
    await store.record_state(uow, said, "tenant-installed" if is_revived else "tenant-updated")
    await note_revival(uow, tenant)
    if said.platform is not tenant.platform:
        await timelines.add_entry(uow.connection, said.tenant_id, Entry.MOVED_TO_FORGE, now=uow.now)
    return True


async def _hear_uninstalled(units: Units[Door], installation: ForgeInstallation) -> None:
    async with units.begin() as uow:
        tenant_id = await aliases.find_tenant(uow.connection, installation.alias)
        if tenant_id is None:
            return
        tenant = await lock_living(uow, tenant_id)
        if tenant is None:
            raise Overtaken
        if not await aliases.put_out_of_use(uow.connection, tenant_id, installation.alias):
            return
        await timelines.add_entry(uow.connection, tenant_id, Entry.FORGE_UNINSTALLED, now=uow.now)
        if not await aliases.is_on_forge(uow.connection, tenant_id):
            await _hand_back(uow, tenant)


async def _hand_back(uow: UnitOfWork[Door], tenant: TenantState) -> None:
    """Let a tenant leave that has no installation on Forge any more, or be on Connect again.

    Connect may have forgotten to say that it ended there: then its site will
    refuse us, and from now on that counts.
    """
    connection, tenant_id = uow.connection, tenant.tenant_id
    if not await aliases.is_installed_by_any_name(connection, tenant_id):
        await leave(uow, tenant, DepartureKind.UNINSTALLED)
        return
    await store.note_seen(connection, tenant_id, now=uow.now)
    said = domain.move_to_connect(tenant, epoch=await uow.epoch(), now=uow.now)
    if said is not None:
        await store.record_state(uow, said, "tenant-updated")
        await timelines.add_entry(connection, tenant_id, Entry.MOVED_TO_CONNECT, now=uow.now)
