"""What config remembers of the tenants it may serve."""

from collections.abc import Sequence
from uuid import UUID

from chassis.database import Connection
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.domain.access import Tenant


async def remember_tenants(connection: Connection, tenants: Sequence[Tenant]) -> None:
    """Make what is known of these tenants this."""
    await connection.execute(
        """
        INSERT INTO tenants (tenant_id, status, platform, content)
        SELECT *
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
               AS t(tenant_id, status, platform, content)
         ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE
           SET status = excluded.status, platform = excluded.platform, content = excluded.content
        """,
        [tenant.tenant_id for tenant in tenants],
        [tenant.status for tenant in tenants],
        [tenant.platform for tenant in tenants],
        [tenant.content for tenant in tenants],
    )


async def forget_tenants(connection: Connection, tenant_ids: Sequence[UUID]) -> None:
    """Know nothing of these tenants any more."""
    await connection.execute("DELETE FROM tenants WHERE tenant_id = ANY($1::uuid[])", tenant_ids)


async def tenant(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """Say what is known of a tenant."""
    row = await connection.fetchrow(
        "SELECT status, platform, content FROM tenants WHERE tenant_id = $1", tenant_id
    )
    if row is None:
        return None
    return Tenant(
        tenant_id=tenant_id,
        status=TenantStatus(row["status"]),
        platform=Platform(row["platform"]),
        content=ClassState(row["content"]),
    )
