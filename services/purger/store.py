"""Every SQL statement of purger, one function per question."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.census import BUCKET, tally
from chassis.database import Connection
from contracts.censuses import Tally
from contracts.classes import DataClass
from contracts.ledger import LedgerEntry
from contracts.purges import DataErased, Hold, Phase, Plan, Scope, Wish, WishedBy
from contracts.tenants import ClassState, TenantState, Version
from services.purger.domain import (
    CLOCKS_WITHOUT_REMINDERS,
    LONGEST_SILENCE,
    REMINDERS,
    DifferenceKind,
    Expected,
    Level,
    Purge,
    Reminder,
    Seen,
    Step,
    StepPlan,
    Sweep,
    steps_of,
)
from services.purger.forecast import Day

# -- tenants ----------------------------------------------------------------------------------


async def save_tenants(connection: Connection, tenants: Sequence[TenantState]) -> list[TenantState]:
    """Keep tenants' states without their licence numbers; return those that were not passed.

    Their rows stay locked until the transaction ends. Of each tenant there may be one state.
    """
    kept = [each.model_copy(update={"licence_numbers": ()}) for each in tenants]
    rows = await connection.fetch(
        """
        INSERT INTO tenants AS t (tenant_id, epoch, n, state)
        SELECT tenant_id, epoch, n, state::jsonb
          FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[])
               AS s(tenant_id, epoch, n, state)
         ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE
           SET epoch = excluded.epoch, n = excluded.n, state = excluded.state
         WHERE (t.epoch, t.n) < (excluded.epoch, excluded.n)
        RETURNING tenant_id
        """,
        [each.tenant_id for each in tenants],
        [each.version.epoch for each in tenants],
        [each.version.n for each in tenants],
        [each.model_dump_json() for each in kept],
    )
    saved = {row["tenant_id"] for row in rows}
    return [each for each in tenants if each.tenant_id in saved]


async def unknown_tenants(connection: Connection, tenant_ids: Collection[UUID]) -> set[UUID]:
    """List those of these tenants of whom the installer has nothing left, or never had."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM tenants WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
    )
    return set(tenant_ids) - {row["tenant_id"] for row in rows}


async def tenant(connection: Connection, tenant_id: UUID) -> TenantState | None:
    """Give the tenant's state as the installer last told it, without licence numbers."""
    state = await connection.fetchval("SELECT state FROM tenants WHERE tenant_id = $1", tenant_id)
    return None if state is None else TenantState.model_validate(state)


async def forget_tenants(connection: Connection, tenant_ids: Collection[UUID]) -> None:
    """Drop what we know of tenants' states."""
    await connection.execute(
        "DELETE FROM tenants WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
    )


async def merged_into(connection: Connection, tenant_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Find the tenants that go on for these, where there are such."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, (state ->> 'merged_into')::uuid AS merged_into
          FROM tenants
         WHERE tenant_id = ANY($1::uuid[]) AND state ->> 'merged_into' IS NOT NULL
        """,
        list(tenant_ids),
    )
    return {row["tenant_id"]: row["merged_into"] for row in rows}


# -- purges -----------------------------------------------------------------------------------

_PLAN = """
    purge_id, tenant_id, scope, clock, clock_started_at, rule_version, deadline, erase_by,
    start_at, phase, classes, held
"""


def _plan_of(row: asyncpg.Record) -> Plan:
    return Plan.model_validate({name: row[name] for name in Plan.model_fields})


def _part_of(row: asyncpg.Record) -> tuple[DataClass, ...] | None:
    return None if row["classes"] is None else tuple(DataClass(name) for name in row["classes"])


async def lock_plans(connection: Connection, tenant_id: UUID) -> list[Plan]:
    """List all purges of a tenant, in whatever phase, and keep others from moving them on."""
    return (await lock_plans_of(connection, [tenant_id]))[tenant_id]


async def lock_plans_of(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, list[Plan]]:
    """Do the same of several tenants."""
    rows = await connection.fetch(
        f"""
        SELECT {_PLAN} FROM purges WHERE tenant_id = ANY($1::uuid[])
         ORDER BY purge_id
           FOR UPDATE
        """,  # noqa: S608 - made of constants
        list(tenant_ids),
    )
    found: dict[UUID, list[Plan]] = {tenant_id: [] for tenant_id in tenant_ids}
    for row in rows:
        found[row["tenant_id"]].append(_plan_of(row))
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
        INSERT INTO purges AS p ({_PLAN}, changed_at, traceparent, ask_again_at)
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
        plan.purge_id,
        tenant_id,
        plan.scope,
        plan.clock,
        plan.clock_started_at,
        plan.rule_version,
        plan.deadline,
        plan.erase_by,
        plan.start_at,
        plan.phase,
        plan.classes,
        plan.held,
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
        SELECT {_PLAN}, receipt_code FROM purges WHERE purge_id = ANY($1::uuid[])
         ORDER BY purge_id
           FOR UPDATE
        """,  # noqa: S608 - made of constants
        list(purge_ids),
    )
    return {
        row["purge_id"]: Purge(row["tenant_id"], _plan_of(row), row["receipt_code"]) for row in rows
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
            _part_of(row) or Scope(row["scope"]).classes,
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
            _part_of(row) or Scope(row["scope"]).classes,
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


# -- what we say of a tenant's purges -----------------------------------------------------------


async def next_versions(
    connection: Connection, tenant_ids: Collection[UUID], *, epoch: int
) -> dict[UUID, Version]:
    """Count up the versions of what is said of these tenants.

    Locks them until the transaction ends; what is read after this call is what
    belongs to the version, whoever else waits.
    """
    rows = await connection.fetch(
        """
        INSERT INTO purge_states AS s (tenant_id, epoch, n)
        SELECT tenant_id, $2, 1 FROM unnest($1::uuid[]) AS tenant_id ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE
           SET epoch = greatest(s.epoch, excluded.epoch), n = s.n + 1, forgotten_at = NULL
        RETURNING tenant_id, epoch, n
        """,
        list(tenant_ids),
        epoch,
    )
    return {row["tenant_id"]: Version(epoch=row["epoch"], n=row["n"]) for row in rows}


async def plans_of(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[bool, tuple[Plan, ...]]]:
    """Say of each tenant whether it is known, and list all its purges, the earliest first."""
    found: dict[UUID, list[Plan]] = {tenant_id: [] for tenant_id in tenant_ids}
    rows = await connection.fetch(
        f"""
        SELECT {_PLAN} FROM purges WHERE tenant_id = ANY($1::uuid[])
         ORDER BY clock_started_at, scope, purge_id
        """,  # noqa: S608 - made of constants
        list(tenant_ids),
    )
    for row in rows:
        found[row["tenant_id"]].append(_plan_of(row))
    known = {
        row["tenant_id"]
        for row in await connection.fetch(
            "SELECT tenant_id FROM tenants WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
        )
    }
    return {tenant_id: (tenant_id in known, tuple(plans)) for tenant_id, plans in found.items()}


async def note_forgotten(
    connection: Connection, tenant_ids: Collection[UUID], *, now: datetime
) -> None:
    """Remember that nothing is said of these tenants any more."""
    await connection.execute(
        "UPDATE purge_states SET forgotten_at = $2 WHERE tenant_id = ANY($1::uuid[])",
        list(tenant_ids),
        now,
    )


async def spoken_of(connection: Connection, tenant_ids: Collection[UUID]) -> set[UUID]:
    """List those of these tenants of whose purges, wishes or holds something stands said."""
    rows = await connection.fetch(
        """
        SELECT tenant_id FROM purge_states
         WHERE tenant_id = ANY($1::uuid[]) AND forgotten_at IS NULL
        """,
        list(tenant_ids),
    )
    return {row["tenant_id"] for row in rows}


async def tenants_spoken_of(
    connection: Connection, *, after: UUID | None, limit: int
) -> list[UUID]:
    """List, in the order of their ids, the tenants of whose purges something stands said."""
    rows = await connection.fetch(
        """
        SELECT tenant_id FROM purge_states
         WHERE forgotten_at IS NULL AND ($1::uuid IS NULL OR tenant_id > $1)
         ORDER BY tenant_id
         LIMIT $2
        """,
        after,
        limit,
    )
    return [row["tenant_id"] for row in rows]


# -- steps ------------------------------------------------------------------------------------


async def open_steps(connection: Connection, steps: Mapping[UUID, Sequence[StepPlan]]) -> None:
    """Write down what the owners will be told to do, purge by purge."""
    named = _named(steps)
    await connection.execute(
        """
        INSERT INTO steps (purge_id, step)
        SELECT purge_id, step FROM unnest($1::uuid[], $2::text[]) AS s(purge_id, step)
        ON CONFLICT DO NOTHING
        """,
        [purge_id for purge_id, _ in named],
        [step for _, step in named],
    )


def _named(steps: Mapping[UUID, Sequence[StepPlan]]) -> list[tuple[UUID, str]]:
    return [(purge_id, step.step) for purge_id, plans in steps.items() for step in plans]


async def start_steps(
    connection: Connection,
    steps: Mapping[UUID, Sequence[StepPlan]],
    *,
    ledger_numbers: Mapping[UUID, int],
    ask_again_at: datetime,
) -> None:
    """Note that owners were told to begin, and by which entry of the ledger, purge by purge."""
    named = _named(steps)
    await connection.execute(
        """
        UPDATE steps SET ledger_number = s.number, ask_again_at = $4, times_asked = 1
          FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS s(purge_id, step, number)
         WHERE (steps.purge_id, steps.step) = (s.purge_id, s.step)
        """,
        [purge_id for purge_id, _ in named],
        [step for _, step in named],
        [ledger_numbers[purge_id] for purge_id, _ in named],
        ask_again_at,
    )


async def steps_of_purges(
    connection: Connection, purges: Collection[Purge]
) -> dict[UUID, list[Step]]:
    """List the steps of purges, each in the order of ``domain.steps_of``."""
    rows = await connection.fetch(
        """
        SELECT purge_id, step, ledger_number, counts, data_map_hash, erased_at, answered_by
          FROM steps WHERE purge_id = ANY($1::uuid[])
        """,
        [purge.plan.purge_id for purge in purges],
    )
    by_name = {(row["purge_id"], row["step"]): row for row in rows}
    return {
        purge.plan.purge_id: [
            _step_of(plan, by_name[purge.plan.purge_id, plan.step])
            for plan in steps_of(purge.plan.scope, purge.plan.classes)
            if (purge.plan.purge_id, plan.step) in by_name
        ]
        for purge in purges
    }


def _step_of(plan: StepPlan, row: asyncpg.Record) -> Step:
    counts = row["counts"]
    return Step(
        plan,
        row["ledger_number"],
        {DataClass(name): count for name, count in counts.items()} if counts else None,
        row["data_map_hash"],
        row["erased_at"],
        row["answered_by"],
    )


async def record_answers(connection: Connection, answers: Sequence[DataErased]) -> set[UUID]:
    """Keep the owners' first clean answers; return the purges of which a step was answered.

    Of one step the first of these answers counts; nothing comes of one to a step that is
    answered already, or was not begun.
    """
    rows = await connection.fetch(
        """
        UPDATE steps
           SET counts = a.counts::jsonb, data_map_hash = a.data_map_hash, erased_at = a.erased_at,
               answered_by = a.answered_by, ask_again_at = NULL
          FROM (SELECT DISTINCT ON (purge_id, step) *
                  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
                              $6::text[])
                       WITH ORDINALITY
                       AS given(purge_id, step, counts, data_map_hash, erased_at, answered_by, nth)
                 ORDER BY purge_id, step, nth) AS a
         WHERE (steps.purge_id, steps.step) = (a.purge_id, a.step)
           AND steps.ledger_number IS NOT NULL AND steps.erased_at IS NULL
        RETURNING steps.purge_id
        """,
        [answer.purge_id for answer in answers],
        [answer.step for answer in answers],
        [json.dumps(answer.counts) for answer in answers],
        [answer.data_map_hash for answer in answers],
        [answer.erased_at for answer in answers],
        [answer.by for answer in answers],
    )
    return {row["purge_id"] for row in rows}


@dataclass(frozen=True, slots=True)
class Order:
    """What an owner has to erase, by which entry of the ledger."""

    purge_id: UUID
    tenant_id: UUID
    step: StepPlan
    ledger_number: int
    receipt_code: str | None
    merged_into: UUID | None = None


async def claim_unanswered_steps(
    connection: Connection, *, now: datetime, silence: timedelta, limit: int
) -> list[Order]:
    """Take up to ``limit`` steps for which an owner was asked in vain for a while.

    A purge that the ledger has closed in a restored database has steps without an answer for ever.
    """
    rows = await connection.fetch(
        """
        WITH due AS (
            SELECT purge_id, step
              FROM steps
              JOIN purges USING (purge_id)
             WHERE ledger_number IS NOT NULL AND erased_at IS NULL AND steps.ask_again_at <= $1
               AND phase IN ('erasing', 'erased')
             ORDER BY steps.ask_again_at
             LIMIT $3
               FOR UPDATE OF steps SKIP LOCKED)
        UPDATE steps s
           SET times_asked = s.times_asked + 1,
               ask_again_at = $1::timestamptz
                              + least($2::interval * (1 << least(s.times_asked, 16)),
                                      greatest($2::interval, $4::interval))
          FROM due
          JOIN purges p ON p.purge_id = due.purge_id
          LEFT JOIN tenants t ON t.tenant_id = p.tenant_id
         WHERE (s.purge_id, s.step) = (due.purge_id, due.step)
        RETURNING s.purge_id, p.tenant_id, p.scope, p.classes, s.step, s.ledger_number, p.receipt_code,
                  (t.state ->> 'merged_into')::uuid AS merged_into
        """,
        now,
        silence,
        limit,
        LONGEST_SILENCE,
    )
    return [
        Order(
            row["purge_id"],
            row["tenant_id"],
            next(
                step
                for step in steps_of(Scope(row["scope"]), _part_of(row))
                if step.step == row["step"]
            ),
            row["ledger_number"],
            row["receipt_code"],
            row["merged_into"],
        )
        for row in rows
    ]


async def ask_all_at_once(connection: Connection, *, now: datetime) -> None:
    """Make everything that is unanswered due to be asked for again."""
    await connection.execute("UPDATE purges SET ask_again_at = $1 WHERE phase = 'requested'", now)
    await connection.execute(
        "UPDATE steps SET ask_again_at = $1 WHERE ledger_number IS NOT NULL AND erased_at IS NULL",
        now,
    )


# -- ledger -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerEnd:
    """The last entry; number 0 and the hash ``GENESIS`` while there is none."""

    number: int
    hash: str


async def lock_ledger(connection: Connection) -> LedgerEnd:
    """Find the ledger's end and keep others from appending until the transaction ends."""
    row = await connection.fetchrow("SELECT number, hash FROM ledger_head FOR UPDATE")
    assert row is not None
    return LedgerEnd(row["number"], row["hash"])


async def ledger_end(connection: Connection) -> LedgerEnd:
    """Find the ledger's end."""
    row = await connection.fetchrow("SELECT number, hash FROM ledger_head")
    assert row is not None
    return LedgerEnd(row["number"], row["hash"])


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A sealed entry, and which part of its purge it records, of which there is one each."""

    entry: LedgerEntry
    part: str


async def append_entries(connection: Connection, new: Sequence[NewEntry]) -> None:
    """Append sealed entries, of which each follows the one before it; there must be one.

    The caller holds the lock of ``lock_ledger``. Raises ``asyncpg.UniqueViolationError`` for a
    part that a purge already has.
    """
    entries = [each.entry for each in new]
    await connection.execute(
        """
        INSERT INTO ledger (number, purge_id, part, receipt_code, entry)
        SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[])
        """,
        [entry.number for entry in entries],
        [entry.purge_id for entry in entries],
        [each.part for each in new],
        [entry.receipt.receipt_code if entry.receipt else None for entry in entries],
        [entry.encode().decode() for entry in entries],
    )
    await connection.execute(
        "UPDATE ledger_head SET number = $1, hash = $2", entries[-1].number, entries[-1].hash
    )


async def ledger_entries(connection: Connection, *, after: int, limit: int) -> list[LedgerEntry]:
    """Read a page of the ledger in its order."""
    rows = await connection.fetch(
        "SELECT entry FROM ledger WHERE number > $1 ORDER BY number LIMIT $2", after, limit
    )
    return [LedgerEntry.decode(row["entry"]) for row in rows]


async def entries_to_publish(
    connection: Connection, *, after: int, limit: int
) -> list[tuple[LedgerEntry, str | None]]:
    """Read a page of the ledger, each entry with the trace of its purge while that is known."""
    rows = await connection.fetch(
        """
        SELECT ledger.entry, purges.traceparent
          FROM ledger LEFT JOIN purges USING (purge_id)
         WHERE number > $1
         ORDER BY number
         LIMIT $2
        """,
        after,
        limit,
    )
    return [(LedgerEntry.decode(row["entry"]), row["traceparent"]) for row in rows]


async def receipts_by_code(connection: Connection, code: str) -> list[LedgerEntry]:
    """Find the receipt's entries by its code: none, the first, or both."""
    rows = await connection.fetch(
        "SELECT entry FROM ledger WHERE receipt_code = $1 ORDER BY number", code
    )
    return [LedgerEntry.decode(row["entry"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Publication:
    """How far the ledger was said in which Kafka cluster."""

    cluster_id: str
    number: int
    hash: str
    head_said_at: datetime | None


async def lock_publication(connection: Connection) -> Publication:
    """Let one transaction at a time say entries; call it before any other statement.

    The relay sends in the order of transaction ids. This lock takes none, so a
    transaction that gets it later has the higher id, and entries stay in order.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ledger publication', 0))"
    )
    row = await connection.fetchrow(
        "SELECT cluster_id, number, hash, head_said_at FROM ledger_publication"
    )
    assert row is not None
    return Publication(**row)


async def save_publication(connection: Connection, publication: Publication) -> None:
    """Remember how far the ledger was said."""
    await connection.execute(
        "UPDATE ledger_publication SET cluster_id = $1, number = $2, hash = $3, head_said_at = $4",
        publication.cluster_id,
        publication.number,
        publication.hash,
        publication.head_said_at,
    )


# -- brake ------------------------------------------------------------------------------------


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


# -- reconciliation ---------------------------------------------------------------------------


async def expected_tally(connection: Connection, data_class: DataClass) -> Tally:
    """Count the tenants of which a class is live, as an owner's census counts what it holds.

    The ledger counts before the state, which may not have come yet.
    """
    return await tally(
        connection,
        data_class,
        """
        SELECT tenant_id, epoch, n
          FROM tenants
         WHERE state -> 'classes' ->> $1 = 'live'
           AND NOT EXISTS (SELECT FROM ledger
                            WHERE part IN ('wave-1', 'wave-2')
                              AND entry::jsonb ->> 'tenant_id' = tenants.tenant_id::text
                              AND entry::jsonb -> 'classes' ? $1)
        """,
        data_class,
    )


async def expected_in(
    connection: Connection,
    data_class: DataClass,
    *,
    step: str,
    buckets: Collection[int],
    besides: Collection[UUID],
) -> dict[UUID, Expected]:
    """Say what we know of the tenants in some buckets, and of those named ``besides``.

    Of an erasure the ledger decides; it is under way while its ``step`` is not answered.
    """
    rows = await connection.fetch(
        f"""
        WITH known AS (
            SELECT tenant_id, epoch, n, state -> 'classes' ->> $1 AS state
              FROM tenants
             WHERE {BUCKET} = ANY($2::integer[])),
        asked AS (
            SELECT tenant_id FROM known UNION SELECT unnest($3::uuid[])),
        erased AS (
            SELECT asked.tenant_id,
                   bool_or(steps.erased_at IS NULL AND steps.purge_id IS NOT NULL) AS under_way
              FROM asked
              JOIN ledger ON entry::jsonb ->> 'tenant_id' = asked.tenant_id::text
              LEFT JOIN steps ON steps.purge_id = ledger.purge_id AND steps.step = $4
             WHERE part IN ('wave-1', 'wave-2') AND entry::jsonb -> 'classes' ? $1
             GROUP BY asked.tenant_id)
        SELECT tenant_id, known.epoch, known.n, known.state, erased.under_way
          FROM asked LEFT JOIN known USING (tenant_id) LEFT JOIN erased USING (tenant_id)
        """,  # noqa: S608 - made of constants
        data_class,
        list(buckets),
        list(besides),
        step,
    )
    return {
        row["tenant_id"]: Expected(
            version=Version(epoch=row["epoch"], n=row["n"]) if row["state"] else None,
            state=ClassState(row["state"]) if row["state"] else None,
            erased=row["under_way"] is not None,
            under_way=bool(row["under_way"]),
        )
        for row in rows
    }


async def begin_comparison(
    connection: Connection, owner: str, census_id: UUID, open_classes: Collection[DataClass]
) -> None:
    """Note which census of an owner is compared, and of which classes a list is awaited."""
    await connection.execute(
        """
        INSERT INTO comparisons (owner, census_id, open_classes) VALUES ($1, $2, $3)
        ON CONFLICT (owner) DO UPDATE
           SET census_id = excluded.census_id, open_classes = excluded.open_classes
        """,
        owner,
        census_id,
        list(open_classes),
    )


async def close_class(
    connection: Connection, owner: str, census_id: UUID, data_class: DataClass
) -> None:
    """Note that a class of a census has been listed to its end."""
    await connection.execute(
        """
        UPDATE comparisons SET open_classes = array_remove(open_classes, $3)
         WHERE owner = $1 AND census_id = $2
        """,
        owner,
        census_id,
        data_class,
    )


async def finish_comparison(
    connection: Connection, owner: str, census_id: UUID, *, wall: datetime
) -> None:
    """Note that a census has been compared to its end, once no list is awaited any more."""
    await connection.execute(
        """
        UPDATE comparisons SET finished_at = $3
         WHERE owner = $1 AND census_id = $2 AND open_classes = '{}'
        """,
        owner,
        census_id,
        wall,
    )


async def note_differences(
    connection: Connection,
    owner: str,
    data_class: DataClass,
    *,
    buckets: Collection[int],
    found: Mapping[UUID, tuple[DifferenceKind, Version | None]],
    wall: datetime,
) -> list[Seen]:
    """Make what stands of these buckets what was found now; return it all.

    One that is another than before begins anew: it moves, so it may pass by itself.
    """
    tenant_ids = list(found)
    await connection.execute(
        f"""
        DELETE FROM differences
         WHERE owner = $1 AND data_class = $2 AND {BUCKET} = ANY($3::integer[])
           AND NOT tenant_id = ANY($4::uuid[])
        """,  # noqa: S608 - made of constants
        owner,
        data_class,
        list(buckets),
        tenant_ids,
    )
    rows = await connection.fetch(
        """
        INSERT INTO differences AS d (owner, data_class, tenant_id, kind, epoch, n,
                                      first_seen_at, last_seen_at)
        SELECT $1, $2, tenant_id, kind, epoch, n, $3, $3
          FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::bigint[])
            AS found (tenant_id, kind, epoch, n)
        ON CONFLICT (owner, data_class, tenant_id) DO UPDATE
           SET kind = excluded.kind, epoch = excluded.epoch, n = excluded.n,
               last_seen_at = excluded.last_seen_at,
               first_seen_at = CASE WHEN (d.kind, d.epoch, d.n) IS NOT DISTINCT FROM
                                         (excluded.kind, excluded.epoch, excluded.n)
                                    THEN d.first_seen_at ELSE excluded.first_seen_at END,
               mended_at = CASE WHEN (d.kind, d.epoch, d.n) IS NOT DISTINCT FROM
                                     (excluded.kind, excluded.epoch, excluded.n)
                                THEN d.mended_at END
        RETURNING kind, tenant_id, first_seen_at, mended_at
        """,
        owner,
        data_class,
        wall,
        tenant_ids,
        [kind for kind, _ in found.values()],
        [version.epoch if version else None for _, version in found.values()],
        [version.n if version else None for _, version in found.values()],
    )
    return [
        Seen(DifferenceKind(row["kind"]), row["tenant_id"], row["first_seen_at"], row["mended_at"])
        for row in rows
    ]


async def note_mending(
    connection: Connection,
    owner: str,
    data_class: DataClass,
    tenant_ids: Collection[UUID],
    *,
    wall: datetime,
) -> None:
    """Note that what should mend these differences was asked for."""
    await connection.execute(
        """
        UPDATE differences SET mended_at = $4
         WHERE owner = $1 AND data_class = $2 AND tenant_id = ANY($3::uuid[])
        """,
        owner,
        data_class,
        list(tenant_ids),
        wall,
    )


async def orders_from_ledger(
    connection: Connection, step: StepPlan, data_class: DataClass, tenant_ids: Collection[UUID]
) -> list[Order]:
    """Read from the ledger by which orders a step's owner erased a class of these tenants."""
    rows = await connection.fetch(
        """
        SELECT entry
          FROM ledger
         WHERE part IN ('wave-1', 'wave-2')
           AND entry::jsonb ->> 'tenant_id' = ANY($1::text[])
           AND entry::jsonb -> 'classes' ? $2
         ORDER BY number
        """,
        [str(tenant_id) for tenant_id in tenant_ids],
        data_class,
    )
    orders = []
    for row in rows:
        entry = LedgerEntry.decode(row["entry"])
        assert entry.tenant_id is not None
        orders.append(
            Order(
                entry.purge_id,
                entry.tenant_id,
                step,
                entry.number,
                entry.receipt_code,
                entry.merged_into,
            )
        )
    return orders


async def count_unexplained(connection: Connection, *, mended_before: datetime) -> dict[str, int]:
    """Count the differences, by kind, that stood when what should mend them was long asked for."""
    rows = await connection.fetch(
        """
        SELECT kind, count(*) AS count
          FROM differences
         WHERE mended_at < $1 AND last_seen_at > mended_at
         GROUP BY kind
        """,
        mended_before,
    )
    return {row["kind"]: row["count"] for row in rows}


async def last_comparisons(connection: Connection) -> dict[str, datetime]:
    """Say when each owner's census was last compared to its end."""
    rows = await connection.fetch(
        "SELECT owner, finished_at FROM comparisons WHERE finished_at IS NOT NULL"
    )
    return {row["owner"]: row["finished_at"] for row in rows}


# -- after a restore ----------------------------------------------------------------------------


async def entries_of(
    connection: Connection, parts: Collection[tuple[UUID, str]]
) -> dict[tuple[UUID, str], LedgerEntry]:
    """Find what the ledger has recorded of these parts of purges."""
    rows = await connection.fetch(
        """
        SELECT purge_id, part, entry
          FROM ledger JOIN unnest($1::uuid[], $2::text[]) AS p(purge_id, part)
         USING (purge_id, part)
        """,
        [purge_id for purge_id, _ in parts],
        [part for _, part in parts],
    )
    return {(row["purge_id"], row["part"]): LedgerEntry.decode(row["entry"]) for row in rows}


async def receipt_codes_in_ledger(
    connection: Connection, purge_ids: Collection[UUID]
) -> dict[UUID, str]:
    """Find the codes under which purges' receipts were told, by whichever entry told them."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (purge_id)
               purge_id, coalesce(receipt_code, entry::json ->> 'receipt_code') AS code
          FROM ledger
         WHERE purge_id = ANY($1::uuid[])
           AND coalesce(receipt_code, entry::json ->> 'receipt_code') IS NOT NULL
         ORDER BY purge_id, number
        """,
        list(purge_ids),
    )
    return {row["purge_id"]: row["code"] for row in rows}


async def ledger_hashes(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """Read the hashes of these entries, as far as we have them."""
    rows = await connection.fetch(
        """
        SELECT number, entry::json ->> 'hash' AS hash FROM ledger WHERE number = ANY($1::bigint[])
        """,
        list(numbers),
    )
    return {row["number"]: row["hash"] for row in rows}


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
        INSERT INTO purges ({_PLAN}, changed_at, ask_again_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                CASE WHEN $10 = 'requested' THEN $13::timestamptz END)
        ON CONFLICT (purge_id) DO UPDATE
           SET deadline = excluded.deadline, erase_by = excluded.erase_by,
               start_at = excluded.start_at, rule_version = excluded.rule_version,
               clock = excluded.clock, phase = excluded.phase, changed_at = excluded.changed_at,
               ask_again_at = excluded.ask_again_at, held = excluded.held, times_asked = 0
        """,  # noqa: S608 - made of constants
        plan.purge_id,
        tenant_id,
        plan.scope,
        plan.clock,
        plan.clock_started_at,
        plan.rule_version,
        plan.deadline,
        plan.erase_by,
        plan.start_at,
        plan.phase,
        plan.classes,
        plan.held,
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


# -- wishes -----------------------------------------------------------------------------------


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


# -- legal holds ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeptHold:
    """A legal hold with why and by whom it was placed and released."""

    hold_id: UUID
    tenant_id: UUID
    classes: tuple[DataClass, ...]
    basis: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str | None
    released_at: datetime | None


async def place_hold(connection: Connection, hold: KeptHold) -> None:
    """Keep a hold; the caller has locked the tenant, and plans its purges anew."""
    await connection.execute(
        """
        INSERT INTO legal_holds (hold_id, tenant_id, classes, basis, reason, placed_by, placed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        hold.hold_id,
        hold.tenant_id,
        list(hold.classes),
        hold.basis,
        hold.reason,
        hold.placed_by,
        hold.placed_at,
    )


async def release_hold(
    connection: Connection, hold_id: UUID, *, released_by: str, reason: str, now: datetime
) -> bool:
    """Let a hold keep nothing any more; False for one that was released before."""
    return (
        await connection.fetchval(
            """
            UPDATE legal_holds SET released_by = $2, release_reason = $3, released_at = $4
             WHERE hold_id = $1 AND released_at IS NULL
            RETURNING true
            """,
            hold_id,
            released_by,
            reason,
            now,
        )
        is True
    )


async def end_holds(
    connection: Connection,
    tenant_id: UUID,
    classes: Collection[DataClass],
    *,
    why: str,
    now: datetime,
) -> None:
    """Let no hold of a tenant keep these classes; one that keeps nothing else is released."""
    await connection.execute(
        """
        UPDATE legal_holds
           SET classes = CASE WHEN classes <@ $2 THEN classes
                              ELSE ARRAY(SELECT each FROM unnest(classes) AS each
                                          WHERE each <> ALL($2)) END,
               released_by = CASE WHEN classes <@ $2 THEN $3 END,
               release_reason = CASE WHEN classes <@ $2 THEN $3 END,
               released_at = CASE WHEN classes <@ $2 THEN $4::timestamptz END
         WHERE tenant_id = $1 AND released_at IS NULL AND classes && $2::text[]
        """,
        tenant_id,
        list(classes),
        why,
        now,
    )


async def hold(connection: Connection, hold_id: UUID) -> KeptHold | None:
    """Find a hold."""
    rows = await _holds(connection, "hold_id = $1", hold_id)
    return next(iter(rows), None)


async def holds_of(connection: Connection, tenant_id: UUID) -> list[KeptHold]:
    """List a tenant's holds, released ones too, the first first."""
    return await _holds(connection, "tenant_id = $1", tenant_id)


async def _holds(connection: Connection, condition: str, wanted: UUID) -> list[KeptHold]:
    rows = await connection.fetch(
        f"""
        SELECT hold_id, tenant_id, classes, basis, reason, placed_by, placed_at, released_by,
               released_at
          FROM legal_holds WHERE {condition} ORDER BY placed_at, hold_id
        """,  # noqa: S608 - made of constants
        wanted,
    )
    return [
        KeptHold(**{**row, "classes": tuple(DataClass(name) for name in row["classes"])})
        for row in rows
    ]


async def standing_holds(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[Hold, ...]]:
    """List the holds of these tenants that were not released, the first first."""
    found: dict[UUID, tuple[Hold, ...]] = dict.fromkeys(tenant_ids, ())
    rows = await connection.fetch(
        """
        SELECT tenant_id, hold_id, classes, basis, placed_at
          FROM legal_holds
         WHERE tenant_id = ANY($1::uuid[]) AND released_at IS NULL
         ORDER BY placed_at, hold_id
        """,
        list(tenant_ids),
    )
    for row in rows:
        placed = Hold.model_validate({name: row[name] for name in Hold.model_fields})
        found[row["tenant_id"]] += (placed,)
    return found


async def wished_and_held(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[datetime | None, frozenset[DataClass]]]:
    """Say since when tenants' erasure is wished for, where it is, and which classes are held."""
    rows = await connection.fetch(
        """
        SELECT tenant_id,
               (SELECT min(asked_at) FROM wishes w
                 WHERE w.tenant_id = t.tenant_id AND withdrawn_at IS NULL) AS wished_at,
               ARRAY(SELECT unnest(classes) FROM legal_holds h
                      WHERE h.tenant_id = t.tenant_id AND released_at IS NULL) AS held
          FROM unnest($1::uuid[]) AS t(tenant_id)
        """,
        list(tenant_ids),
    )
    return {
        row["tenant_id"]: (row["wished_at"], frozenset(DataClass(name) for name in row["held"]))
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class HeldCounts:
    """How much is held, and how much of that should be gone by now."""

    holds: int
    purges: int
    overdue_purges: int


async def count_held(connection: Connection, *, now: datetime) -> HeldCounts:
    """Count the holds that stand, the purges that they keep, and those kept beyond ``erase_by``."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM legal_holds WHERE released_at IS NULL) AS holds,
               count(*) AS purges,
               count(*) FILTER (WHERE erase_by <= $1) AS overdue_purges
          FROM purges
         WHERE phase = 'planned' AND held
        """,
        now,
    )
    assert row is not None
    return HeldCounts(**row)


async def drop_old_holds(connection: Connection, *, before: datetime) -> None:
    """Forget holds released before a time of tenants of whom nothing is known any more."""
    await connection.execute(
        """
        DELETE FROM legal_holds h
         WHERE h.released_at < $1
           AND NOT EXISTS (SELECT 1 FROM purge_states s WHERE s.tenant_id = h.tenant_id)
           AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = h.tenant_id)
        """,
        before,
    )


# -- watch ------------------------------------------------------------------------------------

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


# -- forecast ---------------------------------------------------------------------------------


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


# -- the ledger's check -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Up to which entry the ledger was verified, and when it was last walked from its beginning.

    ``checkpoint_number`` is the last entry of which a checkpoint was left; 0 where none ever was.
    """

    number: int
    hash: str
    walked_at: datetime | None
    checkpoint_number: int


async def ledger_check(connection: Connection) -> LedgerCheck:
    """Read how far the ledger was verified."""
    row = await connection.fetchrow(
        "SELECT number, hash, walked_at, checkpoint_number FROM ledger_check"
    )
    assert row is not None
    return LedgerCheck(**row)


async def save_ledger_check(connection: Connection, check: LedgerCheck) -> None:
    """Remember how far the ledger was verified, and had its checkpoints."""
    await connection.execute(
        """
        UPDATE ledger_check SET number = $1, hash = $2, walked_at = $3, checkpoint_number = $4
        """,
        check.number,
        check.hash,
        check.walked_at,
        check.checkpoint_number,
    )


async def entry_hashes(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """Say which hashes the entries of these numbers carry; those that are missing are left out."""
    rows = await connection.fetch(
        """
        SELECT number, entry::jsonb ->> 'hash' AS hash FROM ledger
         WHERE number = ANY($1::bigint[])
        """,
        list(numbers),
    )
    return {row["number"]: row["hash"] for row in rows}


# -- what people look at ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenPurge:
    """A purge with the steps that nobody has answered yet; those of one not accepted are not known."""

    tenant_id: UUID
    plan: Plan
    open_steps: list[str]
    receipt_code: str | None


_OPEN_PURGE = f"""
    {_PLAN}, receipt_code,
    ARRAY(SELECT s.step FROM steps s
           WHERE s.purge_id = purges.purge_id AND s.erased_at IS NULL
           ORDER BY s.step) AS open_steps
"""  # noqa: S608 - made of constants


def _open_purge_of(row: asyncpg.Record) -> OpenPurge:
    return OpenPurge(row["tenant_id"], _plan_of(row), row["open_steps"], row["receipt_code"])


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
