"""Which revision a tenant without contacts has yet to see in the app, and who has seen which."""

from datetime import datetime
from uuid import UUID

from chassis.database import Connection


async def saw(connection: Connection, tenant_id: UUID, number: int) -> bool:
    """Whether the notice of a revision was seen in a tenant's app."""
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM policy_sights WHERE tenant_id = $1 AND number = $2)",
        tenant_id,
        number,
    )
    return found is True


async def has_contacts(connection: Connection, tenant_id: UUID) -> bool:
    """Whether anybody is known who can be written to about a tenant."""
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM audience WHERE tenant_id = $1)", tenant_id
    )
    return found is True


async def note_sight(
    connection: Connection, tenant_id: UUID, number: int, *, now: datetime
) -> bool:
    """Note that a revision's notice was seen; the first sight is the one that is kept.

    False where it is noted already. The caller holds erasures of the tenant off.
    """
    noted = await connection.fetchval(
        """
        INSERT INTO policy_sights (tenant_id, number, seen_at)
        VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        tenant_id,
        number,
        now,
    )
    return noted is True
