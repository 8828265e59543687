"""Licence numbers, by which tickets are found, and the erasures that reach them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Connection, Pool
from services.notifier.domain.tickets import LICENCES_UNKNOWN, TicketsGo


async def remember_licences(
    connection: Connection, tenant_id: UUID, numbers: Sequence[str]
) -> bool:
    """Make the numbers by which a tenant's tickets are found these; call it under its lock.

    True where they were others, or none were known.

    Once the tenant's tickets are being erased nothing changes any more.
    """
    changed = await connection.fetchval(
        """
        INSERT INTO licences (tenant_id, numbers)
        SELECT $1, $2
         WHERE NOT EXISTS (SELECT 1 FROM erased_tenants
                            WHERE tenant_id = $1 AND data_class = 'tickets')
        ON CONFLICT (tenant_id) DO UPDATE SET numbers = excluded.numbers
         WHERE licences.numbers <> excluded.numbers
        RETURNING true
        """,
        tenant_id,
        list(numbers),
    )
    return changed is True


async def licence_numbers(connection: Connection, tenant_id: UUID) -> tuple[str, ...] | None:
    """List a tenant's licence numbers; None where it was never heard whether it has any."""
    numbers = await connection.fetchval(
        "SELECT numbers FROM licences WHERE tenant_id = $1", tenant_id
    )
    return None if numbers is None else tuple(numbers)


async def open_ticket_erasure(
    connection: Connection,
    purge_id: UUID,
    tenant_id: UUID,
    who: TicketsGo,
    *,
    now: datetime,
    wall: datetime,
) -> None:
    """Note, once, that a purge's tickets are to be erased."""
    await connection.execute(
        """
        INSERT INTO ticket_erasures (purge_id, tenant_id, state, trouble, opened_at,
                                     next_attempt_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (purge_id) DO NOTHING
        """,
        purge_id,
        tenant_id,
        who,
        LICENCES_UNKNOWN if who is TicketsGo.BY_HAND else None,
        now,
        wall,
    )


async def purges_with_open_tickets(
    connection: Connection, purge_ids: Collection[UUID]
) -> set[UUID]:
    """Say which of these purges have tickets that may still be at the desk."""
    rows = await connection.fetch(
        "SELECT purge_id FROM ticket_erasures WHERE purge_id = ANY($1::uuid[]) AND state <> 'done'",
        list(purge_ids),
    )
    return {row["purge_id"] for row in rows}


@dataclass(frozen=True, slots=True)
class TicketClaim:
    """One purge's tickets in the hands of one worker."""

    purge_id: UUID
    tenant_id: UUID
    claim_token: UUID
    attempts: int
    licence_numbers: tuple[str, ...] = field(repr=False)


async def claim_ticket_erasure(
    pool: Pool, *, wall: datetime, lease: timedelta
) -> TicketClaim | None:
    """Take the tickets of one purge that are due, for this worker alone.

    A worker that dies delays them by a lease. The result must be recorded with
    the ``claim_token``. Times are wall time: a desk knows no other.
    """
    row = await pool.fetchrow(
        """
        WITH due AS (
            SELECT purge_id
              FROM ticket_erasures
             WHERE state = 'open' AND next_attempt_at <= $1
               AND (claimed_until IS NULL OR claimed_until < $1)
             ORDER BY next_attempt_at, purge_id
             LIMIT 1
               FOR UPDATE SKIP LOCKED)
        UPDATE ticket_erasures t
           SET claim_token = gen_random_uuid(), attempts = attempts + 1,
               claimed_until = $1::timestamptz + $2::interval
          FROM due
         WHERE t.purge_id = due.purge_id
        RETURNING t.purge_id, t.tenant_id, t.claim_token, t.attempts,
                  (SELECT numbers FROM licences l WHERE l.tenant_id = t.tenant_id) AS numbers
        """,
        wall,
        lease,
    )
    if row is None:
        return None
    told = dict(row)
    numbers = tuple(told.pop("numbers") or ())
    return TicketClaim(**told, licence_numbers=numbers)


async def is_held_by_others(pool: Pool, tenant_id: UUID, licence_numbers: Collection[str]) -> bool:
    """Whether a tenant whose tickets are not being erased has one of these licences."""
    held = await pool.fetchval(
        """
        SELECT EXISTS (
            SELECT 1 FROM licences l
             WHERE l.numbers && $2::text[] AND l.tenant_id <> $1
               AND NOT EXISTS (SELECT 1 FROM erased_tenants e
                                WHERE e.tenant_id = l.tenant_id AND e.data_class = 'tickets'))
        """,
        tenant_id,
        list(licence_numbers),
    )
    return held is True


async def note_ticket(
    pool: Pool, claim: TicketClaim, ticket_id: str, *, claimed_until: datetime
) -> bool:
    """Count a ticket before it is erased, so that a crash forgets none, and keep the claim.

    False where another has taken over meanwhile.
    """
    noted = await pool.fetchval(
        """
        WITH kept AS (
            UPDATE ticket_erasures SET claimed_until = $4
             WHERE claim_token = $1
            RETURNING tenant_id),
        noted AS (
            INSERT INTO tickets (tenant_id, ticket_id)
            SELECT tenant_id, $3 FROM kept
            ON CONFLICT DO NOTHING)
        SELECT true FROM kept WHERE tenant_id = $2
        """,
        claim.claim_token,
        claim.tenant_id,
        ticket_id,
        claimed_until,
    )
    return noted is True


async def count_tickets(pool: Pool, tenant_id: UUID) -> int:
    """Count the tickets of a tenant that were found to be erased."""
    return int(await pool.fetchval("SELECT count(*) FROM tickets WHERE tenant_id = $1", tenant_id))


async def postpone_ticket_erasure(
    pool: Pool, claim: TicketClaim, *, trouble: str | None, next_attempt_at: datetime
) -> None:
    """Give a claim back until a later time; one that went well so far is not an attempt."""
    await pool.execute(
        """
        UPDATE ticket_erasures
           SET trouble = $2, next_attempt_at = $3, claim_token = NULL, claimed_until = NULL,
               attempts = CASE WHEN $2::text IS NULL THEN 0 ELSE attempts END
         WHERE claim_token = $1
        """,
        claim.claim_token,
        trouble,
        next_attempt_at,
    )


async def finish_ticket_erasure(
    pool: Pool, claim: TicketClaim, *, tickets_left: int, now: datetime
) -> bool:
    """Note that none of a purge's tickets is at the desk but those of others; False if too late."""
    finished = await pool.fetchval(
        """
        UPDATE ticket_erasures
           SET state = 'done', done_at = $2, tickets_left = $3, trouble = NULL,
               claim_token = NULL, claimed_until = NULL
         WHERE claim_token = $1
        RETURNING true
        """,
        claim.claim_token,
        now,
        tickets_left,
    )
    return finished is True


async def hand_over_ticket_erasure(
    pool: Pool, claim: TicketClaim, *, why: str, tickets_left: int
) -> bool:
    """Leave the rest of a purge's tickets to a person; False if too late."""
    handed_over = await pool.fetchval(
        """
        UPDATE ticket_erasures
           SET state = 'by-hand', trouble = $2, tickets_left = $3,
               claim_token = NULL, claimed_until = NULL
         WHERE claim_token = $1
        RETURNING true
        """,
        claim.claim_token,
        why,
        tickets_left,
    )
    return handed_over is True


@dataclass(frozen=True, slots=True)
class OpenTicketErasure:
    """A purge whose tickets may still be at the desk, as staff see it."""

    purge_id: UUID
    by_hand: bool
    opened_at: datetime
    attempts: int
    trouble: str | None
    licence_numbers: tuple[str, ...] = field(repr=False)


async def open_ticket_erasures(connection: Connection, *, limit: int) -> list[OpenTicketErasure]:
    """List purges with open tickets, those that wait longest first."""
    rows = await connection.fetch(
        """
        SELECT t.purge_id, t.state = 'by-hand' AS by_hand, t.opened_at, t.attempts, t.trouble,
               coalesce(l.numbers, '{}') AS numbers
          FROM ticket_erasures t
          LEFT JOIN licences l USING (tenant_id)
         WHERE t.state <> 'done'
         ORDER BY t.opened_at, t.purge_id
         LIMIT $1
        """,
        limit,
    )
    return [
        OpenTicketErasure(
            row["purge_id"],
            row["by_hand"],
            row["opened_at"],
            row["attempts"],
            row["trouble"],
            tuple(row["numbers"]),
        )
        for row in rows
    ]


async def attest_ticket_erasure(
    connection: Connection, purge_id: UUID, *, by: str, evidence: str, now: datetime
) -> bool:
    """Note a person's word that a purge's tickets are gone; False where none are open.

    A worker that is at it finds its claim gone.
    """
    attested = await connection.fetchval(
        """
        UPDATE ticket_erasures
           SET state = 'done', done_at = $4, done_by = $2, evidence = $3, trouble = NULL,
               claim_token = NULL, claimed_until = NULL
         WHERE purge_id = $1 AND state <> 'done'
        RETURNING true
        """,
        purge_id,
        by,
        evidence,
        now,
    )
    return attested is True


async def attested_purges(connection: Connection, purge_ids: Collection[UUID]) -> set[UUID]:
    """Say for which of these purges a person gave their word that its tickets are gone."""
    rows = await connection.fetch(
        """
        SELECT purge_id FROM ticket_erasures
         WHERE purge_id = ANY($1::uuid[]) AND done_by IS NOT NULL
        """,
        list(purge_ids),
    )
    return {row["purge_id"] for row in rows}


async def drop_ticket_erasures(pool: Pool, *, done_before: datetime) -> None:
    """Forget erasures of tickets that were done long ago, with what was said as evidence."""
    await pool.execute(
        "DELETE FROM ticket_erasures WHERE state = 'done' AND done_at < $1", done_before
    )
