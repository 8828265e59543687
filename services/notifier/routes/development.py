"""A way in for contacts, on a laptop only."""

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.service import Running, running
from contracts.classes import DataClass
from services.notifier.context import Context
from services.notifier.domain.people import (
    ADDRESS,
    ADDRESS_INDEX,
    NAME,
    Access,
    ContactInput,
    Language,
    Role,
    access_to_contacts,
    one_form,
)
from services.notifier.store import people as store

# Contacts come from the Marketplace; where there is none, they come by hand.
development = APIRouter(prefix="/development")


@development.post("/contacts", status_code=201)
async def add_contact(request: Request) -> Response:
    """Keep a person of a tenant: 201 with its id, 200 where the address was known."""
    wanted = await _wanted(request)
    notifier: Running[Context] = running(request)
    async with notifier.units.begin() as uow:
        tenant_id, keys = wanted.tenant_id, uow.context.keys
        await uow.lock_tenants([tenant_id])
        erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
        match access_to_contacts(await store.tenant(uow.connection, tenant_id), erased):
            case Access.UNKNOWN:
                raise Problem(404, detail="There is no such tenant, or it has not been heard of.")
            case Access.GOING:
                uow.count_suppressed("route", DataClass.CONTACTS)
                raise Problem(410, detail="The people of this tenant are being erased.")
        await uow.act_for(tenant_id)
        contact = store.SealedContact(
            uuid7(uow.now),
            await keys.seal(uow.connection, tenant_id, NAME, wanted.name.encode(), now=uow.now),
            await keys.seal(
                uow.connection, tenant_id, ADDRESS, wanted.address.encode(), now=uow.now
            ),
        )
        contact_id, is_new = await store.keep_contact(
            uow.connection,
            tenant_id,
            contact,
            store.Standing(
                keys.blind_index(ADDRESS_INDEX, one_form(wanted.address)),
                (Role.TECHNICAL,),
                Language.ENGLISH,
            ),
            now=uow.now,
        )
    return JSONResponse({"contact_id": str(contact_id)}, status_code=201 if is_new else 200)


async def _wanted(request: Request) -> ContactInput:
    try:
        return ContactInput.model_validate_json(await request.body(), strict=True)
    except ValidationError as refused:
        raise RequestValidationError(
            refused.errors(include_url=False, include_context=False, include_input=False)
        ) from None
