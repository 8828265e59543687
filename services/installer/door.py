"""What the installer does about a call that Atlassian signed: one transaction each."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, assert_never
from uuid import UUID

import asyncpg
import structlog

from chassis.identifiers import uuid7
from chassis.keys import TenantKeys
from chassis.outbox import Outbox
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from contracts.tenants import DepartureKind, TenantState, TenantStatus
from services.installer.domain import tenants as domain
from services.installer.domain.tenants import Change, Changed, Installation, Unchanged
from services.installer.first_installs import FirstInstalls
from services.installer.store import tenants as store
from services.installer.store.tenants import FirstInstall

log = structlog.get_logger(__name__)

SECRET: Final = "shared-secret"  # noqa: S105 - what the sealed value is for
_ATTEMPTS: Final = 5


class Overtaken(Exception):  # noqa: N818 - names what is so
    """Another transaction was faster each time; the same call may come again."""


@dataclass(slots=True)
class Door:
    """What calls need besides the database: the tenants' keys, and the way for first installs."""

    keys: TenantKeys
    firsts: FirstInstalls = field(default_factory=FirstInstalls)
    # As last read; the statement that uses it refuses one that is past.
    epoch: int | None = None


async def hear_installed(units: Units[Door], reported: Installation) -> None:
    """Make our state what a site says of itself; all of it is committed when this returns.

    An unknown site becomes a tenant in one statement. Only where that finds
    the name, the site or a new epoch in its way, the story is told at length.
    """
    first = await _first_install(units, reported)
    if await units.context.firsts.add(units, first):
        return
    await _until_undisturbed(lambda: _hear_installed(units, reported))


async def hear_uninstalled(units: Units[Door], addon_key: str, client_key: str) -> None:
    """Note that a tenant left, once; one that is unknown or purging has nothing to leave."""
    await _until_undisturbed(lambda: _hear_uninstalled(units, addon_key, client_key))


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


async def _hear_installed(units: Units[Door], reported: Installation) -> None:
    async with units.begin() as uow:
        epoch = units.context.epoch = await uow.epoch()
        tenant = await _lock_live(uow, reported.addon_key, reported.client_key)
        if tenant is None:
            first = await _first_install(units, reported)
            added = await store.add_tenants(
                uow.connection, [first], wall=uow.wall, beside_others=True
            )
            if not added:
                raise Overtaken
            await _supersede_others(uow, first.state.tenant_id, reported, epoch)
        else:
            await _hear_again(uow, tenant, reported, epoch)
    units.wake_relay()


async def _hear_again(
    uow: UnitOfWork[Door], tenant: TenantState, reported: Installation, epoch: int
) -> None:
    tenant_id, keys = tenant.tenant_id, uow.context.keys
    found = await store.installation_of(uow.connection, tenant_id)
    if found is None:
        raise Overtaken
    stored, sealed = found
    secret = await keys.open(uow.connection, tenant_id, SECRET, sealed)
    stored = replace(stored, shared_secret=secret.decode())
    heard = domain.hear_installed(tenant, stored, reported, epoch=epoch)
    match heard:
        case Unchanged():
            return
        case Changed(changes, installation, said):
            if Change.ROTATED in changes:
                sealed = await keys.seal(
                    uow.connection,
                    tenant_id,
                    SECRET,
                    installation.shared_secret.encode(),
                    now=uow.now,
                )
            await store.save_installation(uow.connection, tenant_id, installation, sealed)
            if said is not None:
                revived = Change.REVIVED in changes
                await store.record_state(
                    uow, said, "tenant-installed" if revived else "tenant-updated"
                )
            if heard.is_at_a_new_address:
                await _supersede_others(uow, tenant_id, installation, epoch)
            log.info("tenant changed", tenant_id=tenant_id, changes=sorted(changes))
        case other:
            assert_never(other)


async def _supersede_others(
    uow: UnitOfWork[Door], tenant_id: UUID, installation: Installation, epoch: int
) -> None:
    """Let those leave whose site this one replaces, as after an import of a site's data.

    Their data is theirs still: nothing is merged, and a call of theirs revives them.
    """
    others = await store.find_other_tenants_at(
        uow.connection, installation.addon_key, installation.base_url, than=tenant_id
    )
    for other_id in others:
        other = await store.lock_tenant(uow.connection, other_id)
        if other is not None:
            await _leave(uow, other, DepartureKind.SUPERSEDED, epoch)


async def _hear_uninstalled(units: Units[Door], addon_key: str, client_key: str) -> None:
    async with units.begin() as uow:
        tenant = await _lock_live(uow, addon_key, client_key)
        if tenant is not None:
            await _leave(uow, tenant, DepartureKind.UNINSTALLED, await uow.epoch())


async def _leave(
    uow: UnitOfWork[Door], tenant: TenantState, how: DepartureKind, epoch: int
) -> None:
    said = domain.leave(tenant, how, epoch=epoch, at=uow.now)
    if said is not None:
        await store.record_state(uow, said, "tenant-uninstalled")
        log.info("tenant left", tenant_id=tenant.tenant_id, how=how)


async def _lock_live(uow: UnitOfWork[Door], addon_key: str, client_key: str) -> TenantState | None:
    """Lock the tenant of a name, in the order lock, guard, row; None where nobody live has it.

    Raises ``Overtaken`` for one that began to purge meanwhile: the name is free then.
    """
    tenant_id = await store.find_live_tenant(uow.connection, addon_key, client_key)
    if tenant_id is None:
        return None
    await uow.lock_tenants([tenant_id])
    erased = await uow.erased_classes([tenant_id])
    tenant = await store.lock_tenant(uow.connection, tenant_id)
    if (
        tenant is None
        or tenant.status not in {TenantStatus.INSTALLED, TenantStatus.UNINSTALLED}
        or DataClass.INSTALLATION in erased.get(tenant_id, ())
    ):
        raise Overtaken
    return tenant


async def _until_undisturbed(story: Callable[[], Awaitable[None]]) -> None:
    """Tell a story again that another transaction crossed, a bounded number of times."""
    for _ in range(_ATTEMPTS):
        try:
            await story()
        except (Overtaken, asyncpg.TransactionRollbackError):
            continue
        return
    raise Overtaken
