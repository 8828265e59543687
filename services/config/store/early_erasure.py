"""What purger says of a tenant's purges, and what its customer asks for."""

from collections.abc import Collection, Sequence
from uuid import UUID

from chassis.database import Connection
from contracts.purges import PurgeState
from services.config.domain.early_erasure import ErasureRequest


async def remember_purges(connection: Connection, states: Sequence[PurgeState]) -> None:
    """Make what is known of these tenants' purges this."""
    await connection.execute(
        """
        INSERT INTO purge_states (tenant_id, state)
        SELECT tenant_id, state::jsonb
          FROM unnest($1::uuid[], $2::text[]) AS s(tenant_id, state)
         ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET state = excluded.state
        """,
        [state.tenant_id for state in states],
        [state.model_dump_json() for state in states],
    )


async def purges(connection: Connection, tenant_id: UUID) -> PurgeState | None:
    """Say what purger last told of a tenant's purges; None where it has told nothing."""
    state = await connection.fetchval(
        "SELECT state FROM purge_states WHERE tenant_id = $1", tenant_id
    )
    return None if state is None else PurgeState.model_validate(state)


async def forget_purges(connection: Connection, tenant_ids: Sequence[UUID]) -> None:
    """Know nothing of these tenants' purges any more, nor of what they asked for."""
    for table in ("purge_states", "erasure_requests"):
        await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = ANY($1::uuid[])",  # noqa: S608 - one of two constants
            tenant_ids,
        )


async def save_request(connection: Connection, tenant_id: UUID, request: ErasureRequest) -> None:
    """Make a tenant's latest request this."""
    await connection.execute(
        """
        INSERT INTO erasure_requests (tenant_id, wish_id, asked_at, heard, withdrawn_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id) DO UPDATE
           SET wish_id = excluded.wish_id, asked_at = excluded.asked_at, heard = excluded.heard,
               withdrawn_at = excluded.withdrawn_at
        """,
        tenant_id,
        request.wish_id,
        request.asked_at,
        request.heard,
        request.withdrawn_at,
    )


async def request(connection: Connection, tenant_id: UUID) -> ErasureRequest | None:
    """Find a tenant's latest request."""
    row = await connection.fetchrow(
        "SELECT wish_id, asked_at, heard, withdrawn_at FROM erasure_requests WHERE tenant_id = $1",
        tenant_id,
    )
    return None if row is None else ErasureRequest(**row)


async def settle_requests(
    connection: Connection, tenant_ids: Sequence[UUID], standing: Collection[UUID]
) -> None:
    """Note that purger names these tenants' requests, or drop those that it names no longer."""
    await connection.execute(
        """
        UPDATE erasure_requests SET heard = true
         WHERE tenant_id = ANY($1::uuid[]) AND wish_id = ANY($2::uuid[])
        """,
        tenant_ids,
        list(standing),
    )
    await connection.execute(
        """
        DELETE FROM erasure_requests
         WHERE tenant_id = ANY($1::uuid[]) AND heard AND wish_id <> ALL($2::uuid[])
        """,
        tenant_ids,
        list(standing),
    )
