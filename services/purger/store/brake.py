"""The brake, and who pulled and released it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from chassis.database import Connection
from services.purger.domain.brake import Sweep


@dataclass(frozen=True, slots=True)
class Brake:
    """Whether purges are held back, since when and why."""

    engaged_at: datetime | None
    reason: str | None
    last: Sweep | None


async def lock_brake(connection: Connection) -> Brake:
    """Read the brake and keep other sweeps and releases out until the transaction ends."""
    row = await connection.fetchrow("SELECT * FROM brake FOR UPDATE")
    assert row is not None
    return _brake_of(row)


async def read_brake(connection: Connection) -> Brake:
    """Read the brake."""
    row = await connection.fetchrow("SELECT * FROM brake")
    assert row is not None
    return _brake_of(row)


def _brake_of(row: asyncpg.Record) -> Brake:
    last = Sweep(row["swept_at"], row["swept_wall_at"]) if row["swept_at"] else None
    return Brake(row["engaged_at"], row["reason"], last)


async def note_sweep(connection: Connection, sweep: Sweep) -> None:
    """Remember both clocks of a sweep."""
    await connection.execute(
        "UPDATE brake SET swept_at = $1, swept_wall_at = $2", sweep.business_at, sweep.wall_at
    )


async def engage_brake(connection: Connection, reason: str, *, now: datetime) -> None:
    """Hold purges back from now on."""
    await connection.execute("UPDATE brake SET engaged_at = $1, reason = $2", now, reason)


async def count_due_tenants(connection: Connection, *, now: datetime, within: timedelta) -> int:
    """Count the tenants that leave at once.

    That are those with a purge that is due, or that was asked for ``within``
    the time before now, without those that were let through.
    """
    due: int = await connection.fetchval(
        """
        SELECT count(DISTINCT tenant_id) FROM purges
         WHERE let_through_at IS NULL
           AND (phase = 'planned' AND start_at <= $1 AND NOT held
                OR asked_at > $1::timestamptz - $2::interval)
        """,
        now,
        within,
    )
    return due


async def count_tenants(connection: Connection, *, most: int) -> int:
    """Count all tenants, but look at ``most`` of them and no more: there may be a million."""
    counted: int = await connection.fetchval(
        "SELECT count(*) FROM (SELECT FROM tenants LIMIT $1) AS looked_at", most
    )
    return counted


async def sign_release(
    connection: Connection, *, engaged_at: datetime, person: str, name: str, now: datetime
) -> None:
    """Record that a person wants the purges let through; a second time changes nothing."""
    await connection.execute(
        """
        INSERT INTO brake_releases (engaged_at, person, name, released_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
        """,
        engaged_at,
        person,
        name,
        now,
    )


async def releases(connection: Connection, *, engaged_at: datetime) -> list[tuple[str, datetime]]:
    """List who released a holding, and when, the first first."""
    rows = await connection.fetch(
        """
        SELECT name, released_at FROM brake_releases WHERE engaged_at = $1
         ORDER BY released_at, person
        """,
        engaged_at,
    )
    return [(row["name"], row["released_at"]) for row in rows]


async def release_brake(connection: Connection, *, now: datetime) -> None:
    """Let through all purges that are due now, and hold none back until there is a new reason."""
    await connection.execute("UPDATE brake SET engaged_at = NULL, reason = NULL")
    await connection.execute(
        """
        UPDATE purges SET let_through_at = $1
         WHERE let_through_at IS NULL
           AND (phase = 'planned' AND start_at <= $1 AND NOT held OR asked_at IS NOT NULL)
        """,
        now,
    )


@dataclass(frozen=True, slots=True)
class Pull:
    """Who pulled the brake, when, and why, in words of their own."""

    engaged_at: datetime
    name: str
    reason: str | None


async def note_pull(connection: Connection, pull: Pull) -> None:
    """Keep who pulled the brake."""
    await connection.execute(
        "INSERT INTO brake_pulls (engaged_at, name, reason) VALUES ($1, $2, $3)",
        pull.engaged_at,
        pull.name,
        pull.reason,
    )


async def pull_of(connection: Connection, *, engaged_at: datetime) -> Pull | None:
    """Find who pulled the brake; None for one that engaged by itself."""
    row = await connection.fetchrow(
        "SELECT engaged_at, name, reason FROM brake_pulls WHERE engaged_at = $1", engaged_at
    )
    return Pull(**row) if row else None
