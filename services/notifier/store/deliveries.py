"""Campaigns, their deliveries, and what receipts say."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import asyncpg

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
    tenant_id: UUID | None
    contact_id: UUID | None
    language: Language
    is_technical: bool
    addon_key: str | None
    wrapped_key: bytes | None
    kek_id: str | None


async def claim_due_deliveries(
    connection: Connection, token: UUID, *, wall: datetime, lease: timedelta, limit: int
) -> list[Claim]:
    """Take up to ``limit`` deliveries that are due, for the holder of ``token`` alone.

    Those of a campaign that waits, or is paused or stopped, are not due. What is about one tenant
    goes before large campaigns, and of these what is owed goes before news. One whose contact is
    gone, in a large campaign, is reached as a contact of another tenant that lives. Nothing may
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
               who.tenant_id, who.contact_id, coalesce(who.language, 'en') AS language,
               coalesce('technical' = ANY(who.roles), false) AS is_technical,
               t.addon_key, k.wrapped_key, k.kek_id
          FROM claimed d
          LEFT JOIN LATERAL (
                SELECT a.tenant_id, a.contact_id, a.language, a.roles
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


async def suppressed_among(
    connection: Connection, messages: Collection[tuple[bytes, Kind]]
) -> set[tuple[bytes, Kind]]:
    """Say which messages, by (address_index, kind), must not be sent.

    News goes to nobody who stands beside any licence as a partner.
    """
    stops = [(kind, scope) for kind in Kind for scope in scopes_that_stop(kind)]
    rows = await connection.fetch(
        """
        SELECT m.address_index, m.kind
          FROM unnest($1::bytea[], $2::text[]) AS m(address_index, kind)
         WHERE EXISTS (SELECT 1
                         FROM suppressions s
                         JOIN unnest($3::text[], $4::text[]) AS stops(kind, scope) USING (scope)
                        WHERE s.address_index = m.address_index AND stops.kind = m.kind)
            OR m.kind = ANY($5)
               AND EXISTS (SELECT 1 FROM audience a
                            WHERE a.address_index = m.address_index AND 'partner' = ANY(a.roles))
        """,
        [address_index for address_index, _ in messages],
        [kind for _, kind in messages],
        [kind for kind, _ in stops],
        [scope for _, scope in stops],
        list(OPTIONAL),
    )
    return {(row["address_index"], Kind(row["kind"])) for row in rows}


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

    @property
    def status_code(self) -> int | None:
        """The mail server's reply, where there was one."""
        code: int | None = getattr(self.outcome, "status_code", None)
        return code


async def record_outcomes(
    connection: Connection, token: UUID, done: Sequence[Done], *, now: datetime
) -> int:
    """Write down what became of claimed deliveries, and what it proves; count the deliveries.

    Those that another has taken over meanwhile are left alone. A delivery that was uncertain
    before stays so when it is put off: the earlier message may still have arrived.
    """
    rows = await connection.fetch(
        """
        UPDATE deliveries d
           SET state = CASE WHEN o.state = 'planned' AND d.doubts > 0 THEN 'uncertain'
                            ELSE o.state END,
               attempts = d.attempts - o.untried, has_slot = o.has_slot,
               doubts = d.doubts + o.doubts, status_code = o.status_code,
               accepted_at = CASE WHEN o.state = 'sent' THEN $2::timestamptz END,
               next_attempt_at = o.next_attempt_at,
               claim_token = NULL, claimed_until = NULL
          FROM unnest($3::uuid[], $4::text[], $5::int[], $6::bool[], $7::int[], $8::int[],
                      $9::timestamptz[])
               AS o(delivery_id, state, untried, has_slot, doubts, status_code, next_attempt_at)
         WHERE d.claim_token = $1 AND d.delivery_id = o.delivery_id
        RETURNING d.delivery_id
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
        [each.status_code for each in done],
        [each.next_attempt_at for each in done],
    )
    recorded = {row["delivery_id"] for row in rows}
    await note_evidence(
        connection,
        [
            Told(each.claim.campaign_id, each.claim.address_index, proof, each.status_code)
            for each in done
            if each.claim.kind is Kind.POLICY_CHANGE
            and (proof := proof_of(each.outcome)) is not None
            # What was handed over proves something also where the delivery has gone with its
            # tenant: another tenant may know the person, who must not be told twice.
            and (
                each.claim.delivery_id in recorded
                or not isinstance(each.outcome, Suppressed | Unwritable)
            )
        ],
        now=now,
    )
    return len(recorded)


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


async def doubt_lost_attempts(pool: Pool, *, now: datetime, wall: datetime) -> int:
    """Make deliveries uncertain whose worker went away while it sent them; count them."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            """
            UPDATE deliveries
               SET state = 'uncertain', next_attempt_at = $1,
                   doubts = doubts + CASE WHEN kind = ANY($2) THEN $3 ELSE 1 END,
                   claim_token = NULL, claimed_until = NULL
             WHERE state = 'sending' AND claimed_until < $1
            RETURNING campaign_id, address_index, kind
            """,
            wall,
            list(OPTIONAL),
            MOST_DOUBTS,
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
