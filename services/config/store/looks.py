"""Looks: what of a customer's was shown to staff, and under which grant. Needs `act_for`."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool
from services.config.domain.grants import Category


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody was shown a thing, or without one the list of its kind."""

    look_id: UUID
    grant_id: UUID
    kind: str
    thing_id: UUID | None = None


async def note(connection: Connection, tenant_id: UUID, look: Look, *, now: datetime) -> None:
    """Note that something of a tenant's is shown, by the name that it has now."""
    await connection.execute(
        """
        INSERT INTO looks (tenant_id, look_id, grant_id, looked_at, kind, thing_id, name)
        VALUES ($1, $2, $3, $4, $5, $6,
                (SELECT t.name FROM things t
                  WHERE t.tenant_id = $1 AND t.kind = $5 AND t.thing_id = $6))
        """,
        tenant_id,
        look.look_id,
        look.grant_id,
        now,
        look.kind,
        look.thing_id,
    )


@dataclass(frozen=True, slots=True)
class SeenLook:
    """A look as its customer sees it: when, by which role, why, and at what."""

    look_id: UUID
    looked_at: datetime
    kind: str
    name: str | None = field(repr=False)
    role: str
    category: Category
    ticket: str | None
    break_glass: bool
    justified: bool | None


async def of_tenant(
    connection: Connection, tenant_id: UUID, *, before: UUID | None, limit: int
) -> list[SeenLook]:
    """List up to ``limit`` looks at what is a tenant's, the last one first, or those ``before`` one."""
    rows = await connection.fetch(
        """
        SELECT l.look_id, l.looked_at, l.kind, l.name, g.role, g.category, r.ticket, g.break_glass,
               g.justified
          FROM looks l
          JOIN access_grants g USING (grant_id)
          LEFT JOIN access_reasons r ON r.tenant_id = l.tenant_id AND r.grant_id = l.grant_id
         WHERE l.tenant_id = $1
           AND ($2::uuid IS NULL
                OR (l.looked_at, l.look_id) < (SELECT b.looked_at, b.look_id FROM looks b
                                                WHERE b.tenant_id = $1 AND b.look_id = $2))
         ORDER BY l.looked_at DESC, l.look_id DESC
         LIMIT $3
        """,
        tenant_id,
        before,
        limit,
    )
    return [SeenLook(**dict(row) | {"category": Category(row["category"])}) for row in rows]


async def under_grant(
    connection: Connection, tenant_id: UUID, grant_id: UUID
) -> list[tuple[str, int]]:
    """Count what was shown under a grant, by kind; names are the customer's and stay unread."""
    rows = await connection.fetch(
        """
        SELECT kind, count(*) AS number
          FROM looks
         WHERE tenant_id = $1 AND grant_id = $2
         GROUP BY kind
         ORDER BY kind
        """,
        tenant_id,
        grant_id,
    )
    return [(row["kind"], row["number"]) for row in rows]


async def forget(pool: Pool, *, looked_before: datetime, limit: int) -> int:
    """Forget up to ``limit`` looks of all tenants from before this time; return how many."""
    gone = await pool.execute(
        """
        DELETE FROM looks
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM looks WHERE looked_at < $1 LIMIT $2))
        """,
        looked_before,
        limit,
    )
    return int(gone.removeprefix("DELETE "))
