"""Tenants as staff look for them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from chassis.database import Connection, Pool
from contracts.tenants import Platform, SubscriptionStatus, TenantStatus
from services.installer.domain.searches import Search


@dataclass(frozen=True, slots=True)
class Found:
    """A tenant as a list shows it."""

    tenant_id: UUID
    status: TenantStatus
    platform: Platform
    addon_key: str
    product_type: str
    subscription_status: SubscriptionStatus
    created_at: datetime
    departed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Site:
    """Where a tenant's site is, and what its licence is called there."""

    base_url: str
    number: str | None


@dataclass(frozen=True, slots=True)
class LicenceFound:
    """A licence of the Marketplace's report that is a tenant's."""

    number: str
    status: str
    licence_type: str
    ends_on: date | None


_COLUMNS = (
    "tenant_id, status, platform, addon_key, product_type, subscription_status, created_at,"
    " departed_at"
)


async def find_tenants(
    pool: Pool, wanted: Search, *, addon_keys: Sequence[str], limit: int
) -> list[Found]:
    """Find tenants by id, by where their site is, or by the number of a licence, the newest first.

    By the last two nobody is found any more whose purge has begun.
    """
    rows = await pool.fetch(
        rf"""
        SELECT {_COLUMNS}
          FROM tenants
         WHERE tenant_id IN (
                SELECT $1::uuid
                UNION ALL
                SELECT tenant_id FROM installations
                 WHERE live AND addon_key = ANY($2) AND base_url = ANY($3)
                UNION ALL
                SELECT tenant_id FROM installations
                 WHERE live AND addon_key = ANY($2) AND entitlement_number = $4
                UNION ALL
                SELECT tenant_id FROM installations
                 WHERE live AND addon_key = ANY($2) AND service_entitlement_number IS NOT NULL
                   AND regexp_replace(service_entitlement_number, '\D', '', 'g') = $5
                UNION ALL
                SELECT tenant_id FROM licences
                 WHERE addon_key = ANY($2) AND number = $4)
         ORDER BY tenant_id DESC
         LIMIT $6
        """,  # noqa: S608 - a constant
        wanted.tenant_id,
        addon_keys,
        wanted.sites,
        wanted.number,
        _digits(wanted.number),
        limit,
    )
    return [Found(**row) for row in rows]


async def newest_tenants(pool: Pool, *, limit: int) -> list[Found]:
    """Give the tenants that were made last, the newest first."""
    rows = await pool.fetch(
        f"SELECT {_COLUMNS} FROM tenants ORDER BY tenant_id DESC LIMIT $1",  # noqa: S608 - a constant
        limit,
    )
    return [Found(**row) for row in rows]


async def site_of(connection: Connection, tenant_id: UUID) -> Site | None:
    """Say where a tenant's site is; None where it is erased, or runs on Forge alone."""
    row = await connection.fetchrow(
        """
        SELECT base_url, coalesce(entitlement_number, service_entitlement_number) AS number
          FROM installations
         WHERE tenant_id = $1 AND live
        """,
        tenant_id,
    )
    return Site(**row) if row else None


async def licences_of(connection: Connection, tenant_id: UUID) -> list[LicenceFound]:
    """Give a tenant's licences, by number."""
    rows = await connection.fetch(
        """
        SELECT number, status, licence_type, ends_on
          FROM licences
         WHERE tenant_id = $1
         ORDER BY number
        """,
        tenant_id,
    )
    return [LicenceFound(**row) for row in rows]


def _digits(number: str | None) -> str | None:
    # A new number, E-…, is told apart by its letters as well.
    is_old = number is not None and not number.startswith("E-")
    return re.sub(r"\D", "", number or "") if is_old else None
