"""Every SQL statement of notifier: tenants, contacts, receipts and their deliveries, tickets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never
from uuid import UUID

from chassis.database import Connection, Pool
from contracts.ledger import StepProof
from contracts.tenants import ClassState
from services.notifier.domain import (
    LICENCES_UNKNOWN,
    MOST_DOUBTS,
    Accepted,
    Deferred,
    Outcome,
    Receipt,
    Refused,
    Tenant,
    TicketsGo,
    Unknown,
)


async def remember_tenant(connection: Connection, tenant: Tenant) -> None:
    """Make what is known of a tenant this."""
    await connection.execute(
        """
        INSERT INTO tenants (tenant_id, addon_key, contacts)
        VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id) DO UPDATE
           SET addon_key = excluded.addon_key, contacts = excluded.contacts
        """,
        tenant.tenant_id,
        tenant.addon_key,
        tenant.contacts,
    )


async def forget_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Know nothing of a tenant any more."""
    await connection.execute("DELETE FROM tenants WHERE tenant_id = $1", tenant_id)


async def tenant(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """Say what is known of a tenant."""
    row = await connection.fetchrow(
        "SELECT addon_key, contacts FROM tenants WHERE tenant_id = $1", tenant_id
    )
    if row is None:
        return None
    return Tenant(tenant_id, row["addon_key"], ClassState(row["contacts"]))


# Contacts are under row-level security: the functions below need `act_for`.


class SealedContact(NamedTuple):
    """A contact as it is stored."""

    contact_id: UUID
    name: bytes
    address: bytes


async def keep_contact(
    connection: Connection, tenant_id: UUID, contact: SealedContact, *, address_index: bytes
) -> tuple[UUID, bool]:
    """Keep a contact; return its id, and whether it is new.

    There is one for each address of a tenant: the same address again changes its name.
    """
    row = await connection.fetchrow(
        """
        INSERT INTO contacts (tenant_id, contact_id, name, address, address_index)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, address_index) DO UPDATE
           SET name = excluded.name, address = excluded.address
        RETURNING contact_id, contact_id = $2 AS is_new
        """,
        tenant_id,
        contact.contact_id,
        contact.name,
        contact.address,
        address_index,
    )
    assert row is not None
    return row["contact_id"], row["is_new"]


async def contact(
    connection: Connection, tenant_id: UUID, contact_id: UUID
) -> SealedContact | None:
    """Find one contact of a tenant."""
    row = await connection.fetchrow(
        "SELECT contact_id, name, address FROM contacts WHERE tenant_id = $1 AND contact_id = $2",
        tenant_id,
        contact_id,
    )
    return SealedContact(*row) if row else None


async def contacts_with_index(
    connection: Connection, tenant_id: UUID
) -> list[tuple[SealedContact, bytes]]:
    """List a tenant's contacts, each with the index by which its address is known again."""
    rows = await connection.fetch(
        """
        SELECT contact_id, name, address, address_index
          FROM contacts
         WHERE tenant_id = $1
         ORDER BY contact_id
        """,
        tenant_id,
    )
    return [(SealedContact(*row[:3]), row["address_index"]) for row in rows]


async def add_contact_unless_known(
    connection: Connection, tenant_id: UUID, contact: SealedContact, *, address_index: bytes
) -> None:
    """Keep a contact that came from elsewhere; whoever is there already stays the same."""
    await connection.execute(
        """
        INSERT INTO contacts (tenant_id, contact_id, name, address, address_index)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING
        """,
        tenant_id,
        contact.contact_id,
        contact.name,
        contact.address,
        address_index,
    )


async def contact_ids(connection: Connection, tenant_id: UUID) -> list[UUID]:
    """List a tenant's contacts."""
    rows = await connection.fetch(
        "SELECT contact_id FROM contacts WHERE tenant_id = $1 ORDER BY contact_id", tenant_id
    )
    return [row["contact_id"] for row in rows]


async def erasure_is_untouched(connection: Connection, purge_id: UUID, step: str) -> bool:
    """Whether an accepted erasure has never been begun; call it after `accept_erasure`.

    That locks the erasure's row until the transaction ends, so none begins behind our back.
    """
    untouched = await connection.fetchval(
        "SELECT attempts = 0 FROM erasures WHERE purge_id = $1 AND step = $2", purge_id, step
    )
    return untouched is True


async def plan_receipts(
    connection: Connection,
    purge_id: UUID,
    tenant_id: UUID,
    deliveries: Sequence[tuple[UUID, UUID, str]],
    *,
    now: datetime,
    wall: datetime,
    doubtful: bool,
) -> int:
    """Plan a purge's receipt for each (delivery_id, contact_id, message_id); count the new ones.

    One that is ``doubtful`` may have been sent before a restore, and is not sent by itself.
    """
    planned = await connection.fetchval(
        """
        WITH planned AS (
            INSERT INTO deliveries (delivery_id, purge_id, tenant_id, contact_id, kind, state,
                                    doubts, message_id, planned_at, next_attempt_at)
            SELECT d.delivery_id, $1, $2, d.contact_id, 'receipt',
                   CASE WHEN $8 > 0 THEN 'uncertain' ELSE 'planned' END, $8, d.message_id, $6, $7
              FROM unnest($3::uuid[], $4::uuid[], $5::text[])
                   AS d(delivery_id, contact_id, message_id)
            ON CONFLICT (purge_id, contact_id, kind) DO NOTHING
            RETURNING 1)
        SELECT count(*) FROM planned
        """,
        purge_id,
        tenant_id,
        [delivery_id for delivery_id, _, _ in deliveries],
        [contact_id for _, contact_id, _ in deliveries],
        [message_id for _, _, message_id in deliveries],
        now,
        wall,
        MOST_DOUBTS if doubtful else 0,
    )
    return int(planned)


@dataclass(frozen=True, slots=True)
class OpenMove:
    """People who are to move to another tenant before theirs is forgotten."""

    purge_id: UUID
    tenant_id: UUID
    merged_into: UUID
    noted_at: datetime


async def note_move(
    connection: Connection, purge_id: UUID, tenant_id: UUID, merged_into: UUID, *, now: datetime
) -> None:
    """Note, once, that people are to move; the purge's erasure waits for it."""
    await connection.execute(
        """
        INSERT INTO moves (purge_id, tenant_id, merged_into, state, noted_at)
        VALUES ($1, $2, $3, 'open', $4)
        ON CONFLICT (purge_id) DO NOTHING
        """,
        purge_id,
        tenant_id,
        merged_into,
        now,
    )


async def open_moves(pool: Pool) -> list[UUID]:
    """List the purges whose people are to move, those that wait longest first."""
    rows = await pool.fetch("SELECT purge_id FROM moves WHERE state = 'open' ORDER BY noted_at")
    return [row["purge_id"] for row in rows]


async def lock_open_move(connection: Connection, purge_id: UUID) -> OpenMove | None:
    """Take a move that is still open, for this transaction alone; None where another has it."""
    row = await connection.fetchrow(
        """
        SELECT purge_id, tenant_id, merged_into, noted_at
          FROM moves
         WHERE purge_id = $1 AND state = 'open'
           FOR UPDATE SKIP LOCKED
        """,
        purge_id,
    )
    return OpenMove(**row) if row else None


async def settle_move(connection: Connection, purge_id: UUID, *, moved: bool) -> None:
    """Note what became of a move, so that the erasure may begin."""
    await connection.execute(
        "UPDATE moves SET state = $2 WHERE purge_id = $1",
        purge_id,
        "moved" if moved else "given-up",
    )


async def purges_with_open_moves(connection: Connection, purge_ids: Collection[UUID]) -> set[UUID]:
    """Say which of these purges have people who are still to move."""
    rows = await connection.fetch(
        "SELECT purge_id FROM moves WHERE purge_id = ANY($1::uuid[]) AND state = 'open'",
        list(purge_ids),
    )
    return {row["purge_id"] for row in rows}


async def keep_receipt(
    connection: Connection, purge_id: UUID, receipt: Receipt, *, now: datetime
) -> None:
    """Keep what the ledger says of a purge, for the mails that repeat it."""
    await connection.execute(
        """
        INSERT INTO receipts (purge_id, receipt_code, steps, noted_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (purge_id) DO NOTHING
        """,
        purge_id,
        receipt.receipt_code,
        [step.model_dump(mode="json") for step in receipt.steps],
        now,
    )


async def drop_receipts(pool: Pool, *, noted_before: datetime) -> None:
    """Forget receipts that nobody is going to be sent any more."""
    await pool.execute("DELETE FROM receipts WHERE noted_at < $1", noted_before)


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery in the hands of one worker, with what its mail has to say."""

    delivery_id: UUID
    claim_token: UUID
    purge_id: UUID
    tenant_id: UUID
    contact_id: UUID
    message_id: str
    attempts: int
    receipt: Receipt


async def claim_due_delivery(pool: Pool, *, wall: datetime, lease: timedelta) -> Claim | None:
    """Take one delivery that is due, for this worker alone, and commit that it is being sent.

    One waits until the ledger has told what its receipt says. The result must
    be recorded with the ``claim_token``. Times are wall time: servers out there
    know no other.
    """
    row = await pool.fetchrow(
        """
        WITH due AS (
            SELECT d.delivery_id, r.receipt_code, r.steps
              FROM deliveries d
              JOIN receipts r USING (purge_id)
             WHERE (d.state = 'planned' OR d.state = 'uncertain' AND d.doubts < $3)
               AND d.next_attempt_at <= $1
             ORDER BY d.next_attempt_at, d.delivery_id
             LIMIT 1
               FOR UPDATE OF d SKIP LOCKED)
        UPDATE deliveries d
           SET state = 'sending', attempts = attempts + 1, claim_token = gen_random_uuid(),
               claimed_until = $1::timestamptz + $2::interval
          FROM due
         WHERE d.delivery_id = due.delivery_id
        RETURNING d.delivery_id, d.claim_token, d.purge_id, d.tenant_id, d.contact_id,
                  d.message_id, d.attempts, due.receipt_code, due.steps
        """,
        wall,
        lease,
        MOST_DOUBTS,
    )
    if row is None:
        return None
    told = dict(row)
    steps = tuple(StepProof.model_validate(step) for step in told.pop("steps"))
    receipt = Receipt(told.pop("receipt_code"), steps)
    return Claim(**told, receipt=receipt)


async def record_outcome(
    pool: Pool, claim: Claim, outcome: Outcome, *, now: datetime, next_attempt_at: datetime
) -> bool:
    """Write down what became of an attempt; False where another has taken over meanwhile.

    A delivery that was uncertain before stays so when it is put off: the
    earlier message may still have arrived.
    """
    match outcome:
        case Accepted():
            state = "sent"
        case Refused():
            state = "failed"
        case Deferred():
            state = "planned"
        case Unknown():
            state = "uncertain"
        case other:
            assert_never(other)
    recorded = await pool.fetchval(
        """
        UPDATE deliveries
           SET state = CASE WHEN $2 = 'planned' AND doubts > 0 THEN 'uncertain' ELSE $2 END,
               doubts = doubts + $3, status_code = $4, accepted_at = $5, next_attempt_at = $6,
               claim_token = NULL, claimed_until = NULL
         WHERE claim_token = $1
        RETURNING true
        """,
        claim.claim_token,
        state,
        1 if state == "uncertain" else 0,
        None if isinstance(outcome, Unknown) else outcome.status_code,
        now if state == "sent" else None,
        next_attempt_at,
    )
    return recorded is True


async def fail_unwritable(pool: Pool, claim: Claim) -> None:
    """Give up a delivery whose contact is gone, or cannot be read any more."""
    await pool.execute(
        """
        UPDATE deliveries
           SET state = 'failed', claim_token = NULL, claimed_until = NULL
         WHERE claim_token = $1
        """,
        claim.claim_token,
    )


async def doubt_lost_attempts(pool: Pool, *, wall: datetime) -> int:
    """Make deliveries uncertain whose worker went away while it sent them; count them."""
    rows = await pool.fetch(
        """
        UPDATE deliveries
           SET state = 'uncertain', doubts = doubts + 1, next_attempt_at = $1,
               claim_token = NULL, claimed_until = NULL
         WHERE state = 'sending' AND claimed_until < $1
        RETURNING 1
        """,
        wall,
    )
    return len(rows)


async def doubt_all_unsettled(connection: Connection) -> int:
    """Leave every delivery uncertain for good that may have been sent before a restore; count them."""
    rows = await connection.fetch(
        """
        UPDATE deliveries
           SET state = 'uncertain', doubts = $1, claim_token = NULL, claimed_until = NULL
         WHERE state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < $1
        RETURNING 1
        """,
        MOST_DOUBTS,
    )
    return len(rows)


async def give_up_late_deliveries(pool: Pool, *, planned_before: datetime) -> int:
    """Settle deliveries that were not possible in time; count them.

    Those that may have arrived stay uncertain for good, the others have failed.
    """
    rows = await pool.fetch(
        """
        UPDATE deliveries
           SET state = CASE WHEN state = 'planned' THEN 'failed' ELSE 'uncertain' END,
               doubts = CASE WHEN state = 'planned' THEN doubts ELSE $2 END,
               claim_token = NULL, claimed_until = NULL
         WHERE planned_at <= $1
           AND (state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < $2)
        RETURNING 1
        """,
        planned_before,
        MOST_DOUBTS,
    )
    return len(rows)


async def purges_with_open_deliveries(
    connection: Connection, purge_ids: Collection[UUID]
) -> set[UUID]:
    """Say which of these purges have a delivery whose fate is not settled yet."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT purge_id
          FROM deliveries
         WHERE purge_id = ANY($1::uuid[])
           AND (state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < $2)
        """,
        list(purge_ids),
        MOST_DOUBTS,
    )
    return {row["purge_id"] for row in rows}


# -- tickets: what they are found by, and the erasures that reach them --------------------------


async def remember_licences(
    connection: Connection, tenant_id: UUID, numbers: Sequence[str]
) -> None:
    """Make the numbers by which a tenant's tickets are found these; call it under its lock.

    Once the tenant's tickets are being erased nothing changes any more.
    """
    await connection.execute(
        """
        INSERT INTO licences (tenant_id, numbers)
        SELECT $1, $2
         WHERE NOT EXISTS (SELECT 1 FROM erased_tenants
                            WHERE tenant_id = $1 AND data_class = 'tickets')
        ON CONFLICT (tenant_id) DO UPDATE SET numbers = excluded.numbers
         WHERE licences.numbers <> excluded.numbers
        """,
        tenant_id,
        list(numbers),
    )


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
