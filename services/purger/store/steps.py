"""The steps of purges: open, ordered, answered."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Connection
from contracts.classes import DataClass
from contracts.purges import DataErased, Scope
from services.purger.domain.steps import LONGEST_SILENCE, Purge, Step, StepPlan, steps_of
from services.purger.store.plans import part_of


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
                for step in steps_of(Scope(row["scope"]), part_of(row))
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
