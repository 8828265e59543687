"""What Connect's lifecycle calls bring about."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from chassis.identifiers import uuid7
from chassis.outbox import Outbox
from chassis.unit_of_work import UnitOfWork, Units
from contracts.tenants import DepartureKind, Platform, TenantState, TenantStatus
from services.installer.context import SECRET, Door
from services.installer.domain import tenants as domain
from services.installer.domain.aliases import Alias
from services.installer.domain.tenants import Heard, HeardInstalled, Installation
from services.installer.domain.timelines import Entry
from services.installer.door.transactions import (
    Overtaken,
    leave,
    lock_living,
    merge,
    note_revival,
    show_life,
    until_undisturbed,
)
from services.installer.store import aliases, timelines
from services.installer.store import tenants as store
from services.installer.store.tenants import FirstInstall, StoredInstallation
from services.installer.subscriptions import renew_subscriptions

log = structlog.get_logger(__name__)

# Requests that were signed before a rotation are on their way for as long as their tokens live.
_REPLACED_SECRET_LIVES: Final = timedelta(minutes=3)


async def hear_installed(
    units: Units[Door], reported: Installation, *, forge: Alias | None = None
) -> Heard:
    """Make our state what a site says of itself; all of it is committed when this returns.

    An unknown site becomes a tenant in one statement. Only where that finds
    the name, the site or a new epoch in its way, or where the site is on
    Forge too, the story is told at length. ``forge`` is its name there.
    """
    if forge is None and await units.context.firsts.add(
        units, await _first_install(units, reported)
    ):
        return Heard.NEW
    return await until_undisturbed(lambda: _hear_installed(units, reported, forge))


async def hear_uninstalled(units: Units[Door], addon_key: str, client_key: str) -> None:
    """Note that a tenant left, once; one that is unknown or purging has nothing to leave."""
    await until_undisturbed(lambda: _hear_uninstalled(units, addon_key, client_key))


async def hear_switched(units: Units[Door], tenant_id: UUID, entry: Entry) -> None:
    """Note that a tenant's app was enabled or disabled, which is a sign of life besides.

    Of a tenant that left nothing is noted: the calls of an uninstall come in any order.
    """

    async def story() -> None:
        async with units.begin() as uow:
            tenant = await lock_living(uow, tenant_id)
            if tenant is None:
                return
            tenant = await show_life(uow, tenant)
            if tenant.status is TenantStatus.INSTALLED:
                await timelines.add_entry(uow.connection, tenant_id, entry, now=uow.now)

    await until_undisturbed(story)


async def _first_install(units: Units[Door], reported: Installation) -> FirstInstall:
    door = units.context
    if door.epoch is None:
        door.epoch = await store.present_epoch(units.pool)
    now, wall = units.clock.now(), units.clock.wall()
    tenant_id = uuid7(wall)
    state = domain.new_tenant(tenant_id, reported, epoch=door.epoch, now=now)
    key = door.keys.new_wrapped_key(tenant_id)
    outbox = Outbox(units.service, now, wall)
    outbox.add(state, type_name="tenant-installed")
    return FirstInstall(
        state=state,
        installation=reported,
        sealed_secret=door.keys.seal_with(
            key.plain_key, tenant_id, SECRET, reported.shared_secret.encode()
        ),
        wrapped_key=key.wrapped,
        kek_id=key.kek_id,
        said=outbox.rows[0],
    )


async def _hear_installed(units: Units[Door], reported: Installation, forge: Alias | None) -> Heard:
    async with units.begin() as uow:
        units.context.epoch = await uow.epoch()
        tenant = await _lock_named(uow, reported.addon_key, reported.client_key)
        if tenant is None:
            await _add_beside_others(uow, await _first_install(units, reported), forge)
            heard = Heard.NEW
        else:
            heard = await _hear_again(uow, tenant, reported, forge)
    units.wake_relay()
    return heard


async def _add_beside_others(
    uow: UnitOfWork[Door], first: FirstInstall, forge: Alias | None
) -> None:
    added = await store.add_tenants(uow.connection, [first], wall=uow.wall, beside_others=True)
    if not added:
        raise Overtaken
    claim = await _claim(uow, first.state.tenant_id, forge)
    await _supersede_others(uow, first.state.tenant_id, first.installation)
    if claim.of_forge:
        await _go_on_for_it(uow, first.state)


async def _hear_again(
    uow: UnitOfWork[Door], tenant: TenantState, reported: Installation, forge: Alias | None
) -> Heard:
    connection, tenant_id = uow.connection, tenant.tenant_id
    stored = await store.installation_of(connection, tenant_id)
    if stored is None:
        raise Overtaken
    claim = await _claim(uow, tenant_id, forge)
    secret = await uow.context.keys.open(connection, tenant_id, SECRET, stored.sealed_secret)
    heard = domain.hear_installed(
        tenant,
        replace(stored.installation, shared_secret=secret.decode()),
        reported,
        epoch=await uow.epoch(),
        now=uow.now,
        more_names=claim.anew or not stored.present,
        on_forge=await aliases.is_on_forge(connection, tenant_id),
    )
    if heard.changes:
        await _store_change(uow, tenant, stored, heard)
    await store.note_seen(connection, tenant_id, now=uow.now)
    await timelines.add_entry(connection, tenant_id, Entry(heard.heard), now=uow.now)
    present = heard.said or tenant
    if present.platform is not tenant.platform:
        await timelines.add_entry(connection, tenant_id, Entry.MOVED_TO_CONNECT, now=uow.now)
    if claim.of_forge:
        await _go_on_for_it(uow, present)
    return heard.heard


async def _store_change(
    uow: UnitOfWork[Door], tenant: TenantState, stored: StoredInstallation, heard: HeardInstalled
) -> None:
    tenant_id, sealed, replaced_until = tenant.tenant_id, stored.sealed_secret, None
    if Heard.ROTATED in heard.changes:
        replaced_until = uow.wall + _REPLACED_SECRET_LIVES
        plain = heard.installation.shared_secret.encode()
        sealed = await uow.context.keys.seal(uow.connection, tenant_id, SECRET, plain, now=uow.now)
    await store.save_installation(
        uow.connection,
        tenant_id,
        heard.installation,
        sealed,
        replaced_until=replaced_until,
        wall=uow.wall,
    )
    if heard.said is not None:
        revived = Heard.REVIVED in heard.changes
        type_name = "tenant-installed" if revived else "tenant-updated"
        await store.record_state(uow, heard.said, type_name)
        await note_revival(uow, tenant)
    if heard.is_at_a_new_address or not stored.present:
        await _supersede_others(uow, tenant_id, heard.installation)
    log.info("tenant changed", tenant_id=tenant_id, changes=sorted(heard.changes))


@dataclass(frozen=True, slots=True)
class _Claim:
    """Whether a name came into use, and whether Forge had told of who had it until then."""

    anew: bool = False
    of_forge: bool = False


async def _claim(uow: UnitOfWork[Door], tenant_id: UUID, forge: Alias | None) -> _Claim:
    """Give a tenant the name that its own site says it has on Forge, whoever had it until then."""
    if forge is None:
        return _Claim()
    holder_id = await aliases.find_tenant(uow.connection, forge)
    if holder_id == tenant_id:
        return _Claim()
    if holder_id is None:
        if not await aliases.add_alias(uow.connection, tenant_id, forge, now=uow.now):
            raise Overtaken
        return _Claim(anew=True)
    holder = await lock_living(uow, holder_id)
    if holder is None:
        raise Overtaken
    await aliases.move_alias(uow.connection, forge, to=tenant_id)
    await _give_way(uow, holder, tenant_id)
    return _Claim(anew=True, of_forge=holder.platform is Platform.FORGE)


async def _give_way(uow: UnitOfWork[Door], tenant: TenantState, living_id: UUID) -> None:
    """Close a tenant whose name on Forge turned out to be another's, unless it has more.

    What began on Forge keeps no content here, so the other goes on for it at
    once. Of a site that Connect had told us of, content may be here: it leaves
    as after an import, with the time that everybody has to come back.
    """
    connection, tenant_id = uow.connection, tenant.tenant_id
    if await aliases.is_installed_by_any_name(connection, tenant_id):
        return
    if await store.installation_of(connection, tenant_id) is not None:
        await timelines.add_entry(connection, tenant_id, Entry.SUPERSEDED, now=uow.now)
        await leave(uow, tenant, DepartureKind.SUPERSEDED)
        return
    await merge(uow, tenant, living_id)


async def _go_on_for_it(uow: UnitOfWork[Door], tenant: TenantState) -> None:
    """Move a tenant to Forge, of which Forge had told under another one; it may be paid for."""
    said = domain.move_to_forge(tenant, epoch=await uow.epoch(), now=uow.now)
    if said is not None:
        await store.record_state(uow, said, "tenant-updated")
        await timelines.add_entry(uow.connection, said.tenant_id, Entry.MOVED_TO_FORGE, now=uow.now)
    await renew_subscriptions(uow, [tenant.tenant_id])


async def _supersede_others(
    uow: UnitOfWork[Door], tenant_id: UUID, installation: Installation
) -> None:
    """Let those leave whose site this one replaces, as after an import of a site's data.

    Their data is theirs still: nothing is merged, and an install of theirs revives them.
    """
    others = await store.find_other_tenants_at(
        uow.connection, installation.addon_key, installation.base_url, than=tenant_id
    )
    for other_id in others:
        other = await lock_living(uow, other_id)
        if other is not None and await store.put_out_of_use(uow.connection, other_id):
            await timelines.add_entry(uow.connection, other_id, Entry.SUPERSEDED, now=uow.now)
            await leave(uow, other, DepartureKind.SUPERSEDED)


async def _hear_uninstalled(units: Units[Door], addon_key: str, client_key: str) -> None:
    async with units.begin() as uow:
        tenant = await _lock_named(uow, addon_key, client_key)
        if tenant is None or not await store.put_out_of_use(uow.connection, tenant.tenant_id):
            return
        await timelines.add_entry(uow.connection, tenant.tenant_id, Entry.UNINSTALLED, now=uow.now)
        await leave(uow, tenant, DepartureKind.UNINSTALLED)


async def _lock_named(uow: UnitOfWork[Door], addon_key: str, client_key: str) -> TenantState | None:
    """Lock the tenant of a name; None where nobody living has it.

    Raises ``Overtaken`` for one that began to purge meanwhile: the name is free then.
    """
    tenant_id = await store.find_live_tenant(uow.connection, addon_key, client_key)
    if tenant_id is None:
        return None
    tenant = await lock_living(uow, tenant_id)
    if tenant is None:
        raise Overtaken
    return tenant
