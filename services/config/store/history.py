"""The history of things: what each was before it was changed. Needs `act_for`, as things do."""

from uuid import UUID

from chassis.database import Connection
from services.config.domain.things import PastVersion


async def version_of(
    connection: Connection, tenant_id: UUID, thing_id: UUID, version: int
) -> PastVersion | None:
    """Say what a thing was, or is, in this version; None where that is not kept, or not yet."""
    row = await connection.fetchrow(
        """
        SELECT version, name, tags, body, made_at
          FROM thing_versions
         WHERE tenant_id = $1 AND thing_id = $2 AND version = $3
         UNION ALL
        SELECT version, name, tags, body, updated_at
          FROM things
         WHERE tenant_id = $1 AND thing_id = $2 AND version = $3
        """,
        tenant_id,
        thing_id,
        version,
    )
    return PastVersion(**row) if row else None


async def versions_of(
    connection: Connection, tenant_id: UUID, thing_id: UUID, *, before: int, limit: int
) -> list[PastVersion]:
    """List up to ``limit`` past versions below ``before``, the latest first, without their bodies."""
    rows = await connection.fetch(
        """
        SELECT version, name, tags, '{}'::jsonb AS body, made_at
          FROM thing_versions
         WHERE tenant_id = $1 AND thing_id = $2 AND version < $3
         ORDER BY version DESC
         LIMIT $4
        """,
        tenant_id,
        thing_id,
        before,
        limit,
    )
    return [PastVersion(**row) for row in rows]
