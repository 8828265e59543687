"""Tenants, as the installer said them."""

from collections.abc import Collection, Sequence
from uuid import UUID

from chassis.database import Connection
from contracts.tenants import TenantState


async def save_tenants(connection: Connection, tenants: Sequence[TenantState]) -> list[TenantState]:
    """Keep tenants' states without their licence numbers; return those that were not passed.

    Their rows stay locked until the transaction ends. Of each tenant there may be one state.
    """
    kept = [each.model_copy(update={"licence_numbers": ()}) for each in tenants]
    rows = await connection.fetch(
        """
        INSERT INTO tenants AS t (tenant_id, epoch, n, state)
        SELECT tenant_id, epoch, n, state::jsonb
          FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[])
               AS s(tenant_id, epoch, n, state)
         ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE
           SET epoch = excluded.epoch, n = excluded.n, state = excluded.state
         WHERE (t.epoch, t.n) < (excluded.epoch, excluded.n)
        RETURNING tenant_id
        """,
        [each.tenant_id for each in tenants],
        [each.version.epoch for each in tenants],
        [each.version.n for each in tenants],
        [each.model_dump_json() for each in kept],
    )
    saved = {row["tenant_id"] for row in rows}
    return [each for each in tenants if each.tenant_id in saved]


async def unknown_tenants(connection: Connection, tenant_ids: Collection[UUID]) -> set[UUID]:
    """List those of these tenants of whom the installer has nothing left, or never had."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM tenants WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
    )
    return set(tenant_ids) - {row["tenant_id"] for row in rows}


async def tenant(connection: Connection, tenant_id: UUID) -> TenantState | None:
    """Give the tenant's state as the installer last told it, without licence numbers."""
    state = await connection.fetchval("SELECT state FROM tenants WHERE tenant_id = $1", tenant_id)
    return None if state is None else TenantState.model_validate(state)


async def forget_tenants(connection: Connection, tenant_ids: Collection[UUID]) -> None:
    """Drop what we know of tenants' states."""
    await connection.execute(
        "DELETE FROM tenants WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
    )


async def merged_into(connection: Connection, tenant_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Find the tenants that go on for these, where there are such."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, (state ->> 'merged_into')::uuid AS merged_into
          FROM tenants
         WHERE tenant_id = ANY($1::uuid[]) AND state ->> 'merged_into' IS NOT NULL
        """,
        list(tenant_ids),
    )
    return {row["tenant_id"]: row["merged_into"] for row in rows}
