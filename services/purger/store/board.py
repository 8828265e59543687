"""What people look at."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection
from contracts.ledger import LedgerEntry
from contracts.purges import Plan
from services.purger.store.plans import PLAN, plan_of


@dataclass(frozen=True, slots=True)
class OpenPurge:
    """A purge with the steps that nobody has answered yet; those of one not accepted are not known."""

    tenant_id: UUID
    plan: Plan
    open_steps: list[str]
    receipt_code: str | None


_OPEN_PURGE = f"""
    {PLAN}, receipt_code,
    ARRAY(SELECT s.step FROM steps s
           WHERE s.purge_id = purges.purge_id AND s.erased_at IS NULL
           ORDER BY s.step) AS open_steps
"""  # noqa: S608 - made of constants


def _open_purge_of(row: asyncpg.Record) -> OpenPurge:
    return OpenPurge(row["tenant_id"], plan_of(row), row["open_steps"], row["receipt_code"])


async def open_purges(
    connection: Connection,
    *,
    erase_by_before: datetime | None,
    after: OpenPurge | None,
    limit: int,
) -> list[OpenPurge]:
    """Page through the purges that are not over, the most urgent first."""
    rows = await connection.fetch(
        f"""
        SELECT {_OPEN_PURGE}
          FROM purges
         WHERE phase NOT IN ('closed', 'withdrawn')
           AND ($1::timestamptz IS NULL OR erase_by <= $1)
           AND ($2::timestamptz IS NULL OR (erase_by, purge_id) > ($2, $3::uuid))
         ORDER BY erase_by, purge_id
         LIMIT $4
        """,  # noqa: S608 - made of constants
        erase_by_before,
        after.plan.erase_by if after else None,
        after.plan.purge_id if after else None,
        limit,
    )
    return [_open_purge_of(row) for row in rows]


async def running_purges(connection: Connection, *, limit: int) -> list[OpenPurge]:
    """List purges that have begun and are not over, the most urgent first."""
    rows = await connection.fetch(
        f"""
        SELECT {_OPEN_PURGE} FROM purges
         WHERE phase IN ('requested', 'erasing', 'erased')
         ORDER BY erase_by, purge_id
         LIMIT $1
        """,  # noqa: S608 - made of constants
        limit,
    )
    return [_open_purge_of(row) for row in rows]


async def next_purges(connection: Connection, *, limit: int) -> list[OpenPurge]:
    """List purges that have not begun, the next to start first."""
    rows = await connection.fetch(
        f"""
        SELECT {_OPEN_PURGE} FROM purges
         WHERE phase = 'planned'
         ORDER BY start_at, purge_id
         LIMIT $1
        """,  # noqa: S608 - made of constants
        limit,
    )
    return [_open_purge_of(row) for row in rows]


async def purges_of_tenant(connection: Connection, tenant_id: UUID) -> list[OpenPurge]:
    """List all purges of a tenant, in whatever phase, the earliest clock first."""
    rows = await connection.fetch(
        f"""
        SELECT {_OPEN_PURGE} FROM purges
         WHERE tenant_id = $1
         ORDER BY clock_started_at, scope, purge_id
        """,  # noqa: S608 - made of constants
        tenant_id,
    )
    return [_open_purge_of(row) for row in rows]


async def count_waiting(connection: Connection, *, now: datetime) -> int:
    """Count the purges that could start now and have not begun."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM purges WHERE phase = 'planned' AND start_at <= $1 AND NOT held", now
    )
    return count


async def latest_receipts(connection: Connection, *, limit: int) -> list[LedgerEntry]:
    """Read the last entries of receipts, the newest first."""
    rows = await connection.fetch(
        "SELECT entry FROM ledger WHERE receipt_code IS NOT NULL ORDER BY number DESC LIMIT $1",
        limit,
    )
    return [LedgerEntry.decode(row["entry"]) for row in rows]
