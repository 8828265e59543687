"""What a restored database takes over from its topics."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from contracts.purges import Hold, Plan, Wish, WishedBy
from contracts.tenants import Version
from services.purger.store.plans import PLAN, values_of
from services.purger.store.wishes import record_wish, withdraw_wish


async def versions_said(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, Version]:
    """Read the versions of what we know to have said of these tenants' purges."""
    rows = await connection.fetch(
        "SELECT tenant_id, epoch, n FROM purge_states WHERE tenant_id = ANY($1::uuid[])",
        list(tenant_ids),
    )
    return {row["tenant_id"]: Version(epoch=row["epoch"], n=row["n"]) for row in rows}


async def take_over_version(connection: Connection, tenant_id: UUID, version: Version) -> None:
    """Go on from the version that was said of a tenant's purges; never back."""
    await connection.execute(
        """
        INSERT INTO purge_states AS s (tenant_id, epoch, n) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id) DO UPDATE
           SET epoch = excluded.epoch, n = excluded.n, forgotten_at = NULL
         WHERE (s.epoch, s.n) < (excluded.epoch, excluded.n)
        """,
        tenant_id,
        version.epoch,
        version.n,
    )


async def take_over_plan(
    connection: Connection, tenant_id: UUID, plan: Plan, *, now: datetime
) -> None:
    """Make a purge what this plan says; one that is asked for is asked for again at once."""
    await connection.execute(
        f"""
        INSERT INTO purges ({PLAN}, changed_at, ask_again_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                CASE WHEN $10 = 'requested' THEN $13::timestamptz END)
        ON CONFLICT (purge_id) DO UPDATE
           SET deadline = excluded.deadline, erase_by = excluded.erase_by,
               start_at = excluded.start_at, rule_version = excluded.rule_version,
               clock = excluded.clock, phase = excluded.phase, changed_at = excluded.changed_at,
               ask_again_at = excluded.ask_again_at, held = excluded.held, times_asked = 0
        """,  # noqa: S608 - made of constants
        *values_of(tenant_id, plan),
        now,
    )


async def take_over_wishes(
    connection: Connection,
    tenant_id: UUID,
    wishes: Sequence[Wish],
    withdrawn: Collection[UUID],
    *,
    now: datetime,
) -> None:
    """Let the wishes of a tenant that stand be these; who asked and why is not said on the bus.

    Those that were ``withdrawn`` will not count when they come once more.
    """
    for wish_id in withdrawn:
        await withdraw_wish(connection, wish_id, tenant_id, made_by=WishedBy.CUSTOMER, now=now)
    for told in wishes:
        await record_wish(
            connection,
            told.wish_id,
            tenant_id,
            made_by=WishedBy(told.by),
            asked_at=told.asked_at,
            now=now,
        )
    await connection.execute(
        """
        UPDATE wishes SET withdrawn_at = $3
         WHERE tenant_id = $1 AND withdrawn_at IS NULL AND asked_at IS NOT NULL
           AND wish_id <> ALL($2::uuid[])
        """,
        tenant_id,
        [told.wish_id for told in wishes],
        now,
    )


async def take_over_holds(
    connection: Connection, tenant_id: UUID, holds: Sequence[Hold], *, why: str, now: datetime
) -> None:
    """Let the holds of a tenant that stand be these; who placed one and why is not on the bus."""
    await connection.execute(
        """
        UPDATE legal_holds SET released_by = $3, release_reason = $3, released_at = $4
         WHERE tenant_id = $1 AND released_at IS NULL AND hold_id <> ALL($2::uuid[])
        """,
        tenant_id,
        [told.hold_id for told in holds],
        why,
        now,
    )
    for told in holds:
        await connection.execute(
            """
            INSERT INTO legal_holds (hold_id, tenant_id, classes, basis, reason, placed_by, placed_at)
            VALUES ($1, $2, $3, $4, $5, $5, $6)
            ON CONFLICT (hold_id) DO NOTHING
            """,
            told.hold_id,
            tenant_id,
            list(told.classes),
            told.basis,
            why,
            told.placed_at,
        )


async def agree_with_ledger(connection: Connection, *, now: datetime) -> None:
    """Close the purges that the ledger proves, and ask again for those that it knows as begun."""
    await connection.execute(
        """
        WITH recorded AS (
            SELECT purge_id, bool_or(part = 'receipt-closed') AS closed
              FROM ledger
             WHERE part IN ('wave-1', 'wave-2', 'receipt-closed')
             GROUP BY purge_id)
        UPDATE purges p
           SET phase = CASE WHEN closed THEN 'closed' ELSE 'requested' END, changed_at = $1,
               ask_again_at = CASE WHEN closed THEN NULL ELSE $1::timestamptz END
          FROM recorded
         WHERE p.purge_id = recorded.purge_id
           AND (closed AND p.phase <> 'closed'
                OR NOT closed AND p.phase IN ('planned', 'withdrawn'))
        """,
        now,
    )
