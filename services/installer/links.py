"""Links an imported site's old tenant to the new one, by the word of a person and no other way."""

from typing import Any
from uuid import UUID

import structlog

from chassis.unit_of_work import UnitOfWork, Units
from services.installer.domain import links as domain
from services.installer.domain.links import Refusal, Side
from services.installer.domain.timelines import Entry
from services.installer.door import lock_living, merge, until_undisturbed
from services.installer.store import links as store
from services.installer.store import tenants as store_of_tenants
from services.installer.store import timelines
from services.installer.store.links import Link
from services.installer.subscriptions import renew_subscriptions

log = structlog.get_logger(__name__)


async def why_not_link(units: Units[Any], old_id: UUID, new_id: UUID) -> Refusal | None:
    """Say what forbids a link now, and change nothing; None where nothing does."""

    async def story() -> Refusal | None:
        async with units.begin() as uow:
            sides = await _lock_sides(uow, old_id, new_id)
            return await _why_not(uow, sides.get(old_id), sides.get(new_id))

    return await until_undisturbed(story)


async def link_tenants(
    units: Units[Any], old_id: UUID, new_id: UUID, *, by: str, reason: str
) -> Refusal | None:
    """Let ``new_id`` go on for ``old_id``, and write down who said so; None where that is done.

    The old one's purge is due at once, and what is the customer's moves instead
    of being erased. Until it begins, an install of the old one undoes the link.
    """

    async def story() -> Refusal | None:
        async with units.begin() as uow:
            sides = await _lock_sides(uow, old_id, new_id)
            refusal = await _why_not(uow, sides.get(old_id), sides.get(new_id))
            if refusal is None:
                await merge(uow, sides[old_id].tenant, new_id)
                await store.add_link(uow.connection, Link(new_id, old_id, uow.now, by, reason))
                await timelines.add_entry(uow.connection, new_id, Entry.LINKED, now=uow.now)
                await renew_subscriptions(uow, [new_id])
            return refusal

    return await until_undisturbed(story)


async def _lock_sides(uow: UnitOfWork[Any], *tenant_ids: UUID) -> dict[UUID, Side]:
    """Lock those who live of these tenants, in the order in which everybody locks several."""
    await uow.lock_tenants(tenant_ids)
    sides = {}
    for tenant_id in sorted(set(tenant_ids)):
        tenant = await lock_living(uow, tenant_id)
        if tenant is None:
            continue
        stored = await store_of_tenants.installation_of(uow.connection, tenant_id)
        sides[tenant_id] = (
            Side(tenant, stored.installation, stored.present)
            if stored is not None
            else Side(tenant, None, present=False)
        )
    return sides


async def _why_not(uow: UnitOfWork[Any], old: Side | None, new: Side | None) -> Refusal | None:
    awaits = old is not None and await store.awaits_data(uow.connection, old.tenant.tenant_id)
    return domain.why_not_link(old, new, awaits_data=awaits)
