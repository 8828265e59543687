"""The SQL of usage: a day's counts by tenant, and what is left of them without one."""

from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.database import Connection, Pool
from chassis.erasure import NOBODY
from services.config.domain.usage import MOST_A_DAY, Batch, Cell, size_of

GRACE: Final = timedelta(hours=1)
"""How long after its end a day waits for transactions that began in it."""

KEPT: Final = timedelta(days=3 * 366)
"""How long statistics are kept, which name nobody."""


async def add_batch(
    connection: Connection, tenant_id: UUID, batch: Batch, *, now: datetime
) -> bool:
    """Count a batch; False where it was counted before. Needs `act_for`."""
    is_new = await connection.fetchval(
        """
        INSERT INTO usage_batches (tenant_id, batch_id, taken_at) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        tenant_id,
        batch.batch_id,
        now,
    )
    if not is_new:
        return False
    things = await connection.fetchval(
        "SELECT things FROM tenant_totals WHERE tenant_id = $1", tenant_id
    )
    await connection.execute(
        """
        INSERT INTO usage_counts AS c (tenant_id, day, feature, app, size, uses)
        SELECT $1, $2, feature, coalesce((SELECT app FROM error_apps WHERE tenant_id = $1), ''),
               $3, sum(uses)
          FROM unnest($4::text[], $5::int[]) AS u(feature, uses)
         GROUP BY feature
         ORDER BY feature
        ON CONFLICT (tenant_id, day, feature) DO UPDATE
           SET uses = least(c.uses + excluded.uses, $6), size = excluded.size
        """,
        tenant_id,
        now.date(),
        size_of(things or 0),
        [use.feature for use in batch.uses],
        [use.uses for use in batch.uses],
        MOST_A_DAY,
    )
    return True


async def roll_up(pool: Pool, *, now: datetime) -> int:
    """Make days that are over statistics without tenants; return how many rows named one."""
    async with pool.acquire() as connection, connection.transaction():
        # Two at once would add what each has seen.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('usage', 0))")
        rolled = await connection.fetchval(
            """
            WITH over AS (
                DELETE FROM usage_counts WHERE day < $1 AND tenant_id <> $2
                RETURNING day, app, feature, size, uses),
            kept AS (
                INSERT INTO usage_days AS d (day, app, feature, size, tenants, uses)
                SELECT day, app, feature, size, count(*), sum(uses)
                  FROM over
                 WHERE app <> ''
                 GROUP BY day, app, feature, size
                ON CONFLICT (day, app, feature, size) DO UPDATE
                   SET tenants = d.tenants + excluded.tenants, uses = d.uses + excluded.uses)
            SELECT count(*) FROM over
            """,
            (now - GRACE).date(),
            NOBODY,
        )
        await connection.execute(
            "DELETE FROM usage_batches WHERE taken_at < $1 AND tenant_id <> $2",
            now - timedelta(days=1),
            NOBODY,
        )
        await connection.execute("DELETE FROM usage_days WHERE day < $1", (now - KEPT).date())
    return int(rolled)


async def cells(connection: Connection, *, since: date) -> list[Cell]:
    """Read what is kept since a day. Not all of it may be shown: see the rule."""
    rows = await connection.fetch(
        """
        SELECT day, app, feature, size, tenants, uses FROM usage_days WHERE day >= $1
         ORDER BY day, app, feature, size
        """,
        since,
    )
    return [Cell(**row) for row in rows]
