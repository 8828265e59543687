"""Links: which tenants persons let go on for others, who they were and why."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool
from chassis.identifiers import uuid7


@dataclass(frozen=True, slots=True)
class Link:
    """A person's word that one tenant goes on for an older one, until that came back."""

    tenant_id: UUID
    old_tenant_id: UUID
    linked_at: datetime
    linked_by: str = field(repr=False)
    reason: str = field(repr=False)
    undone_at: datetime | None = None


async def add_link(connection: Connection, link: Link) -> None:
    """Write a link down; call it under the locks of both tenants."""
    await connection.execute(
        """
        INSERT INTO links (link_id, tenant_id, old_tenant_id, linked_at, linked_by, reason)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        uuid7(link.linked_at),
        link.tenant_id,
        link.old_tenant_id,
        link.linked_at,
        link.linked_by,
        link.reason,
    )


async def undo_link(connection: Connection, old_tenant_id: UUID, *, now: datetime) -> None:
    """Note that a tenant came back that another one was to go on for; call it under its lock."""
    await connection.execute(
        "UPDATE links SET undone_at = $2 WHERE old_tenant_id = $1 AND undone_at IS NULL",
        old_tenant_id,
        now,
    )


async def links_of(pool: Pool, tenant_id: UUID) -> list[Link]:
    """Read the links in which a tenant is either side, the oldest first."""
    rows = await pool.fetch(
        """
        SELECT tenant_id, old_tenant_id, linked_at, linked_by, reason, undone_at
          FROM links
         WHERE tenant_id = $1 OR old_tenant_id = $1
         ORDER BY linked_at, link_id
        """,
        tenant_id,
    )
    return [Link(**row) for row in rows]


async def awaits_data(connection: Connection, tenant_id: UUID) -> bool:
    """Say whether a tenant goes on for others of whom something is left; call it under its lock."""
    awaited: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM tenants WHERE merged_into = $1)", tenant_id
    )
    return awaited
