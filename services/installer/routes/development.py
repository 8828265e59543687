"""Routes that only a laptop has: they tell and give what nobody may ask for in production."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from chassis.openapi import problem_response
from chassis.problems import Problem
from chassis.service import running
from connect.lifecycle import AppKey, ClientKey
from contracts.tenants import TenantStatus
from services.installer.domain.timelines import Entry
from services.installer.sessions import LIFETIME, SessionSigner
from services.installer.store import tenants as store
from services.installer.store import timelines

_SHOWN = 100
Responses = dict[int | str, dict[str, Any]]
_NO_TENANT: Responses = {404: problem_response("There is no such tenant.")}
_NOT_INSTALLED: Responses = {409: problem_response("The tenant is not installed.")}


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TenantListed(_Closed):
    """A tenant and where it stands."""

    tenant_id: UUID
    status: TenantStatus


class Tenants(_Closed):
    """Tenants, the newest first."""

    tenants: list[TenantListed]


class TimelineEntry(_Closed):
    """One thing that was heard of a tenant."""

    at: datetime
    what: Entry


class Timeline(_Closed):
    """What was heard of a tenant since it began, the oldest entry first."""

    began_at: datetime
    entries: list[TimelineEntry]


class Name(_Closed):
    """By what Atlassian calls a tenant."""

    addon_key: AppKey
    client_key: ClientKey = Field(repr=False)


class SessionWanted(_Closed):
    """For which tenant a token is wanted."""

    tenant_id: UUID


class Session(_Closed):
    """A token, to be sent as ``Authorization: Bearer``."""

    token: str = Field(repr=False)
    expires_in_seconds: int


def development_router(signer: SessionSigner) -> APIRouter:
    """Return the routes that `keepword` uses on a laptop."""
    router = APIRouter(prefix="/development", tags=["development"])

    @router.get("/tenants")
    async def list_tenants(request: Request) -> Tenants:
        """List the newest tenants."""
        return _listed(await store.latest_tenants(running(request).units.pool, limit=_SHOWN))

    @router.post("/tenants/lookup")
    async def look_up_tenants(request: Request, name: Name) -> Tenants:
        """List the tenants of one name: at most one of them is not purging."""
        pool = running(request).units.pool
        return _listed(await store.tenants_named(pool, name.addon_key, name.client_key))

    @router.get("/tenants/{tenant_id}/timeline", responses=_NO_TENANT)
    async def show_timeline(request: Request, tenant_id: UUID) -> Timeline:
        """Show what was heard of a tenant lately, and when it began."""
        pool = running(request).units.pool
        began_at = await store.created_at(pool, tenant_id)
        if began_at is None:
            raise Problem(404, detail="There is no such tenant.")
        entries = await timelines.timeline_of(pool, tenant_id)
        return Timeline(
            began_at=began_at,
            entries=[TimelineEntry(at=each.at, what=each.what) for each in entries],
        )

    @router.post("/session-tokens", status_code=201, responses=_NO_TENANT | _NOT_INSTALLED)
    async def make_session_token(request: Request, wanted: SessionWanted) -> Session:
        """Give what an app's page would get by showing Atlassian's own token."""
        this = running(request)
        status = await store.status_of(this.units.pool, wanted.tenant_id)
        if status is None:
            raise Problem(404, detail="There is no such tenant.")
        if status is not TenantStatus.INSTALLED:
            raise Problem(409, detail=f"This tenant is {status}.")
        token = signer.token_for(wanted.tenant_id, wall=this.units.clock.wall())
        return Session(token=token, expires_in_seconds=int(LIFETIME.total_seconds()))

    return router


def _listed(tenants: list[tuple[UUID, TenantStatus]]) -> Tenants:
    return Tenants(
        tenants=[TenantListed(tenant_id=tenant_id, status=status) for tenant_id, status in tenants]
    )
