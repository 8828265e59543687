"""Tenants for staff: which there are, by what they are called, and what was heard of them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from chassis.openapi import problem_response
from chassis.problems import Problem
from chassis.service import running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role
from connect.lifecycle import AppKey, ClientKey
from contracts.tenants import TenantStatus
from services.installer.domain.timelines import Entry
from services.installer.store import tenants as store
from services.installer.store import timelines

_SHOWN = 100
_READERS = allowed(Role.SUPPORT, Role.DEVELOPER, Role.PRIVACY, Role.OPERATOR)
NO_TENANT: dict[int | str, dict[str, Any]] = {404: problem_response("There is no such tenant.")}

tenants_router = StaffRouter(prefix="/staff/tenants")


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


@tenants_router.get("")
@_READERS
async def list_tenants(request: Request) -> Tenants:
    """List the newest tenants."""
    return _listed(await store.latest_tenants(running(request).units.pool, limit=_SHOWN))


@tenants_router.post("/lookup")
@allowed(Role.SUPPORT, Role.PRIVACY)
async def look_up_tenants(request: Request, name: Name) -> Tenants:
    """List the tenants of one name: at most one of them is not purging."""
    pool = running(request).units.pool
    return _listed(await store.tenants_named(pool, name.addon_key, name.client_key))


@tenants_router.get("/{tenant_id}/timeline", responses=NO_TENANT)
@_READERS
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


def _listed(tenants: list[tuple[UUID, TenantStatus]]) -> Tenants:
    return Tenants(
        tenants=[TenantListed(tenant_id=tenant_id, status=status) for tenant_id, status in tenants]
    )
