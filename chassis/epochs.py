"""Notices when a database is not the one that it was, and opens an epoch for it.

Transaction ids start anew when a dump is restored into another cluster. A relay that compared
them with ids of the old cluster would select nothing, and say nothing. So each outbox row and
each cursor belongs to an epoch, and an epoch to one cluster, timeline and database.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from chassis.database import Connection, Pool

log = structlog.get_logger(__name__)


EVENTS_KEPT = timedelta(days=30)
"""For how long Kafka keeps events and commands; see ``contracts.topics``."""

LEDGER_KEPT = timedelta(days=400)
"""For how long the topic of the ledger remembers whom it ordered to erase."""


class DatabaseTooOldError(Exception):
    """The ledger does not reach back to when this database was alive, so nobody may be served."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of a database; ``number`` is the wall time of its opening in milliseconds.

    ``restored`` is whether the database lost what came after an older copy of it.
    """

    number: int
    restated: bool
    restored: bool

    @property
    def is_behind(self) -> bool:
        """Whether what a restore lost has not been made up for yet."""
        return self.restored and not self.restated


async def ensure_epoch(
    connection: Connection, *, wall: datetime, force: bool = False, restored: bool = True
) -> Epoch:
    """Return the present epoch, after opening it if this database is not the one it was.

    ``force`` opens one by hand, which counts as a restore unless ``restored`` says otherwise. Of
    several callers at once one opens it. Raises ``DatabaseTooOldError``.
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
            SELECT here.*, e.epoch, e.restated_at IS NOT NULL AS restated, e.restored,
                   greatest(e.opened_at, e.alive_at,
                            (SELECT max(saved_at) FROM relay_cursor)) AS last_alive_at,
                   (e.system_identifier, e.timeline, e.database_oid)
                   = (here.system_identifier, here.timeline, here.database_oid) AS same
              FROM here
              LEFT JOIN (SELECT * FROM relay_epochs ORDER BY epoch DESC LIMIT 1) e ON true
            """
        )
        assert row is not None
        if row["same"] and not force:
            return Epoch(row["epoch"], row["restated"], row["restored"])
        _require_young(row["last_alive_at"], wall=wall)
        number = max(int(wall.timestamp() * 1000), (row["epoch"] or 0) + 1)
        first = row["epoch"] is None
        # A database that has just been made has nothing to say again.
        await connection.execute(
            """
            INSERT INTO relay_epochs
                (epoch, system_identifier, timeline, database_oid, opened_at, restated_at, restored)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            number,
            row["system_identifier"],
            row["timeline"],
            row["database_oid"],
            wall,
            wall if first else None,
            restored and not first,
        )
        await connection.execute(
            "INSERT INTO relay_cursor (epoch, xid, position, saved_at) VALUES ($1, '0', 0, $2)",
            number,
            wall,
        )
        if not first:
            log.warning("epoch opened", epoch=number, restored=restored)
        return Epoch(number, first, restored and not first)


def _require_young(last_alive_at: datetime | None, *, wall: datetime) -> None:
    if last_alive_at is not None and wall - last_alive_at > LEDGER_KEPT:
        raise DatabaseTooOldError(
            f"this database was last alive on {last_alive_at:%Y-%m-%d}, and the ledger remembers"
            f" {LEDGER_KEPT.days} days: who was erased since cannot be known, restore a younger one"
        )


async def epoch_in(
    connection: Connection,
    cluster_id: str,
    *,
    wall: datetime,
    event_retention: timedelta = EVENTS_KEPT,
) -> Epoch:
    """Return the present epoch in a Kafka cluster, after opening it if the cluster is another one.

    What the lost cluster would still hold of our commands and events is then to be sent again.
    """
    async with connection.transaction():
        epoch = await ensure_epoch(connection, wall=wall)
        known: str | None = await connection.fetchval(
            """
            SELECT cluster_id FROM relay_cursor
             WHERE cluster_id IS NOT NULL ORDER BY epoch DESC LIMIT 1
            """
        )
        if known not in {None, cluster_id}:
            log.warning("kafka is another cluster, events are said again", epoch=epoch.number)
            await _rewind(connection, since=wall - event_retention)
            epoch = await ensure_epoch(connection, wall=wall, force=True, restored=epoch.is_behind)
        await connection.execute(
            """
            UPDATE relay_cursor SET cluster_id = $2
             WHERE epoch = $1 AND cluster_id IS DISTINCT FROM $2
            """,
            epoch.number,
            cluster_id,
        )
    return epoch


async def _rewind(connection: Connection, *, since: datetime) -> None:
    """Put the cursors of all epochs back before what was written since; never on."""
    await connection.execute(
        """
        UPDATE relay_cursor c
           SET xid = kept.first, position = 0
          FROM (SELECT epoch, min(xid) AS first
                  FROM outbox
                 WHERE written_at >= $1
                 GROUP BY epoch) AS kept
         WHERE c.epoch = kept.epoch AND (c.xid, c.position) > (kept.first, 0)
        """,
        since,
    )


async def behind_since(connection: Connection) -> datetime | None:
    """Say when a restore opened the present epoch; None once it has been made up for."""
    opened_at: datetime | None = await connection.fetchval(
        """
        SELECT opened_at FROM relay_epochs
         WHERE epoch = (SELECT max(epoch) FROM relay_epochs)
           AND restored AND restated_at IS NULL
        """
    )
    return opened_at


async def note_alive(database: "Connection | Pool", *, wall: datetime) -> None:
    """Note that the database is in use, so that a copy of it tells its age."""
    await database.execute(
        """
        UPDATE relay_epochs SET alive_at = $1
         WHERE epoch = (SELECT max(epoch) FROM relay_epochs)
        """,
        wall,
    )


async def mark_restated(connection: Connection, epoch: Epoch, *, wall: datetime) -> None:
    """Record that everything has been said again in this epoch."""
    await connection.execute(
        "UPDATE relay_epochs SET restated_at = $2 WHERE epoch = $1", epoch.number, wall
    )
