"""The route that only a laptop has: it gives what nobody may ask for in production."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from chassis.openapi import problem_response
from chassis.problems import Problem
from chassis.service import running
from contracts.tenants import TenantStatus
from services.installer.routes.tenants import NO_TENANT
from services.installer.sessions import LIFETIME, SessionSigner
from services.installer.store import tenants as store

_NOT_INSTALLED: dict[int | str, dict[str, Any]] = {
    409: problem_response("The tenant is not installed.")
}


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SessionWanted(_Closed):
    """For which tenant a token is wanted, and whether of who administers its site."""

    tenant_id: UUID
    administers: bool = True


class Session(_Closed):
    """A token, to be sent as ``Authorization: Bearer``."""

    token: str = Field(repr=False)
    expires_in_seconds: int


def development_router(signer: SessionSigner) -> APIRouter:
    """Return the route that `keepword` uses on a laptop."""
    router = APIRouter(prefix="/development", tags=["development"])

    @router.post("/session-tokens", status_code=201, responses=NO_TENANT | _NOT_INSTALLED)
    async def make_session_token(request: Request, wanted: SessionWanted) -> Session:
        """Give what an app's page would get by showing Atlassian's own token."""
        this = running(request)
        status = await store.status_of(this.units.pool, wanted.tenant_id)
        if status is None:
            raise Problem(404, detail="There is no such tenant.")
        if status is not TenantStatus.INSTALLED:
            raise Problem(409, detail=f"This tenant is {status}.")
        token = signer.token_for(
            wanted.tenant_id, wall=this.units.clock.wall(), administers=wanted.administers
        )
        return Session(token=token, expires_in_seconds=int(LIFETIME.total_seconds()))

    return router
