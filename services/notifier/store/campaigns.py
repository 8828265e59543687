"""Campaigns as a whole: pausing them, resuming them, how far they have come, what is in doubt."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from services.notifier.domain.campaigns import CampaignState, Kind
from services.notifier.domain.deliveries import MOST_DOUBTS
from services.notifier.domain.paces import WINDOW, Pace, pace_of


async def pause_campaign(connection: Connection, campaign_id: UUID) -> bool:
    """Send nothing more of a campaign until somebody resumes it; False where it is not sending."""
    paused = await connection.fetchval(
        """
        UPDATE campaigns SET state = 'paused'
         WHERE campaign_id = $1 AND state IN ('waiting', 'sending')
        RETURNING true
        """,
        campaign_id,
    )
    return paused is True


async def pause_large_campaigns(connection: Connection) -> int:
    """Pause every campaign that goes to all, also one that seems done; count them."""
    rows = await connection.fetch(
        """
        UPDATE campaigns SET state = 'paused'
         WHERE kind IN ('policy-change', 'product-update', 'new-product')
           AND state IN ('waiting', 'sending', 'done')
        RETURNING 1
        """
    )
    return len(rows)


async def resume_campaign(connection: Connection, campaign_id: UUID) -> bool:
    """Let a paused campaign go on; False where there is no such, or it is not paused.

    News whose recipients are not planned waits for its time again.
    """
    resumed = await connection.fetchval(
        """
        UPDATE campaigns
           SET state = CASE WHEN EXISTS (SELECT FROM product_news n
                                          WHERE n.campaign_id = $1 AND n.planned_at IS NULL)
                            THEN 'waiting' ELSE 'sending' END
         WHERE campaign_id = $1 AND state = 'paused'
        RETURNING true
        """,
        campaign_id,
    )
    return resumed is True


async def stop_news(connection: Connection, campaign_id: UUID) -> bool:
    """Send nothing more of news, for good; False where there is none, or it is over."""
    stopped = await connection.fetchval(
        """
        UPDATE campaigns SET state = 'stopped'
         WHERE campaign_id = $1 AND kind IN ('product-update', 'new-product')
           AND state IN ('waiting', 'sending', 'paused')
        RETURNING true
        """,
        campaign_id,
    )
    return stopped is True


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign has come; ``counts`` by state of its deliveries.

    ``per_minute`` is how many the mail server took of it in each of the last ten minutes.
    """

    campaign_id: UUID
    kind: Kind
    state: CampaignState
    noted_at: datetime
    counts: Mapping[str, int]
    per_minute: float


async def progress(connection: Connection, *, now: datetime, limit: int) -> list[Progress]:
    """Say how far campaigns have come, the newest first."""
    rows = await connection.fetch(
        """
        SELECT c.campaign_id, c.kind, c.state, c.noted_at, d.states, d.counts, d.lately
          FROM (SELECT * FROM campaigns ORDER BY noted_at DESC, campaign_id LIMIT $2) c
         CROSS JOIN LATERAL (
                SELECT array_agg(state) AS states, array_agg(n) AS counts, sum(lately) AS lately
                  FROM (SELECT state, count(*) AS n,
                               count(*) FILTER (WHERE accepted_at > $1::timestamptz
                                                                    - interval '10 minutes')
                                   AS lately
                          FROM deliveries
                         WHERE campaign_id = c.campaign_id
                         GROUP BY state) by_state) d
         ORDER BY c.noted_at DESC, c.campaign_id
        """,
        now,
        limit,
    )
    return [
        Progress(
            row["campaign_id"],
            Kind(row["kind"]),
            CampaignState(row["state"]),
            row["noted_at"],
            dict(zip(row["states"] or (), row["counts"] or (), strict=True)),
            float(row["lately"] or 0) / 10,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Course:
    """How one campaign goes; ``counts`` by state of its deliveries, ``left`` are not settled."""

    kind: Kind
    state: CampaignState
    counts: Mapping[str, int]
    left: int
    pace: Pace | None


async def course_of(connection: Connection, campaign_id: UUID, *, now: datetime) -> Course | None:
    """Say how a campaign goes."""
    campaign = await connection.fetchrow(
        "SELECT kind, state FROM campaigns WHERE campaign_id = $1", campaign_id
    )
    if campaign is None:
        return None
    rows = await connection.fetch(
        """
        SELECT state, count(*) AS n,
               count(*) FILTER (WHERE state IN ('planned', 'sending')
                                   OR state = 'uncertain' AND doubts < $3) AS left,
               count(*) FILTER (WHERE accepted_at > $2) AS lately,
               min(accepted_at) FILTER (WHERE accepted_at > $2) AS first_lately_at
          FROM deliveries
         WHERE campaign_id = $1
         GROUP BY state
         ORDER BY state
        """,
        campaign_id,
        now - WINDOW,
        MOST_DOUBTS,
    )
    left = sum(row["left"] for row in rows)
    first = min((row["first_lately_at"] for row in rows if row["first_lately_at"]), default=None)
    return Course(
        Kind(campaign["kind"]),
        CampaignState(campaign["state"]),
        {row["state"]: row["n"] for row in rows},
        left,
        pace_of(sum(row["lately"] for row in rows), first, left, now=now),
    )


@dataclass(frozen=True, slots=True)
class Doubt:
    """A message of which at least one attempt ended without anybody knowing how."""

    campaign_id: UUID
    kind: Kind
    address_index: bytes
    state: str
    doubts: int
    attempts: int


async def doubts(connection: Connection, *, limit: int) -> list[Doubt]:
    """List what is or was uncertain, also where it was sent once more and taken then."""
    rows = await connection.fetch(
        """
        SELECT campaign_id, kind, address_index, state, doubts, attempts
          FROM deliveries
         WHERE doubts > 0
         ORDER BY campaign_id, address_index
         LIMIT $1
        """,
        limit,
    )
    return [Doubt(**{**row, "kind": Kind(row["kind"])}) for row in rows]


async def age_of_oldest_due(connection: Connection, *, wall: datetime) -> float:
    """Say for how many seconds the oldest delivery is due; 0 where none is."""
    found = await connection.fetchval(
        """
        SELECT greatest(extract(epoch FROM $1::timestamptz - min(oldest.at)), 0)
          FROM (SELECT (SELECT min(d.next_attempt_at)
                          FROM deliveries d
                         WHERE d.campaign_id = c.campaign_id
                           AND (state = 'planned' OR state = 'uncertain' AND doubts < 2)
                           AND kind IN ('policy-change', 'product-update', 'new-product')) AS at
                  FROM campaigns c
                 WHERE c.state = 'sending'
                   AND c.kind IN ('policy-change', 'product-update', 'new-product')
                 UNION ALL
                SELECT (SELECT d.next_attempt_at
                          FROM deliveries d
                          JOIN campaigns c USING (campaign_id)
                         WHERE (d.state = 'planned' OR d.state = 'uncertain' AND d.doubts < 2)
                           AND d.kind NOT IN ('policy-change', 'product-update', 'new-product')
                           AND c.state = 'sending'
                         ORDER BY d.next_attempt_at
                         LIMIT 1)) oldest(at)
        """,
        wall,
    )
    return float(found or 0)


async def count_uncertain(connection: Connection) -> int:
    """Count the messages of which nobody knows whether they were taken."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM deliveries WHERE doubts > 0 AND state = 'uncertain'"
        )
    )
