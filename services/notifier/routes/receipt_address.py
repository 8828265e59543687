"""Where an administrator of a customer's site names who gets the receipt of its erasure, too."""

from datetime import timedelta
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.service import Running, running
from chassis.sessions import Session, Sessions
from chassis.unit_of_work import UnitOfWork
from services.notifier.context import Context
from services.notifier.domain.people import (
    ADDRESS,
    ADDRESS_INDEX,
    NAME,
    Language,
    is_address,
    one_form,
)
from services.notifier.domain.suppressions import EVERYTHING
from services.notifier.routes.customers import is_known, must_be_known
from services.notifier.store import receipt_addresses as store
from services.notifier.store import suppressions

log = structlog.get_logger(__name__)

PATH: Final = "/receipt-address"

MOST_CHANGES: Final = 10
COUNTED_FOR: Final = timedelta(days=1)


class Wanted(BaseModel):
    """Who is named, and in which language they are written to."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    address: Annotated[str, StringConstraints(max_length=1_000)]
    language: Language

    def __repr__(self) -> str:
        """Name nobody."""
        return f"Wanted(language={self.language!r})"


class ReceiptAddress:
    """The door for sessions; all may see that somebody is named, administrators alone name them."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        for act, method in ((self.show, "GET"), (self.name, "PUT"), (self.withdraw, "DELETE")):
            status = 200 if method == "GET" else 204
            router.add_api_route(
                PATH, act, methods=[method], status_code=status, response_model=None
            )
        return router

    async def show(self, request: Request) -> Response:
        """Say since when somebody is named, and whether this session may name another; never whom."""
        notifier: Running[Context] = running(request)
        session = await self._session_of(request, notifier)
        async with notifier.units.begin() as uow:
            known = await is_known(uow, session.tenant_id)
            named = await store.named(uow.connection, session.tenant_id) if known else None
        return JSONResponse(
            {
                "named_at": None if named is None else named.named_at.isoformat(),
                "administers": session.administers,
            }
        )

    async def name(self, request: Request) -> Response:
        """Name who gets the receipt besides the contacts, in the place of whoever was named before.

        What may not be written to is not kept, and nobody learns it here.
        """
        notifier: Running[Context] = running(request)
        session = await self._administrators(request, notifier)
        wanted = await _wanted(request)
        address = wanted.address.strip()
        if not is_address(address):
            raise Problem(422, detail="That is no address that mail can be sent to.")
        tenant_id = session.tenant_id
        async with notifier.units.begin() as uow:
            await _begin_change(uow, session)
            keys = uow.context.keys
            index = keys.blind_index(ADDRESS_INDEX, one_form(address))
            # So that nobody asks to be forgotten between our look and our note.
            await suppressions.lock(uow, [index])
            standing = await suppressions.suppressions_of(uow.connection, index)
            await uow.act_for(tenant_id)
            contact_id = None
            if not any(scope == EVERYTHING for scope, _ in standing):
                contact_id = await store.seal_in(
                    uow.connection,
                    tenant_id,
                    uuid7(uow.now),
                    name=await keys.seal(uow.connection, tenant_id, NAME, b"", now=uow.now),
                    address=await keys.seal(
                        uow.connection, tenant_id, ADDRESS, address.encode(), now=uow.now
                    ),
                    address_index=index,
                )
            named = store.Named(uow.now, contact_id, index if contact_id else None, wanted.language)
            await store.note_named(uow.connection, tenant_id, named)
            await store.drop_who_is_no_contact(uow.connection, tenant_id)
        log.info("receipt address named", tenant_id=tenant_id)
        return Response(status_code=204)

    async def withdraw(self, request: Request) -> Response:
        """Forget who is named: 204, also where nobody is."""
        notifier: Running[Context] = running(request)
        session = await self._administrators(request, notifier)
        async with notifier.units.begin() as uow:
            await _begin_change(uow, session)
            await uow.act_for(session.tenant_id)
            await store.note_withdrawn(uow.connection, session.tenant_id)
            await store.drop_who_is_no_contact(uow.connection, session.tenant_id)
        log.info("receipt address withdrawn", tenant_id=session.tenant_id)
        return Response(status_code=204)

    async def _administrators(self, request: Request, notifier: Running[Context]) -> Session:
        session = await self._session_of(request, notifier)
        if not session.administers:
            raise Problem(403, detail="Only who administers the site can do that.")
        return session

    async def _session_of(self, request: Request, notifier: Running[Context]) -> Session:
        return await self._sessions.session_of(request, wall=notifier.units.clock.wall())


async def _begin_change(uow: UnitOfWork[Context], session: Session) -> None:
    await must_be_known(uow, session.tenant_id)
    if not await store.may_change(
        uow.connection,
        session.tenant_id,
        now=uow.now,
        counted_since=uow.now - COUNTED_FOR,
        most=MOST_CHANGES,
    ):
        raise Problem(
            429,
            detail="It was changed too often today. Try again tomorrow.",
            headers={"retry-after": str(int(COUNTED_FOR.total_seconds()))},
        )


async def _wanted(request: Request) -> Wanted:
    try:
        return Wanted.model_validate_json(await request.body())
    except ValidationError as refused:
        raise RequestValidationError(
            refused.errors(include_url=False, include_context=False, include_input=False)
        ) from None
