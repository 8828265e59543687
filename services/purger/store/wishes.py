"""Wishes of tenants for an early erasure."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from contracts.purges import Wish, WishedBy


@dataclass(frozen=True, slots=True)
class KeptWish:
    """A wish for a tenant's erasure with who made it; it counts from ``asked_at`` on, if ever."""

    wish_id: UUID
    tenant_id: UUID
    made_by: str
    asked_by: str | None
    confirmed_by: str | None
    asked_at: datetime | None
    withdrawn_at: datetime | None


async def record_wish(
    connection: Connection,
    wish_id: UUID,
    tenant_id: UUID,
    *,
    made_by: WishedBy,
    asked_at: datetime | None,
    now: datetime,
    reason: str | None = None,
    asked_by: str | None = None,
) -> bool:
    """Keep a wish; False for one that is known, withdrawn ones among them.

    Without ``asked_at`` it does not count before it is confirmed.
    """
    return (
        await connection.fetchval(
            """
            INSERT INTO wishes (wish_id, tenant_id, made_by, recorded_at, asked_at, reason, asked_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT DO NOTHING
            RETURNING true
            """,
            wish_id,
            tenant_id,
            made_by,
            now,
            asked_at,
            reason,
            asked_by,
        )
        is True
    )


async def confirm_wish(
    connection: Connection, wish_id: UUID, *, confirmed_by: str, now: datetime
) -> None:
    """Let a wish count from now on; one that counts already, or was withdrawn, stays as it is."""
    await connection.execute(
        """
        UPDATE wishes SET confirmed_by = $2, asked_at = $3
         WHERE wish_id = $1 AND asked_at IS NULL AND withdrawn_at IS NULL
        """,
        wish_id,
        confirmed_by,
        now,
    )


async def withdraw_wish(
    connection: Connection,
    wish_id: UUID,
    tenant_id: UUID,
    *,
    made_by: WishedBy,
    now: datetime,
    withdrawn_by: str | None = None,
) -> bool:
    """Let a wish count no longer; False where it did not stand.

    One that we have not heard of yet will not count when it comes.
    """
    return (
        await connection.fetchval(
            """
            INSERT INTO wishes AS w (wish_id, tenant_id, made_by, recorded_at, withdrawn_at,
                                     withdrawn_by)
            VALUES ($1, $2, $3, $4, $4, $5)
            ON CONFLICT (wish_id) DO UPDATE
               SET withdrawn_at = excluded.withdrawn_at, withdrawn_by = excluded.withdrawn_by
             WHERE w.withdrawn_at IS NULL AND w.tenant_id = excluded.tenant_id
            RETURNING xmax <> 0
            """,
            wish_id,
            tenant_id,
            made_by,
            now,
            withdrawn_by,
        )
        is True
    )


async def note_late_withdrawal(
    connection: Connection, wish_id: UUID, tenant_id: UUID, *, made_by: WishedBy, now: datetime
) -> None:
    """Remember that a wish was to be withdrawn when it was too late, as it may not stay so.

    It is not too late for one that we have not heard of yet: it will not count when it comes.
    """
    await connection.execute(
        """
        INSERT INTO wishes AS w (wish_id, tenant_id, made_by, recorded_at, withdrawn_at)
        VALUES ($1, $2, $3, $4, $4)
        ON CONFLICT (wish_id) DO UPDATE SET withdrawal_asked_at = excluded.withdrawn_at
         WHERE w.tenant_id = excluded.tenant_id
        """,
        wish_id,
        tenant_id,
        made_by,
        now,
    )


async def withdraw_late_wishes(connection: Connection, tenant_id: UUID, *, now: datetime) -> None:
    """Withdraw what was to be withdrawn when it seemed too late."""
    await connection.execute(
        """
        UPDATE wishes SET withdrawn_at = $2
         WHERE tenant_id = $1 AND withdrawal_asked_at IS NOT NULL AND withdrawn_at IS NULL
        """,
        tenant_id,
        now,
    )


async def wish(connection: Connection, wish_id: UUID) -> KeptWish | None:
    """Find a wish."""
    row = await connection.fetchrow(
        """
        SELECT wish_id, tenant_id, made_by, asked_by, confirmed_by, asked_at, withdrawn_at
          FROM wishes WHERE wish_id = $1
        """,
        wish_id,
    )
    return None if row is None else KeptWish(**row)


async def standing_wishes(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[Wish, ...]]:
    """List the wishes of these tenants that count and were not withdrawn, the first first."""
    found: dict[UUID, tuple[Wish, ...]] = dict.fromkeys(tenant_ids, ())
    rows = await connection.fetch(
        """
        SELECT tenant_id, wish_id, asked_at, made_by
          FROM wishes
         WHERE tenant_id = ANY($1::uuid[]) AND asked_at IS NOT NULL AND withdrawn_at IS NULL
         ORDER BY asked_at, wish_id
        """,
        list(tenant_ids),
    )
    for row in rows:
        made = Wish(wish_id=row["wish_id"], asked_at=row["asked_at"], by=row["made_by"])
        found[row["tenant_id"]] += (made,)
    return found


async def withdrawn_wishes(
    connection: Connection, tenant_ids: Collection[UUID], *, since: datetime
) -> dict[UUID, tuple[UUID, ...]]:
    """List the wishes that these tenants themselves withdrew since a time."""
    found: dict[UUID, tuple[UUID, ...]] = dict.fromkeys(tenant_ids, ())
    rows = await connection.fetch(
        """
        SELECT tenant_id, array_agg(wish_id ORDER BY withdrawn_at, wish_id) AS wish_ids
          FROM wishes
         WHERE tenant_id = ANY($1::uuid[]) AND made_by = $2 AND withdrawn_at >= $3
         GROUP BY tenant_id
        """,
        list(tenant_ids),
        WishedBy.CUSTOMER,
        since,
    )
    return found | {row["tenant_id"]: tuple(row["wish_ids"]) for row in rows}


async def drop_old_wishes(connection: Connection, *, before: datetime) -> None:
    """Forget wishes made before a time of tenants of whom nothing is known any more."""
    await connection.execute(
        """
        DELETE FROM wishes w
         WHERE w.recorded_at < $1
           AND NOT EXISTS (SELECT 1 FROM purge_states s WHERE s.tenant_id = w.tenant_id)
           AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = w.tenant_id)
        """,
        before,
    )
