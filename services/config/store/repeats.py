"""Idempotency keys: what was created under which, for a day. Needs `act_for`, as things do."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool


@dataclass(frozen=True, slots=True)
class Repeat:
    """What was created under a key before."""

    fingerprint: bytes
    thing_id: UUID


async def claim(
    connection: Connection,
    tenant_id: UUID,
    key: bytes,
    fingerprint: bytes,
    thing_id: UUID,
    *,
    now: datetime,
    kept_since: datetime,
) -> Repeat | None:
    """Take a key for what this transaction creates; say what is there where it was taken before.

    Of two that come at once the second waits until the first has ended. A key
    from before ``kept_since`` is free again.
    """
    taken = await connection.fetchval(
        """
        INSERT INTO idempotency_keys AS k (tenant_id, key, fingerprint, thing_id, made_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, key) DO UPDATE
           SET fingerprint = excluded.fingerprint, thing_id = excluded.thing_id,
               made_at = excluded.made_at
         WHERE k.made_at <= $6
        RETURNING true
        """,
        tenant_id,
        key,
        fingerprint,
        thing_id,
        now,
        kept_since,
    )
    if taken:
        return None
    row = await connection.fetchrow(
        "SELECT fingerprint, thing_id FROM idempotency_keys WHERE tenant_id = $1 AND key = $2",
        tenant_id,
        key,
    )
    assert row is not None
    return Repeat(**row)


async def forget(pool: Pool, *, made_before: datetime, limit: int) -> int:
    """Forget up to ``limit`` keys of all tenants from before this time; return how many."""
    gone = await pool.execute(
        """
        DELETE FROM idempotency_keys
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys WHERE made_at < $1 LIMIT $2))
        """,
        made_before,
        limit,
    )
    return int(gone.removeprefix("DELETE "))
