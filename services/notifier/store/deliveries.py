"""Campaigns, their deliveries, and what receipts say."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

from chassis.database import Connection, Pool
from contracts.ledger import StepProof
from services.notifier.domain.campaigns import OPTIONAL, Kind
from services.notifier.domain.deliveries import (
    MOST_DOUBTS,
    Accepted,
    Deferred,
    NotTried,
    Refused,
    Settled,
    Suppressed,
    Unknown,
    Unwritable,
    doubts_after,
)
from services.notifier.domain.people import Language
from services.notifier.domain.receipts import Receipt
from services.notifier.domain.suppressions import scopes_that_stop


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
    deliveries: Sequence[tuple[UUID, UUID, bytes]],
    *,
    now: datetime,
    wall: datetime,
    doubtful: bool,
) -> int:
    """Plan a purge's receipt for each (delivery_id, contact_id, address_index); count the new ones.

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
    planned = await connection.fetchval(
        """
        WITH planned AS (
            INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id, address_index,
                                    kind, state, doubts, planned_at, next_attempt_at)
            SELECT d.delivery_id, $1, $2, d.contact_id, d.address_index, 'receipt',
                   CASE WHEN $8 > 0 THEN 'uncertain' ELSE 'planned' END, $8, $6, $7
              FROM unnest($3::uuid[], $4::uuid[], $5::bytea[])
                   AS d(delivery_id, contact_id, address_index)
            ON CONFLICT (campaign_id, address_index) DO NOTHING
            RETURNING 1)
        SELECT count(*) FROM planned
        """,
        purge_id,
        tenant_id,
        [delivery_id for delivery_id, _, _ in deliveries],
        [contact_id for _, contact_id, _ in deliveries],
        [address_index for _, _, address_index in deliveries],
        now,
        wall,
        MOST_DOUBTS if doubtful else 0,
    )
    return int(planned)


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
    """One delivery in the hands of one worker, and by whom it is reached.

    ``tenant_id`` and ``contact_id`` name the contact whose seal is to be opened, None where nobody
    is there any more; the key is that tenant's, wrapped.
    """

    delivery_id: UUID
    campaign_id: UUID
    kind: Kind
    address_index: bytes
    attempts: int
    has_slot: bool
    suppressed: bool
    tenant_id: UUID | None
    contact_id: UUID | None
    language: Language
    addon_key: str | None
    wrapped_key: bytes | None
    kek_id: str | None


async def claim_due_deliveries(
    connection: Connection, token: UUID, *, wall: datetime, lease: timedelta, limit: int
) -> list[Claim]:
    """Take up to ``limit`` deliveries that are due, for the holder of ``token`` alone.

    Those of a campaign that waits, or is paused or stopped, are not due. What is about one tenant
    goes before large campaigns, and of these what is owed goes before news. One whose contact is
    gone, in a large campaign, goes to the same address in another tenant that lives. Nothing may
    be handed over before this is committed. Times are wall time: servers out there know no other.
    """
    rows = await connection.fetch(
        """
        WITH small AS (
            SELECT d.delivery_id
              FROM deliveries d
              JOIN campaigns c USING (campaign_id)
             WHERE (d.state = 'planned' OR d.state = 'uncertain' AND d.doubts < 2)
               AND d.kind NOT IN ('policy-change', 'product-update', 'new-product')
               AND d.next_attempt_at <= $1 AND c.state = 'sending'
             ORDER BY d.next_attempt_at
             LIMIT $4
               FOR UPDATE OF d SKIP LOCKED),
        large AS (
            SELECT d.delivery_id
              FROM (SELECT campaign_id
                      FROM campaigns
                     WHERE state = 'sending'
                       AND kind IN ('policy-change', 'product-update', 'new-product')
                     ORDER BY kind <> 'policy-change', noted_at
                    OFFSET 0) c
             CROSS JOIN LATERAL (
                    SELECT delivery_id
                      FROM deliveries
                     WHERE (state = 'planned' OR state = 'uncertain' AND doubts < 2)
                       AND kind IN ('policy-change', 'product-update', 'new-product')
                       AND campaign_id = c.campaign_id AND next_attempt_at <= $1
                     ORDER BY next_attempt_at
                     LIMIT $4
                       FOR UPDATE SKIP LOCKED) d
             LIMIT $4),
        due AS (
            SELECT delivery_id FROM small UNION ALL SELECT delivery_id FROM large LIMIT $4),
        claimed AS (
            UPDATE deliveries d
               SET state = 'sending', attempts = attempts + 1, claim_token = $2,
                   claimed_until = $1::timestamptz + $3::interval
              FROM due
             WHERE d.delivery_id = due.delivery_id
            RETURNING d.*)
        SELECT d.delivery_id, d.campaign_id, d.kind, d.address_index, d.attempts, d.has_slot,
               EXISTS (SELECT 1
                         FROM suppressions s
                        WHERE s.address_index = d.address_index
                          AND (s.scope = 'everything'
                               OR d.kind = ANY($5) AND s.scope IN ('optional', d.kind)))
                   AS suppressed,
               who.tenant_id, who.contact_id, coalesce(who.language, 'en') AS language,
               t.addon_key, k.wrapped_key, k.kek_id
          FROM claimed d
          LEFT JOIN LATERAL (
                SELECT a.tenant_id, a.contact_id, a.language
                  FROM audience a
                  LEFT JOIN tenants other USING (tenant_id)
                 WHERE a.address_index = d.address_index
                   AND ((a.tenant_id, a.contact_id) = (d.tenant_id, d.contact_id)
                        OR other.contacts = 'live'
                           AND d.kind IN ('policy-change', 'product-update', 'new-product'))
                 ORDER BY (a.tenant_id, a.contact_id) = (d.tenant_id, d.contact_id) DESC, a.since
                 LIMIT 1) who ON true
          LEFT JOIN tenants t ON t.tenant_id = who.tenant_id
          LEFT JOIN tenant_keys k ON k.tenant_id = who.tenant_id
        """,
        wall,
        token,
        lease,
        limit,
        [kind.value for kind in OPTIONAL],
    )
    return [
        Claim(**{**row, "kind": Kind(row["kind"]), "language": Language(row["language"])})
        for row in rows
    ]


async def let_go(connection: Connection, token: UUID) -> None:
    """Undo claims of which nothing was handed over: their worker never knew that it had them."""
    await connection.execute(
        """
        UPDATE deliveries
           SET state = CASE WHEN doubts > 0 THEN 'uncertain' ELSE 'planned' END,
               attempts = attempts - 1, claim_token = NULL, claimed_until = NULL
         WHERE claim_token = $1
        """,
        token,
    )


async def is_suppressed(connection: Connection, address_index: bytes, kind: Kind) -> bool:
    """Whether an address must not be sent this kind of message."""
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM suppressions WHERE address_index = $1 AND scope = ANY($2))",
        address_index,
        list(scopes_that_stop(kind)),
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


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one claimed delivery, and when it may be tried again if it may."""

    claim: Claim
    outcome: Settled
    next_attempt_at: datetime


async def record_outcomes(
    connection: Connection, token: UUID, done: Sequence[Done], *, now: datetime
) -> int:
    """Write down what became of claimed deliveries; count them.

    Those that another has taken over meanwhile are left alone. A delivery that was uncertain
    before stays so when it is put off: the earlier message may still have arrived.
    """
    recorded = await connection.fetchval(
        """
        WITH recorded AS (
            UPDATE deliveries d
               SET state = CASE WHEN o.state = 'planned' AND d.doubts > 0 THEN 'uncertain'
                                ELSE o.state END,
                   attempts = d.attempts - o.untried, has_slot = o.has_slot,
                   doubts = d.doubts + o.doubts, status_code = o.status_code,
                   accepted_at = CASE WHEN o.state = 'sent' THEN $2::timestamptz END,
                   next_attempt_at = o.next_attempt_at,
                   tenant_id = coalesce(o.tenant_id, d.tenant_id),
                   contact_id = coalesce(o.contact_id, d.contact_id),
                   claim_token = NULL, claimed_until = NULL
              FROM unnest($3::uuid[], $4::text[], $5::int[], $6::bool[], $7::int[], $8::int[],
                          $9::timestamptz[], $10::uuid[], $11::uuid[])
                   AS o(delivery_id, state, untried, has_slot, doubts, status_code,
                        next_attempt_at, tenant_id, contact_id)
             WHERE d.claim_token = $1 AND d.delivery_id = o.delivery_id
            RETURNING 1)
        SELECT count(*) FROM recorded
        """,
        token,
        now,
        [each.claim.delivery_id for each in done],
        [_state_after(each.outcome) for each in done],
        [1 if isinstance(each.outcome, NotTried) else 0 for each in done],
        [isinstance(each.outcome, NotTried) and each.outcome.has_slot for each in done],
        [
            doubts_after(each.claim.kind) if isinstance(each.outcome, Unknown) else 0
            for each in done
        ],
        [getattr(each.outcome, "status_code", None) for each in done],
        [each.next_attempt_at for each in done],
        [each.claim.tenant_id for each in done],
        [each.claim.contact_id for each in done],
    )
    return int(recorded)


def _state_after(outcome: Settled) -> str:
    match outcome:
        case Accepted():
            return "sent"
        case Refused() | Unwritable():
            return "failed"
        case Deferred() | NotTried():
            return "planned"
        case Unknown():
            return "uncertain"
        case Suppressed():
            return "suppressed"
        case other:
            assert_never(other)


async def doubt_lost_attempts(pool: Pool, *, wall: datetime) -> int:
    """Make deliveries uncertain whose worker went away while it sent them; count them."""
    rows = await pool.fetch(
        """
        UPDATE deliveries
           SET state = 'uncertain', next_attempt_at = $1, claim_token = NULL, claimed_until = NULL,
               doubts = doubts + CASE WHEN kind = ANY($2) THEN $3 ELSE 1 END
         WHERE state = 'sending' AND claimed_until < $1
        RETURNING 1
        """,
        wall,
        [kind.value for kind in OPTIONAL],
        MOST_DOUBTS,
    )
    return len(rows)


async def doubt_all_unsettled(connection: Connection) -> int:
    """Make every delivery uncertain that may have been sent before a restore; count them.

    Receipts and news are left so for good. What else is owed to everybody is sent once more when
    a person resumes its campaign.
    """
    rows = await connection.fetch(
        """
        UPDATE deliveries
           SET state = 'uncertain', claim_token = NULL, claimed_until = NULL,
               doubts = CASE WHEN kind = 'receipt' OR kind = ANY($2) THEN $1
                             ELSE greatest(doubts, 1) END
         WHERE state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < $1
        RETURNING 1
        """,
        MOST_DOUBTS,
        [kind.value for kind in OPTIONAL],
    )
    return len(rows)


async def rebind_deliveries(connection: Connection, tenant_id: UUID) -> int:
    """Hand a leaving tenant's part in large campaigns over to who knows the same people; count it.

    So a person whom another living tenant knows is still written to, and never twice. What nobody
    else knows goes with the tenant.
    """
    rows = await connection.fetch(
        """
        UPDATE deliveries d
           SET tenant_id = who.tenant_id, contact_id = who.contact_id
          FROM (SELECT DISTINCT ON (a.address_index) a.address_index, a.tenant_id, a.contact_id
                  FROM audience mine
                  JOIN audience a USING (address_index)
                  JOIN tenants t ON t.tenant_id = a.tenant_id AND t.contacts = 'live'
                 WHERE mine.tenant_id = $1 AND a.tenant_id <> $1
                   AND NOT EXISTS (SELECT 1
                                     FROM erased_tenants e
                                    WHERE e.tenant_id = a.tenant_id AND e.data_class = 'contacts')
                 ORDER BY a.address_index, a.since) who
         WHERE d.tenant_id = $1 AND d.address_index = who.address_index
           AND d.kind IN ('policy-change', 'product-update', 'new-product')
        RETURNING 1
        """,
        tenant_id,
    )
    return len(rows)


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
