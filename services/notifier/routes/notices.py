"""What a customer's browser shows of a change of the policy where nobody can be written to."""

from typing import Annotated, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chassis.problems import Problem
from chassis.service import Running, running
from chassis.sessions import Sessions
from services.notifier.context import Context
from services.notifier.routes.customers import is_known, must_be_known
from services.notifier.store import policies, sights

log = structlog.get_logger(__name__)

PATH: Final = "/policy/notice"


class Sight(BaseModel):
    """Which revision's notice was seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: Annotated[int, Field(ge=1, le=999_999_999)]


class Notices:
    """The door for sessions; ``public_url`` is where anybody reads the revisions."""

    def __init__(self, sessions: Sessions, public_url: str) -> None:
        self._sessions = sessions
        self._public_url = public_url

    def router(self) -> APIRouter:
        """Return the routes, which must come before those that show a revision by its number."""
        router = APIRouter()
        router.add_api_route(PATH, self.show, methods=["GET"], response_model=None)
        router.add_api_route(
            f"{PATH}/seen", self.note, methods=["POST"], status_code=204, response_model=None
        )
        return router

    async def show(self, request: Request) -> Response:
        """Give the newest revision to a tenant without contacts that has not seen it, else 204.

        Of a tenant that was not heard of yet nothing can be said, which is no fault of its page's.
        """
        notifier: Running[Context] = running(request)
        tenant_id = await self._tenant_of(request, notifier)
        async with notifier.units.begin() as uow:
            if not await is_known(uow, tenant_id):
                return Response(status_code=204)
            newest = await policies.newest_revision(uow.connection)
            if (
                newest is None
                or await sights.has_contacts(uow.connection, tenant_id)
                or await sights.saw(uow.connection, tenant_id, newest.number)
            ):
                return Response(status_code=204)
        return JSONResponse(
            {
                "revision": newest.number,
                "effective_on": f"{newest.effective_at:%Y-%m-%d}",
                "summary": {language.value: said for language, said in newest.summary.items()},
                "url": f"{self._public_url}/policy/{newest.number}",
            }
        )

    async def note(self, request: Request) -> Response:
        """Note that a person at the tenant saw a revision's notice: 204, also when it is again."""
        notifier: Running[Context] = running(request)
        tenant_id = await self._tenant_of(request, notifier)
        try:
            sight = Sight.model_validate_json(await request.body(), strict=True)
        except ValidationError as refused:
            raise RequestValidationError(
                refused.errors(include_url=False, include_context=False, include_input=False)
            ) from None
        async with notifier.units.begin() as uow:
            await must_be_known(uow, tenant_id)
            if await policies.revision(uow.connection, sight.revision) is None:
                raise Problem(404, detail="There is no such revision.")
            if await sights.note_sight(uow.connection, tenant_id, sight.revision, now=uow.now):
                log.info("notice seen", number=sight.revision, tenant_id=tenant_id)
        return Response(status_code=204)

    async def _tenant_of(self, request: Request, notifier: Running[Context]) -> UUID:
        return await self._sessions.tenant_of(request, wall=notifier.units.clock.wall())
