"""Purges that may come late, and who was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from contracts.purges import Phase
from services.purger.domain.watch import Level

# A purge with a step that is still open is not finished, whatever its receipt says by now. What a
# legal hold keeps is neither late nor done, and has figures of its own.
_UNFINISHED = """
    p.phase NOT IN ('closed', 'withdrawn')
    AND (p.phase <> 'planned' OR p.start_at <= $1 AND NOT p.held)
"""
_LEVEL = """
    (SELECT l.level FROM unnest($2::text[], $3::timestamptz[]) AS l(level, erase_by)
      WHERE p.erase_by <= l.erase_by
      ORDER BY l.erase_by
      LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class Escalation:
    """A purge that has come nearer to its last day, or past it."""

    purge_id: UUID
    level: Level
    phase: Phase
    erase_by: datetime
    open_steps: list[str]


async def note_escalations(
    connection: Connection, levels: Mapping[Level, datetime], *, now: datetime
) -> list[Escalation]:
    """Write down which unfinished purges have reached a level, and list those that just did.

    Each level is noted once for each purge, whoever else is at it.
    """
    rows = await connection.fetch(
        f"""
        WITH noted AS (
            INSERT INTO escalations (purge_id, level, noted_at)
            SELECT p.purge_id, {_LEVEL}, $1
              FROM purges p
             WHERE {_UNFINISHED} AND p.erase_by <= $4
            ON CONFLICT DO NOTHING
            RETURNING purge_id, level)
        SELECT p.purge_id, noted.level, p.phase, p.erase_by,
               ARRAY(SELECT s.step FROM steps s
                      WHERE s.purge_id = p.purge_id AND s.erased_at IS NULL
                      ORDER BY s.step) AS open_steps
          FROM noted JOIN purges p USING (purge_id)
         ORDER BY p.erase_by, p.purge_id
        """,  # noqa: S608 - made of constants
        now,
        list(levels),
        list(levels.values()),
        max(levels.values()),
    )
    return [
        Escalation(
            row["purge_id"],
            Level(row["level"]),
            Phase(row["phase"]),
            row["erase_by"],
            row["open_steps"],
        )
        for row in rows
    ]


async def count_by_phase(connection: Connection) -> dict[Phase, int]:
    """Count all purges by how far they have come."""
    rows = await connection.fetch("SELECT phase, count(*) AS count FROM purges GROUP BY phase")
    return {Phase(row["phase"]): row["count"] for row in rows}


async def count_by_level(
    connection: Connection, levels: Mapping[Level, datetime], *, now: datetime
) -> dict[Level, int]:
    """Count the unfinished purges that have reached a level, each at its gravest."""
    rows = await connection.fetch(
        f"""
        SELECT {_LEVEL} AS level, count(*) AS count
          FROM purges p
         WHERE {_UNFINISHED} AND p.erase_by <= $4
         GROUP BY 1
        """,  # noqa: S608 - made of constants
        now,
        list(levels),
        list(levels.values()),
        max(levels.values()),
    )
    return {Level(row["level"]): row["count"] for row in rows}
