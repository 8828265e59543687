"""Licences whose installation is not known, as support sees them."""

from datetime import datetime
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role
from services.installer.door import Door
from services.installer.store import licences as store
from services.installer.store.licences import StoredLicence
from services.installer.subscriptions import licence_hash

_SHOWN = 100


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class LicenceListed(_Closed):
    """A licence, and how it is joined: not at all, weakly, or as a tenant of its own."""

    addon_key: str
    number: str = Field(repr=False)
    entitlement_number: str | None = Field(repr=False)
    status: str
    since: datetime
    matched_by: str | None
    tenant_id: UUID | None
    renewed_after_purge: bool


class Licences(_Closed):
    """Licences, the oldest first."""

    licences: list[LicenceListed]


licences_router = StaffRouter(prefix="/staff/licences")


@licences_router.get("/unmatched")
@allowed(Role.SUPPORT)
async def list_unmatched(request: Request) -> Licences:
    """List licences without an installation, renewals of purged ones among them, and weak joins."""
    this: Running[Door] = running(request)
    found = await store.without_installation(this.units.pool, limit=_SHOWN)
    hashes = [licence_hash(this.context.keys, each.licence.name) for each in found]
    purged = await store.purged_at(this.units.pool, hashes)
    return Licences(
        licences=[
            _listed(each, each_hash in purged)
            for each, each_hash in zip(found, hashes, strict=True)
        ]
    )


def _listed(stored: StoredLicence, renewed: bool) -> LicenceListed:
    licence, match = stored.licence, stored.match
    return LicenceListed(
        addon_key=licence.name.addon_key,
        number=licence.name.number,
        entitlement_number=licence.entitlement_number,
        status=licence.status,
        since=stored.first_seen_at,
        matched_by=match.step if match else None,
        tenant_id=match.tenant_id if match else None,
        renewed_after_purge=renewed,
    )
