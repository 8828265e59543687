"""Notices when a database is not the one that it was, and opens an epoch for it.

Transaction ids start anew when a dump is restored into another cluster. A relay that compared
them with ids of the old cluster would select nothing, and say nothing. So each outbox row and
each cursor belongs to an epoch, and an epoch to one cluster, timeline and database.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from chassis.database import Connection

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of a database; ``number`` is the wall time of its opening in milliseconds."""

    number: int
    restated: bool


async def ensure_epoch(connection: Connection, *, wall: datetime, force: bool = False) -> Epoch:
    """Return the present epoch, after opening it if this database is not the one it was.

    ``force`` opens one by hand. Of several callers at once one opens it.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('epochs', 0))")
        row = await connection.fetchrow(
            """
            WITH here AS (
                SELECT s.system_identifier::text AS system_identifier,
                       c.timeline_id AS timeline,
                       d.oid AS database_oid
                  FROM pg_control_system() s, pg_control_checkpoint() c, pg_database d
                 WHERE d.datname = current_database())
            SELECT here.*, e.epoch, e.restated_at IS NOT NULL AS restated,
                   (e.system_identifier, e.timeline, e.database_oid)
                   = (here.system_identifier, here.timeline, here.database_oid) AS same
              FROM here
              LEFT JOIN (SELECT * FROM relay_epochs ORDER BY epoch DESC LIMIT 1) e ON true
            """
        )
        assert row is not None
        if row["same"] and not force:
            return Epoch(row["epoch"], row["restated"])
        number = max(int(wall.timestamp() * 1000), (row["epoch"] or 0) + 1)
        first = row["epoch"] is None
        # A database that has just been made has nothing to say again.
        await connection.execute(
            """
            INSERT INTO relay_epochs
                (epoch, system_identifier, timeline, database_oid, opened_at, restated_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            number,
            row["system_identifier"],
            row["timeline"],
            row["database_oid"],
            wall,
            wall if first else None,
        )
        await connection.execute(
            "INSERT INTO relay_cursor (epoch, xid, position, saved_at) VALUES ($1, '0', 0, $2)",
            number,
            wall,
        )
        if not first:
            log.warning("epoch opened, this database is not the one it was", epoch=number)
        return Epoch(number, first)


async def mark_restated(connection: Connection, epoch: Epoch, *, wall: datetime) -> None:
    """Record that everything has been said again in this epoch."""
    await connection.execute(
        "UPDATE relay_epochs SET restated_at = $2 WHERE epoch = $1", epoch.number, wall
    )
