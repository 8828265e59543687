"""Timelines: the last things that were heard of each tenant."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool
from services.installer.domain.timelines import KEPT, TOLD_AGAIN, Entry


async def add_entry(
    connection: Connection, tenant_id: UUID, entry: Entry, *, now: datetime
) -> None:
    """Add to a tenant's timeline, of which the latest entries stay; call it under its lock.

    Of entries that are told again and again the last one in a row stays, so
    that they do not crowd the others out.
    """
    await connection.execute(
        """
        WITH added AS (
            INSERT INTO timelines (tenant_id, at, what) VALUES ($1, $2, $3)),
        known AS (
            SELECT entry_id, what, row_number() OVER (ORDER BY entry_id DESC) AS nth
              FROM timelines
             WHERE tenant_id = $1)
        DELETE FROM timelines
         USING known
         WHERE timelines.entry_id = known.entry_id
           AND (nth >= $4 OR nth = 1 AND known.what = $3 AND $5)
        """,
        tenant_id,
        now,
        entry,
        KEPT,
        entry in TOLD_AGAIN,
    )


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that was heard, and when."""

    at: datetime
    what: Entry


async def timeline_of(pool: Pool, tenant_id: UUID) -> list[TimelineEntry]:
    """Read a tenant's timeline, the oldest entry first."""
    rows = await pool.fetch(
        "SELECT at, what FROM timelines WHERE tenant_id = $1 ORDER BY entry_id", tenant_id
    )
    return [TimelineEntry(row["at"], Entry(row["what"])) for row in rows]
