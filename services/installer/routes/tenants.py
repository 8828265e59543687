"""Tenants for staff: which there are, by what they are called, and what was heard of them."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from chassis.openapi import problem_response
from chassis.pages import StaffPages, form_of, wants_page
from chassis.problems import Problem
from chassis.service import running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, present
from connect.lifecycle import AppKey, ClientKey
from contracts.tenants import TenantStatus
from services.installer.domain.searches import LONGEST, read_search
from services.installer.domain.timelines import Entry
from services.installer.store import searches, timelines
from services.installer.store import tenants as store

_SHOWN: Final = 100
_PAGES: Final = Path(__file__).parent.parent / "pages"
_READING: Final = (Role.SUPPORT, Role.DEVELOPER, Role.PRIVACY, Role.OPERATOR)
_READERS: Final = allowed(*_READING)
NO_TENANT: dict[int | str, dict[str, Any]] = {404: problem_response("There is no such tenant.")}


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


def staff_tenants_router(addon_keys: Sequence[str]) -> StaffRouter:
    """Return the routes; tenants of these apps are found by their sites and licences."""
    pages = _Pages(addon_keys)
    router = StaffRouter(prefix="/staff/tenants")
    router.add_api_route("", pages.list_tenants, methods=["GET"], response_model=Tenants)
    router.add_api_route("/search", pages.search, methods=["POST"], include_in_schema=False)
    router.add_api_route("/lookup", look_up_tenants, methods=["POST"])
    # Of an id alone, so that no other path is taken for one.
    router.add_api_route("/{tenant_id:uuid}", pages.show, methods=["GET"], include_in_schema=False)
    router.add_api_route(
        "/{tenant_id}/timeline", show_timeline, methods=["GET"], responses=NO_TENANT
    )
    return router


class _Pages(StaffPages):
    """The pages on which staff find a tenant and see where it stands."""

    def __init__(self, addon_keys: Sequence[str]) -> None:
        super().__init__(_PAGES)
        self._addon_keys = list(addon_keys)
        self.templates.filters["moment"] = _moment

    @allowed(*_READING, page="Tenants")
    async def list_tenants(self, request: Request) -> Any:
        """List the newest tenants."""
        found = await searches.newest_tenants(running(request).units.pool, limit=_SHOWN)
        if not wants_page(request):
            return _listed([(each.tenant_id, each.status) for each in found])
        return self.page("tenants.html", {"found": found, "typed": ""})

    @allowed(Role.SUPPORT, Role.PRIVACY)
    async def search(self, request: Request) -> Response:
        """Find tenants by their site, the number of a licence, or their id."""
        # In a form and not in an address, since addresses are kept by many.
        typed = (await form_of(request)).get("typed", "")[:LONGEST]
        found = await searches.find_tenants(
            running(request).units.pool,
            read_search(typed),
            addon_keys=self._addon_keys,
            limit=_SHOWN,
        )
        return self.page("tenants.html", {"found": found, "typed": typed})

    @_READERS
    async def show(self, request: Request, tenant_id: UUID) -> Response:
        """Show where a tenant stands: its state, its licences, what was heard of it."""
        pool = running(request).units.pool
        async with pool.acquire() as connection, connection.transaction():
            state = await store.read_tenant(connection, tenant_id)
            if state is None:
                return self.page("no-tenant.html", {}, status=HTTPStatus.NOT_FOUND)
            # By these a customer is called, which is not everybody's to know.
            may_name = bool(present.get().roles & {Role.SUPPORT, Role.PRIVACY})
            site = await searches.site_of(connection, state.tenant_id) if may_name else None
            licences = await searches.licences_of(connection, state.tenant_id) if may_name else []
        entries = await timelines.timeline_of(pool, state.tenant_id)
        shown = {
            "tenant": state,
            "may_name": may_name,
            "site": site,
            "licences": licences,
            "entries": entries,
        }
        return self.page("tenant.html", shown)


@allowed(Role.SUPPORT, Role.PRIVACY)
async def look_up_tenants(request: Request, name: Name) -> Tenants:
    """List the tenants of one name: at most one of them is not purging."""
    pool = running(request).units.pool
    return _listed(await store.tenants_named(pool, name.addon_key, name.client_key))


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


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
