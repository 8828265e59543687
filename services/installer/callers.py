"""Who signs with a shared secret of ours: the tenant of a name, and what its calls are checked by."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.unit_of_work import Units
from contracts.tenants import DepartureKind, Platform, TenantStatus
from services.installer.door import SECRET, Door
from services.installer.store import tenants as store

_PAST_RETURN: Final = frozenset({TenantStatus.PURGING, TenantStatus.PURGED})


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant that may have signed a call.

    ``secrets`` are those its calls may be signed with, the present one first.
    There are none for a tenant that is purging: it is told so before any key
    is touched.
    """

    tenant_id: UUID
    status: TenantStatus
    platform: Platform
    departed_how: DepartureKind | None
    last_seen_at: datetime | None
    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def is_past_return(self) -> bool:
        """Whether the tenant is being purged, or was."""
        return self.status in _PAST_RETURN


async def find_caller(units: Units[Door], addon_key: str, client_key: str) -> Caller | None:
    """Find the tenant of a name, the living one first; None where nobody has the name.

    A secret that was replaced counts for three minutes of wall time, since
    tokens are of the real world, whatever business time is.
    """
    row = await store.find_signer(units.pool, addon_key, client_key)
    if row is None:
        return None
    status = TenantStatus(row["status"])
    secrets: tuple[bytes, ...] = ()
    if row["live"] and row["wrapped_key"] is not None:
        keys, tenant_id = units.context.keys, row["tenant_id"]
        plain_key = keys.unwrapped_key(tenant_id, row["wrapped_key"], row["kek_id"])
        sealed = [row["shared_secret"]]
        if row["replaced_until"] is not None and units.clock.wall() < row["replaced_until"]:
            sealed.append(row["replaced_secret"])
        secrets = tuple(keys.open_with(plain_key, tenant_id, SECRET, each) for each in sealed)
    return Caller(
        tenant_id=row["tenant_id"],
        status=status,
        platform=Platform(row["platform"]),
        departed_how=DepartureKind(row["departed_how"]) if row["departed_how"] else None,
        last_seen_at=row["last_seen_at"],
        secrets=secrets,
    )
