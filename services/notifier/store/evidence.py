"""Evidence of who was told of which revision, which outlives the contact, and what it adds up to."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.database import Connection, Pool
from services.notifier.domain.policies import Coverage, Failure, Proof, campaign_of
from services.notifier.store.policies import told_before

_SHOWN: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """What is known, from one attempt, of a campaign having reached an address."""

    campaign_id: UUID
    address_index: bytes
    proof: Proof
    status_code: int | None = None


async def note_evidence(connection: Connection, told: Collection[Told], *, now: datetime) -> None:
    """Keep what these attempts prove; call it in the transaction that settles the deliveries.

    Campaigns that tell of no revision are passed over. What was accepted stays so, whatever came
    later. An address may stand in one call once for each campaign.
    """
    if not told:
        return
    await connection.execute(
        """
        INSERT INTO policy_evidence AS e (number, address_index, outcome, status_code, at)
        SELECT r.number, t.address_index, t.outcome, t.status_code, $5
          FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::integer[])
               AS t(campaign_id, address_index, outcome, status_code)
          JOIN policy_revisions r USING (campaign_id)
         ORDER BY r.number, t.address_index
        ON CONFLICT (number, address_index) DO UPDATE
           SET outcome = excluded.outcome, status_code = excluded.status_code, at = excluded.at
         WHERE e.outcome <> 'accepted'
        """,
        [each.campaign_id for each in told],
        [each.address_index for each in told],
        [each.proof for each in told],
        [each.status_code for each in told],
        now,
    )


async def drop_evidence(pool: Pool, *, replaced_before: datetime) -> int:
    """Forget who was told of revisions that were replaced before then; count the persons."""
    dropped: int = await pool.fetchval(
        """
        WITH replaced AS (
            SELECT r.number
              FROM policy_revisions r
             WHERE EXISTS (SELECT FROM policy_revisions next
                             JOIN policy_drafts d USING (draft_id)
                            WHERE next.number > r.number AND d.effective_at < $1)),
        dropped AS (
            DELETE FROM policy_evidence e
             USING replaced
             WHERE e.number = replaced.number
            RETURNING 1)
        SELECT count(*) FROM dropped
        """,
        replaced_before,
        timeout=timedelta(seconds=100).total_seconds(),
    )
    return dropped


async def coverage(connection: Connection, number: int) -> Coverage:
    """Add up who was told of a revision, in one look; the first 500 who were not, by hash."""
    rows = await connection.fetch(
        """
        WITH person AS (
            SELECT address_index FROM policy_evidence WHERE number = $1
             UNION
            SELECT address_index FROM deliveries WHERE campaign_id = $2
             UNION
            SELECT a.address_index
              FROM audience a
              JOIN tenants t USING (tenant_id)
             WHERE t.contacts = 'live' AND a.since < $3)
        SELECT coalesce(e.outcome, CASE WHEN d.delivery_id IS NULL THEN 'unplanned' ELSE 'open' END)
               AS outcome,
               count(*) AS persons
          FROM person p
          LEFT JOIN policy_evidence e ON e.number = $1 AND e.address_index = p.address_index
          LEFT JOIN deliveries d ON d.campaign_id = $2 AND d.address_index = p.address_index
         GROUP BY 1
        """,
        number,
        campaign_of(number),
        await told_before(connection, number),
    )
    counts = {row["outcome"]: row["persons"] for row in rows}
    uninformed, seen_in_app = await _tenants_without_contact(connection, number)
    return Coverage(
        contacts=sum(counts.values()),
        proofs={proof: counts.get(proof, 0) for proof in Proof},
        open=counts.get("open", 0),
        unplanned=counts.get("unplanned", 0),
        uninformed=uninformed,
        seen_in_app=seen_in_app,
        failures=await _failures(connection, number),
    )


async def _tenants_without_contact(connection: Connection, number: int) -> tuple[int, int]:
    """Count the tenants of which nobody is known, and those of them that saw the notice."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS tenants, count(s.seen_at) AS seen
          FROM tenants t
          LEFT JOIN policy_sights s ON s.tenant_id = t.tenant_id AND s.number = $1
         WHERE t.contacts = 'live'
           AND NOT EXISTS (SELECT FROM audience a WHERE a.tenant_id = t.tenant_id)
        """,
        number,
    )
    assert row is not None
    return row["tenants"], row["seen"]


async def _failures(connection: Connection, number: int) -> tuple[Failure, ...]:
    rows = await connection.fetch(
        """
        SELECT e.address_index, e.outcome, e.status_code, e.at, s.reasons
          FROM policy_evidence e
          LEFT JOIN LATERAL (
                SELECT string_agg(DISTINCT reason, ', ' ORDER BY reason) AS reasons
                  FROM suppressions s
                 WHERE s.address_index = e.address_index AND s.scope = 'everything') s ON true
         WHERE e.number = $1 AND e.outcome <> 'accepted'
         ORDER BY e.at, e.address_index
         LIMIT $2
        """,
        number,
        _SHOWN,
    )
    return tuple(
        Failure(
            row["address_index"],
            Proof(row["outcome"]),
            row["status_code"],
            row["at"],
            row["reasons"],
        )
        for row in rows
    )
