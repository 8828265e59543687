"""How many tenants fall due on which day."""

from datetime import date, datetime, timedelta

from chassis.database import Connection
from services.purger.forecast import Day


async def due_by_day(connection: Connection, *, until: date) -> list[Day]:
    """Count what starts and what must be done on each day up to one, also on days that are over.

    What a legal hold keeps has no such day.
    """
    rows = await connection.fetch(
        """
        SELECT day, sum(starting)::bigint AS starting, sum(ending)::bigint AS ending
          FROM (SELECT (start_at AT TIME ZONE 'UTC')::date AS day, 1 AS starting, 0 AS ending
                  FROM purges WHERE phase = 'planned' AND NOT held
                 UNION ALL
                SELECT (erase_by AT TIME ZONE 'UTC')::date, 0, 1
                  FROM purges WHERE phase NOT IN ('closed', 'withdrawn') AND NOT held) AS dates
         WHERE day <= $1
         GROUP BY day
         ORDER BY day
        """,
        until,
    )
    return [Day(**row) for row in rows]


async def note_forecast(connection: Connection, *, now: datetime, days_ahead: int) -> None:
    """Keep how many tenants are planned for each of the coming days, where that is not kept yet.

    What was forecast for days a month ago is forgotten.
    """
    today = now.date()
    await connection.execute(
        """
        INSERT INTO forecasts (day, tenants, made_at)
        SELECT d.day, (SELECT count(DISTINCT p.tenant_id) FROM purges p
                        WHERE p.phase = 'planned' AND NOT p.held
                          AND p.start_at >= d.day::timestamp AT TIME ZONE 'UTC'
                          AND p.start_at < (d.day + 1)::timestamp AT TIME ZONE 'UTC'), $2
          FROM (SELECT $1::date + ahead AS day FROM generate_series(1, $3::integer) AS ahead) AS d
        ON CONFLICT DO NOTHING
        """,
        today,
        now,
        days_ahead,
    )
    await connection.execute("DELETE FROM forecasts WHERE day < $1", today - timedelta(days=30))


async def forecast_of(connection: Connection, day: date) -> int | None:
    """Find how many tenants were forecast for a day, or for the one before if those were more.

    What is counted as due within a day may be of two. None where no forecast was made of this day.
    """
    found: int | None = await connection.fetchval(
        """
        SELECT max(tenants) FROM forecasts
         WHERE day BETWEEN $1::date - 1 AND $1
        HAVING bool_or(day = $1)
        """,
        day,
    )
    return found
