"""Whose browser asks, and whether that tenant's people may be kept: for doors of customers' pages."""

from typing import Final
from uuid import UUID

from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from services.notifier.context import Context
from services.notifier.domain.people import Access, access_to_contacts
from services.notifier.store import people

AUDIENCE: Final = "notifier"
"""The ``aud`` of session tokens that are meant for us."""

NOT_KNOWN: Final = "There is no such tenant, or it has not been heard of."


async def is_known(uow: UnitOfWork[Context], tenant_id: UUID, *, writes: bool = False) -> bool:
    """Hold erasures of the tenant off until the end, and say whether it was heard of.

    Raises ``Problem``, 410, where its people are going.
    """
    await uow.lock_tenants([tenant_id])
    erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
    access = access_to_contacts(await people.tenant(uow.connection, tenant_id), erased)
    if access is Access.GOING:
        if writes:
            uow.count_suppressed("route", DataClass.CONTACTS)
        raise Problem(410, detail="What is kept of this tenant is being erased, or is erased.")
    return access is Access.OPEN


async def must_be_known(uow: UnitOfWork[Context], tenant_id: UUID) -> None:
    """Do the same for who writes; raises ``Problem``, 404, where the tenant was not heard of."""
    if not await is_known(uow, tenant_id, writes=True):
        raise Problem(404, detail=NOT_KNOWN)
