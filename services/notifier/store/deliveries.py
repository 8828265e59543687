"""Campaigns, their deliveries, and what receipts say."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from contracts.ledger import StepProof
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import (
    MOST_DOUBTS,
    Accepted,
    Deferred,
    Outcome,
    Refused,
    Unknown,
)
from services.notifier.domain.policies import Proof, proof_of
from services.notifier.domain.receipts import Receipt
from services.notifier.domain.suppressions import scopes_that_stop
from services.notifier.store.evidence import Told, note_evidence


async def erasure_is_untouched(connection: Connection, purge_id: UUID, step: str) -> bool:
    """Whether an accepted erasure has never been begun; call it after `accept_erasure`.

    That locks the erasure's row until the transaction ends, so none begins behind our back.
    """
    untouched = await connection.fetchval(
        "SELECT attempts = 0 FROM erasures WHERE purge_id = $1 AND step = $2", purge_id, step
    )
    return untouched is True


async def plan_for_tenant(
    connection: Connection,
    campaign_id: UUID,
    kind: Kind,
    tenant_id: UUID,
    *,
    answers: Sequence[UUID] = (),
    now: datetime,
    wall: datetime,
    doubtful: bool,
) -> int:
    """Plan a campaign's message for each of a tenant's people; count the new ones.

    Where it ``answers`` other campaigns it goes to those alone who were sent these. One that is
    ``doubtful`` may have been sent before a restore, and is not sent by itself.
    """
    planned: int = await connection.fetchval(
        """
        WITH planned AS (
            INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id, address_index,
                                    kind, state, doubts, planned_at, next_attempt_at)
            SELECT gen_random_uuid(), $1, $2, a.contact_id, a.address_index, $3,
                   CASE WHEN $6 > 0 THEN 'uncertain' ELSE 'planned' END, $6, $4, $5
              FROM audience a
             WHERE a.tenant_id = $2
               AND (cardinality($7::uuid[]) = 0
                    OR EXISTS (SELECT 1 FROM deliveries d
                                WHERE d.campaign_id = ANY($7::uuid[])
                                  AND d.address_index = a.address_index
                                  AND d.state IN ('sending', 'sent', 'uncertain')))
            ON CONFLICT (campaign_id, address_index) DO NOTHING
            RETURNING 1)
        SELECT count(*) FROM planned
        """,
        campaign_id,
        tenant_id,
        kind,
        now,
        wall,
        MOST_DOUBTS if doubtful else 0,
        list(answers),
    )
    return planned


async def plan_receipts(
    connection: Connection,
    purge_id: UUID,
    tenant_id: UUID,
    *,
    now: datetime,
    wall: datetime,
    doubtful: bool,
) -> int:
    """Plan a purge's receipt for each of the tenant's people; count the new ones.

    It waits until what it says is known. One that is ``doubtful`` may have been sent before a
    restore, and is not sent by itself.
    """
    await connection.execute(
        """
        INSERT INTO campaigns (campaign_id, kind, state, noted_at)
        VALUES ($1, 'receipt', 'waiting', $2)
        ON CONFLICT (campaign_id) DO NOTHING
        """,
        purge_id,
        now,
    )
    return await plan_for_tenant(
        connection, purge_id, Kind.RECEIPT, tenant_id, now=now, wall=wall, doubtful=doubtful
    )


async def keep_receipt(
    connection: Connection, purge_id: UUID, receipt: Receipt, *, now: datetime
) -> None:
    """Keep what the ledger says of a purge, and let the mails go that repeat it."""
    await connection.execute(
        """
        INSERT INTO campaigns (campaign_id, kind, state, noted_at)
        VALUES ($1, 'receipt', 'sending', $2)
        ON CONFLICT (campaign_id) DO UPDATE SET state = 'sending'
         WHERE campaigns.state = 'waiting'
        """,
        purge_id,
        now,
    )
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
    await pool.execute(
        "DELETE FROM campaigns WHERE kind = 'receipt' AND noted_at < $1", noted_before
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery in the hands of one worker."""

    delivery_id: UUID
    claim_token: UUID
    campaign_id: UUID
    kind: Kind
    tenant_id: UUID
    contact_id: UUID
    address_index: bytes
    attempts: int


async def claim_due_delivery(pool: Pool, *, wall: datetime, lease: timedelta) -> Claim | None:
    """Take one delivery that is due, for this worker alone, and commit that it is being sent.

    Those of a campaign that waits, or is paused or stopped, are not due. The
    result must be recorded with the ``claim_token``. Times are wall time:
    servers out there know no other.
    """
    row = await pool.fetchrow(
        """
        WITH due AS (
            SELECT d.delivery_id
              FROM deliveries d
              JOIN campaigns c USING (campaign_id)
             WHERE (d.state = 'planned' OR d.state = 'uncertain' AND d.doubts < $3)
               AND d.next_attempt_at <= $1 AND c.state = 'sending'
             ORDER BY d.next_attempt_at, d.delivery_id
             LIMIT 1
               FOR UPDATE OF d SKIP LOCKED)
        UPDATE deliveries d
           SET state = 'sending', attempts = attempts + 1, claim_token = gen_random_uuid(),
               claimed_until = $1::timestamptz + $2::interval
          FROM due
         WHERE d.delivery_id = due.delivery_id
        RETURNING d.delivery_id, d.claim_token, d.campaign_id, d.kind, d.tenant_id, d.contact_id,
                  d.address_index, d.attempts
        """,
        wall,
        lease,
        MOST_DOUBTS,
    )
    return Claim(**{**row, "kind": Kind(row["kind"])}) if row else None


async def is_suppressed(connection: Connection, address_index: bytes, kind: Kind) -> bool:
    """Whether an address must not be sent this kind of message.

    News goes to nobody who stands beside any licence as a partner.
    """
    found = await connection.fetchval(
        """
        SELECT EXISTS (SELECT 1 FROM suppressions WHERE address_index = $1 AND scope = ANY($2))
            OR $3 AND EXISTS (SELECT 1 FROM audience
                               WHERE address_index = $1 AND 'partner' = ANY(roles))
        """,
        address_index,
        list(scopes_that_stop(kind)),
        kind.optional,
    )
    return found is True


async def receipt_of(connection: Connection, purge_id: UUID) -> Receipt | None:
    """Say what a purge's receipt says; None where that is forgotten."""
    row = await connection.fetchrow(
        "SELECT receipt_code, steps FROM receipts WHERE purge_id = $1", purge_id
    )
    if row is None:
        return None
    steps = tuple(StepProof.model_validate(step) for step in row["steps"])
    return Receipt(row["receipt_code"], steps)


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
    status_code = None if isinstance(outcome, Unknown) else outcome.status_code
    statement = """
        UPDATE deliveries
           SET state = CASE WHEN $2 = 'planned' AND doubts > 0 THEN 'uncertain' ELSE $2 END,
               doubts = doubts + $3, status_code = $4, accepted_at = $5, next_attempt_at = $6,
               claim_token = NULL, claimed_until = NULL
         WHERE claim_token = $1
        RETURNING true
        """
    async with pool.acquire() as connection, connection.transaction():
        recorded = await connection.fetchval(
            statement,
            claim.claim_token,
            state,
            1 if state == "uncertain" else 0,
            status_code,
            now if state == "sent" else None,
            next_attempt_at,
        )
        # Also where the delivery has gone with its tenant meanwhile: another tenant may know the
        # person, who must not be told twice.
        if claim.kind is Kind.POLICY_CHANGE and (proof := proof_of(outcome)) is not None:
            told = Told(claim.campaign_id, claim.address_index, proof, status_code)
            await note_evidence(connection, [told], now=now)
    return recorded is True


async def settle_unsent(pool: Pool, claim: Claim, *, suppressed: bool, now: datetime) -> None:
    """Give up a delivery whose contact is gone or unreadable, or that must not be sent."""
    async with pool.acquire() as connection, connection.transaction():
        settled = await connection.fetchval(
            """
            UPDATE deliveries
               SET state = $2, claim_token = NULL, claimed_until = NULL
             WHERE claim_token = $1
            RETURNING true
            """,
            claim.claim_token,
            "suppressed" if suppressed else "failed",
        )
        if settled and claim.kind is Kind.POLICY_CHANGE:
            proof = Proof.SUPPRESSED if suppressed else Proof.FAILED
            told = Told(claim.campaign_id, claim.address_index, proof)
            await note_evidence(connection, [told], now=now)


async def doubt_lost_attempts(pool: Pool, *, now: datetime, wall: datetime) -> int:
    """Make deliveries uncertain whose worker went away while it sent them; count them."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            """
            UPDATE deliveries
               SET state = 'uncertain', doubts = doubts + 1, next_attempt_at = $1,
                   claim_token = NULL, claimed_until = NULL
             WHERE state = 'sending' AND claimed_until < $1
            RETURNING campaign_id, address_index, kind
            """,
            wall,
        )
        await _note_doubts(connection, rows, now=now)
    return len(rows)


async def doubt_all_unsettled(connection: Connection, *, now: datetime) -> int:
    """Leave every delivery uncertain for good that may have been sent before a restore; count them."""
    rows = await connection.fetch(
        """
        UPDATE deliveries
           SET state = 'uncertain', doubts = $1, claim_token = NULL, claimed_until = NULL
         WHERE state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < $1
        RETURNING campaign_id, address_index, kind
        """,
        MOST_DOUBTS,
    )
    await _note_doubts(connection, rows, now=now)
    return len(rows)


async def _note_doubts(
    connection: Connection, rows: Sequence[asyncpg.Record], *, now: datetime
) -> None:
    told = [
        Told(row["campaign_id"], row["address_index"], Proof.UNCERTAIN)
        for row in rows
        if row["kind"] == Kind.POLICY_CHANGE
    ]
    await note_evidence(connection, told, now=now)


async def give_up_late_receipts(pool: Pool, *, planned_before: datetime) -> int:
    """Settle receipts whose delivery was not possible in time; count them.

    Those that may have arrived stay uncertain for good, the others have failed.
    """
    rows = await pool.fetch(
        """
        UPDATE deliveries
           SET state = CASE WHEN state = 'planned' THEN 'failed' ELSE 'uncertain' END,
               doubts = CASE WHEN state = 'planned' THEN doubts ELSE $2 END,
               claim_token = NULL, claimed_until = NULL
         WHERE planned_at <= $1 AND kind = 'receipt'
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
        SELECT DISTINCT campaign_id
          FROM deliveries
         WHERE campaign_id = ANY($1::uuid[])
           AND (state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < $2)
        """,
        list(purge_ids),
        MOST_DOUBTS,
    )
    return {row["campaign_id"] for row in rows}
