"""When a tenant's export was fetched, and by which way. Needs `act_for`, as things do."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool
from chassis.identifiers import uuid7


@dataclass(frozen=True, slots=True)
class ExportUse:
    """One download: in the app, or by the link of the purge that it names."""

    used_at: datetime
    purge_id: UUID | None


async def note_use(
    connection: Connection, tenant_id: UUID, *, purge_id: UUID | None, now: datetime
) -> None:
    """Note that an export is fetched, by the link of a purge or else in the app."""
    await connection.execute(
        """
        INSERT INTO export_uses (tenant_id, use_id, used_at, purge_id) VALUES ($1, $2, $3, $4)
        """,
        tenant_id,
        uuid7(now),
        now,
        purge_id,
    )


async def uses_of_link(connection: Connection, tenant_id: UUID, purge_id: UUID) -> int:
    """Count how often the link of a purge gave the archive."""
    count = await connection.fetchval(
        "SELECT count(*) FROM export_uses WHERE tenant_id = $1 AND purge_id = $2",
        tenant_id,
        purge_id,
    )
    return int(count)


async def latest_uses(connection: Connection, tenant_id: UUID, *, limit: int) -> list[ExportUse]:
    """List the latest downloads of a tenant's export, the last one first."""
    rows = await connection.fetch(
        """
        SELECT used_at, purge_id FROM export_uses
         WHERE tenant_id = $1 ORDER BY used_at DESC, use_id DESC LIMIT $2
        """,
        tenant_id,
        limit,
    )
    return [ExportUse(**row) for row in rows]


async def forget_uses(pool: Pool, *, used_before: datetime, limit: int) -> int:
    """Forget up to ``limit`` downloads of all tenants from before this time; return how many."""
    gone = await pool.execute(
        """
        DELETE FROM export_uses
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM export_uses WHERE used_at < $1 LIMIT $2))
        """,
        used_before,
        limit,
    )
    return int(gone.removeprefix("DELETE "))
