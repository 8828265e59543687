"""How a person's request is received, looked up and answered, over all tenants."""

from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.identifiers import uuid7
from chassis.keys import KeyDestroyed, TenantKeys, Undecipherable
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from services.notifier.data_map import DATA_MAP
from services.notifier.domain.people import (
    ADDRESS,
    ADDRESS_INDEX,
    NAME,
    Access,
    Language,
    access_to_contacts,
    one_form,
)
from services.notifier.domain.requests import (
    MOST_A_DAY,
    MOST_AN_HOUR,
    Card,
    Export,
    Kept,
    PersonRequest,
    Place,
    RequestKind,
    Store,
    due_on,
)
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason
from services.notifier.store import contacts, people, receipt_addresses, suppressions
from services.notifier.store import requests as store


class TooManyRequests(Exception):  # noqa: N818 - reads as the fact it states
    """So many requests came within an hour that no more are taken for now."""


def index_of(keys: TenantKeys, address: str) -> bytes:
    """The keyed hash by which an address is found in every tenant."""
    return keys.blind_index(ADDRESS_INDEX, one_form(address))


async def receive(
    uow: UnitOfWork[Any], address_index: bytes, kind: RequestKind
) -> PersonRequest | None:
    """Record a request of whoever says that the address is theirs; raises ``TooManyRequests``.

    None where that address was mailed enough links today: the earlier ones answer it too.
    """
    await suppressions.lock(uow, [address_index])
    hour, day = uow.now - timedelta(hours=1), uow.now - timedelta(days=1)
    if await store.received_since(uow.connection, hour) >= MOST_AN_HOUR:
        raise TooManyRequests
    if await store.received_since(uow.connection, day, address_index) >= MOST_A_DAY:
        return None
    return await _record(uow, address_index, kind, by_staff=False)


async def note(
    uow: UnitOfWork[Any], address_index: bytes, kind: RequestKind, *, received_on: date | None
) -> PersonRequest:
    """Record a request that came another way, which our staff have to answer."""
    return await _record(uow, address_index, kind, by_staff=True, received_on=received_on)


async def _record(
    uow: UnitOfWork[Any],
    address_index: bytes,
    kind: RequestKind,
    *,
    by_staff: bool,
    received_on: date | None = None,
) -> PersonRequest:
    request = PersonRequest(
        uuid7(uow.now), kind, address_index, uow.now, due_on(received_on or uow.now)
    )
    await store.add_request(uow.connection, request, by_staff=by_staff)
    return request


async def kept_of(uow: UnitOfWork[Any], keys: TenantKeys, address_index: bytes) -> Kept:
    """Say all that is kept of a person, names and addresses included."""
    kept = await store.kept_of(uow.connection, address_index)
    places = [
        replace(place, card=await _card(uow, keys, place.tenant_id, place.contact_id))
        for place in kept.places
    ]
    return replace(kept, places=tuple(places))


def export(
    kept: Kept,
    reference: str,
    controller: str,
    contact: str,
    data_location: str,
    *,
    now: datetime,
) -> Export:
    """Put together what a person is given who asks for access."""
    return Export(reference, now, controller, contact, data_location, kept, _stores())


def _stores() -> tuple[Store, ...]:
    """The stores that may hold something of a person, as the data map has them."""
    tables = [
        Store(table.name, table.purpose, table.retention)
        for table in DATA_MAP.tables
        if {"address_index", "contact_id"} & set(table.columns)
    ]
    outside = [
        Store(each.name, each.purpose, each.retention)
        for each in DATA_MAP.externals
        if each.data_class is DataClass.CONTACTS
    ]
    return (*tables, *outside)


async def _card(uow: UnitOfWork[Any], keys: TenantKeys, tenant_id: UUID, contact_id: UUID) -> Card:
    await uow.act_for(tenant_id)
    found = await people.sealed_contacts(uow.connection, [(tenant_id, contact_id)])
    try:
        [sealed] = found.values()
        name = await keys.open(uow.connection, tenant_id, NAME, sealed.name)
        address = await keys.open(uow.connection, tenant_id, ADDRESS, sealed.address)
    except (KeyDestroyed, Undecipherable, ValueError):
        return Card(None, None)
    return Card(name.decode(), address.decode())


async def correct(
    uow: UnitOfWork[Any],
    keys: TenantKeys,
    address_index: bytes,
    *,
    name: str | None,
    language: Language | None,
) -> int:
    """Change a person's name and language wherever they are a contact; count the contacts.

    No report changes them again. Contacts that are being erased are left to that.
    """
    places = (await store.kept_of(uow.connection, address_index)).places
    standing = await _standing(uow, places)
    for place in standing:
        tenant_id, contact_id = place.tenant_id, place.contact_id
        await uow.act_for(tenant_id)
        if name is not None:
            sealed = await keys.seal(uow.connection, tenant_id, NAME, name.encode(), now=uow.now)
            await store.correct_name(uow.connection, tenant_id, contact_id, sealed)
        if language is not None:
            await store.correct_language(uow.connection, tenant_id, contact_id, language)
    return len(standing)


async def _standing(uow: UnitOfWork[Any], places: Collection[Place]) -> list[Place]:
    """Keep erasures off, and say which of these places are not being erased."""
    tenants = {place.tenant_id for place in places}
    await uow.lock_tenants(tenants)
    erased = await uow.erased_classes(tenants)
    found = []
    for place in places:
        tenant = await people.tenant(uow.connection, place.tenant_id)
        guarded = erased.get(place.tenant_id, frozenset())
        if access_to_contacts(tenant, guarded) is Access.OPEN:
            found.append(place)
    return found


async def decline_news(uow: UnitOfWork[Any], address_index: bytes) -> bool:
    """Send a person no news any more; False where that is so already."""
    return await suppressions.suppress(
        uow, address_index, scope=ALL_OPTIONAL, reason=Reason.OPTED_OUT
    )


async def forget_person(units: Units[Any], address_index: bytes) -> int:
    """Forget an address in every tenant, and never keep or write to it again; count the contacts.

    The suppression stands before anything is forgotten, so that nothing brings it back meanwhile.
    """
    async with units.begin() as uow:
        await suppressions.suppress(uow, address_index, scope=EVERYTHING, reason=Reason.ERASED)
    forgotten = 0
    async with units.begin() as uow:
        known = await contacts.contacts_with(uow.connection, address_index)
        named = await receipt_addresses.named_with(uow.connection, address_index)
        await uow.lock_tenants({*(tenant_id for tenant_id, _ in known), *named})
        for tenant_id in named:
            await uow.act_for(tenant_id)
            await receipt_addresses.forget_named(uow.connection, tenant_id, address_index)
            await receipt_addresses.drop_who_is_no_contact(uow.connection, tenant_id)
        for tenant_id, contact_id in known:
            await uow.act_for(tenant_id)
            forgotten += await contacts.forget_contacts(uow.connection, tenant_id, [contact_id])
        await store.drop_deliveries(uow.connection, address_index, now=uow.now)
    return forgotten
