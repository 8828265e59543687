"""Purges: planned, due, asked for, under way, over."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Connection
from contracts.classes import DataClass
from contracts.purges import Phase, Plan, Scope
from contracts.tenants import Version
from services.purger.domain.reminders import CLOCKS_WITHOUT_REMINDERS, REMINDERS, Reminder
from services.purger.domain.steps import LONGEST_SILENCE, Purge
from services.purger.store.plans import PLAN, part_of, plan_of, values_of


async def lock_plans(connection: Connection, tenant_id: UUID) -> list[Plan]:
    """List all purges of a tenant, in whatever phase, and keep others from moving them on."""
    return (await lock_plans_of(connection, [tenant_id]))[tenant_id]


async def lock_plans_of(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, list[Plan]]:
    """Do the same of several tenants."""
    rows = await connection.fetch(
        f"""
        SELECT {PLAN} FROM purges WHERE tenant_id = ANY($1::uuid[])
         ORDER BY purge_id
           FOR UPDATE
        """,  # noqa: S608 - made of constants
        list(tenant_ids),
    )
    found: dict[UUID, list[Plan]] = {tenant_id: [] for tenant_id in tenant_ids}
    for row in rows:
        found[row["tenant_id"]].append(plan_of(row))
    return found


async def schedule_purge(
    connection: Connection,
    tenant_id: UUID,
    plan: Plan,
    *,
    now: datetime,
    traceparent: str | None = None,
) -> None:
    """Write a plan down, or write it anew; a purge that is under way stays as it is.

    One whose end the ledger proves is over, whatever a state says that is heard of once more.
    ``traceparent`` names the trace in which it goes on when it is due.
    """
    await connection.execute(
        f"""
        INSERT INTO purges AS p ({PLAN}, changed_at, traceparent, ask_again_at)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, phase, $11, $12, $13, $14,
               CASE WHEN phase = 'requested' THEN $13::timestamptz END
          FROM (SELECT CASE WHEN EXISTS (SELECT FROM ledger
                                          WHERE purge_id = $1 AND part = 'receipt-closed')
                            THEN 'closed' ELSE $10 END AS phase) AS known
        ON CONFLICT (purge_id) DO UPDATE
           SET deadline = excluded.deadline, erase_by = excluded.erase_by,
               start_at = excluded.start_at, rule_version = excluded.rule_version,
               clock = excluded.clock, phase = excluded.phase, changed_at = excluded.changed_at,
               traceparent = excluded.traceparent, ask_again_at = excluded.ask_again_at,
               held = excluded.held, times_asked = 0
         WHERE p.phase IN ('planned', 'withdrawn')
        """,  # noqa: S608 - made of constants
        *values_of(tenant_id, plan),
        now,
        traceparent,
    )


async def withdraw_purge(connection: Connection, purge_id: UUID, *, now: datetime) -> None:
    """A purge is no longer to be; one that is under way stays as it is."""
    await connection.execute(
        """
        UPDATE purges
           SET phase = 'withdrawn', changed_at = $2, ask_again_at = NULL, let_through_at = NULL
         WHERE purge_id = $1 AND phase IN ('planned', 'requested')
        """,
        purge_id,
        now,
    )


async def lock_purge(connection: Connection, purge_id: UUID) -> Purge | None:
    """Find a purge and keep others from moving it on; None for one that we do not know."""
    return (await lock_purges(connection, [purge_id])).get(purge_id)


async def lock_purges(connection: Connection, purge_ids: Collection[UUID]) -> dict[UUID, Purge]:
    """Find purges and keep others from moving them on; those that we do not know are left out."""
    rows = await connection.fetch(
        f"""
        SELECT {PLAN}, receipt_code FROM purges WHERE purge_id = ANY($1::uuid[])
         ORDER BY purge_id
           FOR UPDATE
        """,  # noqa: S608 - made of constants
        list(purge_ids),
    )
    return {
        row["purge_id"]: Purge(row["tenant_id"], plan_of(row), row["receipt_code"]) for row in rows
    }


async def move_purges(
    connection: Connection, purge_ids: Collection[UUID], phase: Phase, *, now: datetime
) -> None:
    """Put purges into their next phase; the caller holds their locks."""
    await connection.execute(
        """
        UPDATE purges SET phase = $2, changed_at = $3, ask_again_at = NULL
         WHERE purge_id = ANY($1::uuid[])
        """,
        list(purge_ids),
        phase,
        now,
    )


async def postpone_purge(
    connection: Connection, purge_id: UUID, *, now: datetime, until: datetime
) -> None:
    """Put a refused purge back among the planned ones, not to be asked for before ``until``."""
    await connection.execute(
        """
        UPDATE purges SET phase = 'planned', changed_at = $2, ask_again_at = $3
         WHERE purge_id = $1
        """,
        purge_id,
        now,
        until,
    )


async def ask_without_delay(connection: Connection, tenant_ids: Collection[UUID]) -> None:
    """Let refused purges of these tenants wait no longer than for their start."""
    await connection.execute(
        """
        UPDATE purges SET ask_again_at = NULL
         WHERE tenant_id = ANY($1::uuid[]) AND phase = 'planned' AND ask_again_at IS NOT NULL
        """,
        list(tenant_ids),
    )


async def give_receipt_codes(connection: Connection, codes: Mapping[UUID, str]) -> None:
    """Give purges the codes of their receipts, once and for all."""
    await connection.execute(
        """
        UPDATE purges SET receipt_code = given.code
          FROM unnest($1::uuid[], $2::text[]) AS given(purge_id, code)
         WHERE purges.purge_id = given.purge_id AND receipt_code IS NULL
        """,
        list(codes),
        list(codes.values()),
    )


@dataclass(frozen=True, slots=True)
class Asking:
    """A purge to ask the installer for, at the version of the tenant that we know."""

    purge_id: UUID
    tenant_id: UUID
    classes: tuple[DataClass, ...]
    version: Version
    traceparent: str | None


async def claim_due_purges(
    connection: Connection, *, now: datetime, silence: timedelta, limit: int
) -> list[Asking]:
    """Take up to ``limit`` purges whose start has come; from the commit on they are asked for.

    Rows that another transaction holds are skipped, not waited for. Nothing but
    our database is involved, so the claim needs no lease: whoever dies before the
    commit has claimed nothing.
    """
    return await _ask(
        connection,
        """
        p.phase = 'planned' AND p.start_at <= $1 AND NOT p.held
        AND (p.ask_again_at IS NULL OR p.ask_again_at <= $1)
        """,
        first="p.start_at",
        now=now,
        silence=silence,
        limit=limit,
    )


async def claim_unanswered_purges(
    connection: Connection, *, now: datetime, silence: timedelta, limit: int
) -> list[Asking]:
    """Take up to ``limit`` purges for which the installer was asked in vain for a while."""
    return await _ask(
        connection,
        "p.phase = 'requested' AND p.ask_again_at <= $1",
        first="p.ask_again_at",
        now=now,
        silence=silence,
        limit=limit,
    )


async def _ask(
    connection: Connection,
    condition: str,
    *,
    first: str,
    now: datetime,
    silence: timedelta,
    limit: int,
) -> list[Asking]:
    rows = await connection.fetch(
        f"""
        WITH due AS (
            SELECT p.purge_id, t.epoch, t.n
              FROM purges p
              JOIN tenants t USING (tenant_id)
             WHERE {condition}
             ORDER BY {first}, p.purge_id
             LIMIT $3
               FOR UPDATE OF p SKIP LOCKED)
        UPDATE purges
           SET phase = 'requested',
               changed_at = CASE WHEN phase = 'requested' THEN changed_at ELSE $1 END,
               asked_at = coalesce(asked_at, $1),
               times_asked = times_asked + 1,
               ask_again_at = $1::timestamptz
                              + least($2::interval * (1 << least(times_asked, 16)),
                                      greatest($2::interval, $4::interval))
          FROM due
         WHERE purges.purge_id = due.purge_id
        RETURNING purges.purge_id, tenant_id, scope, classes, due.epoch, due.n, traceparent
        """,  # noqa: S608 - made of constants
        now,
        silence,
        limit,
        LONGEST_SILENCE,
    )
    return [
        Asking(
            row["purge_id"],
            row["tenant_id"],
            part_of(row) or Scope(row["scope"]).classes,
            Version(epoch=row["epoch"], n=row["n"]),
            row["traceparent"],
        )
        for row in rows
    ]


async def claim_reminders(
    connection: Connection, *, now: datetime, limit: int
) -> tuple[list[Reminder], bool]:
    """Take up to ``limit`` planned purges that near their start; True where there may be more.

    Each number of days is taken once, whoever asks and whenever; after a
    silence only the nearest. A purge that was planned anew for the same clock,
    with fewer or more classes, is not reminded of again. Rows that are being
    planned are skipped, not waited for.
    """
    first, last = REMINDERS
    rows = await connection.fetch(
        """
        WITH due AS (
            SELECT purge_id,
                   CASE WHEN start_at <= $1::timestamptz + $3::interval THEN $5::smallint
                        ELSE $4::smallint END AS days
              FROM purges
             WHERE phase = 'planned' AND NOT held AND start_at > $1
               AND (reminded IS NULL AND start_at <= $1::timestamptz + $2::interval
                    OR reminded = 30 AND start_at <= $1::timestamptz + $3::interval)
               AND clock <> ALL($6::text[])
             ORDER BY start_at, purge_id
             LIMIT $7
               FOR UPDATE SKIP LOCKED)
        UPDATE purges p SET reminded = due.days
          FROM due
         WHERE p.purge_id = due.purge_id
        RETURNING p.purge_id, p.tenant_id, p.scope, p.classes, p.clock, p.start_at, p.erase_by,
                  due.days,
                  EXISTS (SELECT 1 FROM purges o
                           WHERE o.tenant_id = p.tenant_id AND o.purge_id <> p.purge_id
                             AND o.clock_started_at = p.clock_started_at
                             AND o.start_at = p.start_at AND o.reminded <= due.days) AS known
        """,
        now,
        timedelta(days=first),
        timedelta(days=last),
        first,
        last,
        list(CLOCKS_WITHOUT_REMINDERS),
        limit,
    )
    reminders = [
        Reminder(
            row["purge_id"],
            row["tenant_id"],
            part_of(row) or Scope(row["scope"]).classes,
            row["clock"],
            row["start_at"],
            row["erase_by"],
            row["days"],
        )
        for row in rows
        if not row["known"]
    ]
    return reminders, len(rows) == limit


async def late_purges(
    connection: Connection, *, erase_by_before: datetime, limit: int
) -> list[UUID]:
    """List purges that are to be done before a time and still wait for wave 1."""
    rows = await connection.fetch(
        """
        SELECT purge_id FROM purges
         WHERE phase = 'erasing' AND erase_by <= $1
         ORDER BY erase_by
         LIMIT $2
        """,
        erase_by_before,
        limit,
    )
    return [row["purge_id"] for row in rows]


async def drop_old_purges(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget purges that were over before a time, of tenants that are gone; withdrawn ones anyway.

    Returns how many were dropped. What they proved stays in the ledger.
    """
    dropped: int = await connection.fetchval(
        """
        WITH over AS (
            SELECT p.purge_id
              FROM purges p
             WHERE p.phase IN ('closed', 'withdrawn') AND p.changed_at < $1
               AND (p.phase = 'withdrawn'
                    OR NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = p.tenant_id))
             LIMIT $2),
        gone AS (
            DELETE FROM purges USING over WHERE purges.purge_id = over.purge_id
            RETURNING purges.purge_id)
        SELECT count(*) FROM gone
        """,
        before,
        limit,
    )
    await connection.execute(
        """
        DELETE FROM purge_states s
         WHERE s.forgotten_at < $1
           AND NOT EXISTS (SELECT 1 FROM purges p WHERE p.tenant_id = s.tenant_id)
           AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = s.tenant_id)
        """,
        before,
    )
    return dropped
