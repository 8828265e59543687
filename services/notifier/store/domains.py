"""How much mail each domain has been given, by a keyed hash of its name."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from chassis.database import Connection, Pool


async def reserve_slots(
    connection: Connection,
    wanted: Mapping[bytes, int],
    *,
    wall: datetime,
    interval: timedelta,
    burst: timedelta,
) -> dict[bytes, datetime]:
    """Give each domain so many slots, one an ``interval``; answer when the first of them is.

    An idle domain's slots lie up to ``burst`` in the past, which is to say that they are free at
    once. Rows are taken in one order, so that two batches cannot wait for each other.
    """
    rows = await connection.fetch(
        """
        INSERT INTO mail_domains AS known (domain_index, free_at)
        SELECT domain_index, $3::timestamptz - $5::interval + wanted * $4::interval
          FROM unnest($1::bytea[], $2::int[]) AS w(domain_index, wanted)
         ORDER BY domain_index
        ON CONFLICT (domain_index) DO UPDATE
           SET free_at = greatest(known.free_at, $3::timestamptz - $5::interval)
                         + (excluded.free_at - ($3::timestamptz - $5::interval))
        RETURNING domain_index, free_at
        """,
        list(wanted),
        list(wanted.values()),
        wall,
        interval,
        burst,
    )
    return {
        row["domain_index"]: row["free_at"] - wanted[row["domain_index"]] * interval for row in rows
    }


async def leave_alone(connection: Connection, domain_index: bytes, *, until: datetime) -> None:
    """Give a domain no slot before this time."""
    await connection.execute(
        """
        INSERT INTO mail_domains AS known (domain_index, free_at)
        VALUES ($1, $2)
        ON CONFLICT (domain_index) DO UPDATE
           SET free_at = greatest(known.free_at, excluded.free_at)
        """,
        domain_index,
        until,
    )


async def forget_domains(pool: Pool, *, idle_since: datetime) -> None:
    """Forget domains to which nothing has been sent since."""
    await pool.execute("DELETE FROM mail_domains WHERE free_at < $1", idle_since)
