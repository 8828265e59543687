"""The order in which a customer puts things of a kind. Needs `act_for`, as things do."""

from uuid import UUID

from chassis.database import Connection
from services.config.domain.kinds import Kind
from services.config.store.things import GAP


async def put_behind(
    connection: Connection, tenant_id: UUID, kind: Kind, thing_id: UUID, after: UUID | None
) -> bool:
    """Put a thing behind another of its kind, or before all; False where either is not there.

    Its version stays: nothing of the thing itself has changed.
    """
    for _ in range(2):
        position = await _position_behind(connection, tenant_id, kind, thing_id, after)
        if position is not None:
            break
        await _spread(connection, tenant_id, kind)
    else:
        return False
    moved = await connection.execute(
        "UPDATE things SET position = $4 WHERE tenant_id = $1 AND kind = $2 AND thing_id = $3",
        tenant_id,
        kind.name,
        thing_id,
        position,
    )
    return bool(moved == "UPDATE 1")


async def _position_behind(
    connection: Connection, tenant_id: UUID, kind: Kind, thing_id: UUID, after: UUID | None
) -> int | None:
    """Find a position between two neighbours; None where there is no room, or no such neighbour."""
    row = await connection.fetchrow(
        """
        WITH before AS (
            SELECT position, thing_id FROM things
             WHERE tenant_id = $1 AND kind = $2 AND thing_id = $4)
        SELECT (SELECT position FROM before) AS low,
               (SELECT t.position FROM things t
                 WHERE t.tenant_id = $1 AND t.kind = $2 AND t.thing_id <> $3
                   AND ($4::uuid IS NULL
                        OR (t.position, t.thing_id) > (SELECT b.position, b.thing_id FROM before b))
                 ORDER BY t.position, t.thing_id
                 LIMIT 1) AS high
        """,
        tenant_id,
        kind.name,
        thing_id,
        after,
    )
    assert row is not None
    low, high = row["low"], row["high"]
    if after is not None and low is None:
        return None
    if low is None:
        return 0 if high is None else high - GAP
    if high is None:
        return int(low) + GAP
    return (low + high) // 2 if high - low > 1 else None


async def _spread(connection: Connection, tenant_id: UUID, kind: Kind) -> None:
    """Put the same distance between all things of a kind again."""
    await connection.execute(
        """
        UPDATE things
           SET position = spread.position
          FROM (SELECT thing_id, $3 * row_number() OVER (ORDER BY position, thing_id) AS position
                  FROM things WHERE tenant_id = $1 AND kind = $2) AS spread
         WHERE things.tenant_id = $1 AND things.thing_id = spread.thing_id
        """,
        tenant_id,
        kind.name,
        GAP,
    )
