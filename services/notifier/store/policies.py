"""Drafts and revisions of the policy, and the planning of what tells people of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.people import Language
from services.notifier.domain.policies import PLANNED_AFTER, Draft, Revision, campaign_of

_LONGEST_PLANNING: Final = timedelta(seconds=100)

_REVISIONS: Final = """
    SELECT r.number, r.campaign_id, r.published_at, d.text_hash, d.summary_en, d.summary_de,
           d.effective_at, d.early_because
      FROM policy_revisions r
      JOIN policy_drafts d USING (draft_id)
"""


async def lock_policies(connection: Connection) -> None:
    """Let nobody else draft or publish until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('policies', 0))")


async def add_draft(connection: Connection, draft: Draft, *, now: datetime) -> int:
    """Keep a draft; return its id."""
    draft_id: int = await connection.fetchval(
        """
        INSERT INTO policy_drafts (follows, text, text_hash, summary_en, summary_de, effective_at,
                                   early_because, drafted_by, drafted_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        RETURNING draft_id
        """,
        draft.follows,
        draft.text,
        draft.text_hash,
        draft.summary[Language.ENGLISH],
        draft.summary[Language.GERMAN],
        draft.effective_at,
        draft.early_because,
        draft.drafted_by,
        now,
    )
    return draft_id


@dataclass(frozen=True, slots=True)
class KeptDraft:
    """A draft as it is kept; ``number`` is that of the revision which it has become."""

    draft_id: int
    draft: Draft
    number: int | None


async def draft(connection: Connection, draft_id: int) -> KeptDraft | None:
    """Find a draft."""
    row = await connection.fetchrow(
        """
        SELECT d.*, r.number
          FROM policy_drafts d
          LEFT JOIN policy_revisions r USING (draft_id)
         WHERE draft_id = $1
        """,
        draft_id,
    )
    return _kept(row) if row else None


async def open_drafts(connection: Connection) -> list[KeptDraft]:
    """List the drafts that may still be published: those that follow the newest revision."""
    rows = await connection.fetch(
        """
        SELECT d.*, NULL AS number
          FROM policy_drafts d
         WHERE follows = (SELECT coalesce(max(number), 0) FROM policy_revisions)
         ORDER BY draft_id
        """
    )
    return [_kept(row) for row in rows]


def _kept(row: asyncpg.Record) -> KeptDraft:
    draft = Draft(
        row["follows"],
        row["text"],
        _summary(row),
        row["effective_at"],
        row["early_because"],
        row["drafted_by"],
    )
    return KeptDraft(row["draft_id"], draft, row["number"])


def _summary(row: asyncpg.Record) -> Mapping[Language, str]:
    return {Language.ENGLISH: row["summary_en"], Language.GERMAN: row["summary_de"]}


async def publish(
    connection: Connection, draft_id: int, number: int, *, approved_by: str, now: datetime
) -> Revision:
    """Make a draft this revision, whose campaign waits until its recipients are planned."""
    await connection.execute(
        """
        INSERT INTO policy_revisions (number, draft_id, campaign_id, approved_by, published_at)
        VALUES ($1, $2, $3, $4, $5)
        """,
        number,
        draft_id,
        campaign_of(number),
        approved_by,
        now,
    )
    await connection.execute(
        "INSERT INTO campaigns (campaign_id, kind, state, noted_at) VALUES ($1, $2, 'waiting', $3)",
        campaign_of(number),
        Kind.POLICY_CHANGE,
        now,
    )
    await connection.execute("INSERT INTO policy_plans (number) VALUES ($1)", number)
    published = await revision(connection, number)
    assert published is not None
    return published


async def revisions(connection: Connection) -> list[Revision]:
    """List all revisions, the newest one first."""
    rows = await connection.fetch(f"{_REVISIONS} ORDER BY r.number DESC")
    return [_revision(row) for row in rows]


async def revision(connection: Connection, number: int) -> Revision | None:
    """Find a revision."""
    row = await connection.fetchrow(f"{_REVISIONS} WHERE r.number = $1", number)
    return _revision(row) if row else None


async def newest_revision(connection: Connection) -> Revision | None:
    """Find the revision that was published last."""
    row = await connection.fetchrow(f"{_REVISIONS} ORDER BY r.number DESC LIMIT 1")
    return _revision(row) if row else None


async def revision_of(connection: Connection, campaign_id: UUID) -> Revision | None:
    """Find the revision that a campaign tells of."""
    row = await connection.fetchrow(f"{_REVISIONS} WHERE r.campaign_id = $1", campaign_id)
    return _revision(row) if row else None


def _revision(row: asyncpg.Record) -> Revision:
    return Revision(
        row["number"],
        row["campaign_id"],
        row["text_hash"],
        _summary(row),
        row["published_at"],
        row["effective_at"],
        row["early_because"],
    )


async def text_of(connection: Connection, number: int) -> str | None:
    """Say what a revision says, in Markdown."""
    text: str | None = await connection.fetchval(
        """
        SELECT d.text
          FROM policy_revisions r
          JOIN policy_drafts d USING (draft_id)
         WHERE r.number = $1
        """,
        number,
    )
    return text


async def told_before(connection: Connection, number: int) -> datetime:
    """Say until when who becomes a contact is told of a revision: its day, where that is to come."""
    moment: datetime = await connection.fetchval(
        """
        SELECT greatest(d.effective_at, r.published_at + interval '1 microsecond')
          FROM policy_revisions r
          JOIN policy_drafts d USING (draft_id)
         WHERE r.number = $1
        """,
        number,
    )
    return moment


async def unplanned_revisions(pool: Pool) -> list[int]:
    """List the revisions of which nobody has been planned to be told yet."""
    rows = await pool.fetch(
        "SELECT number FROM policy_plans WHERE planned_at IS NULL ORDER BY number"
    )
    return [row["number"] for row in rows]


async def revisions_to_plan_again(pool: Pool) -> list[int]:
    """List the planned revisions whose time for joiners was not over when they were last planned."""
    rows = await pool.fetch(
        """
        SELECT p.number
          FROM policy_plans p
          JOIN policy_revisions r USING (number)
          JOIN policy_drafts d USING (draft_id)
         WHERE p.planned_at < d.effective_at + $1::interval
         ORDER BY p.number
        """,
        PLANNED_AFTER,
    )
    return [row["number"] for row in rows]


async def plan_recipients(pool: Pool, number: int, *, now: datetime, wall: datetime) -> int:
    """Plan to tell everybody of a revision who is a contact when it is published or before its day.

    Returns how many were not planned before.

    Everybody is a person, by the hash of the address, of any tenant whose contacts are live.
    Nobody is planned twice: neither who has a delivery, nor of whom there is evidence, as
    a delivery goes with its tenant.

    No guard is set while this runs: an erasure that looked before these rows are committed would
    not see them. Locks of each tenant, which other writers take, would be a million.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE erased_tenants IN SHARE MODE")
        # A million rows are sorted once; with the usual few megabytes they go to the disk and back.
        await connection.execute("SET LOCAL work_mem = '128MB'")
        planned: int = await connection.fetchval(
            """
            WITH person AS (
                SELECT DISTINCT ON (a.address_index) a.tenant_id, a.contact_id, a.address_index
                  FROM audience a
                  JOIN tenants t USING (tenant_id)
                 WHERE t.contacts = 'live'
                   AND a.since < $5
                   AND NOT EXISTS (SELECT FROM erased_tenants e
                                    WHERE e.tenant_id = a.tenant_id AND e.data_class = 'contacts')
                   AND NOT EXISTS (SELECT FROM deliveries d
                                    WHERE d.campaign_id = $2
                                      AND d.address_index = a.address_index)
                   AND NOT EXISTS (SELECT FROM policy_evidence e
                                    WHERE e.number = $1 AND e.address_index = a.address_index)
                 ORDER BY a.address_index, a.since, a.tenant_id),
            planned AS (
                INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id,
                                        address_index, kind, state, planned_at, next_attempt_at)
                SELECT gen_random_uuid(), $2, tenant_id, contact_id, address_index,
                       'policy-change', 'planned', $3, $4
                  FROM person
                ON CONFLICT (campaign_id, address_index) DO NOTHING
                RETURNING 1)
            SELECT count(*) FROM planned
            """,
            number,
            campaign_of(number),
            now,
            wall,
            await told_before(connection, number),
            timeout=_LONGEST_PLANNING.total_seconds(),
        )
        await connection.execute(
            "UPDATE policy_plans SET planned_at = $2 WHERE number = $1", number, now
        )
        # It was done as long as nobody joined, and waits until somebody is planned.
        await connection.execute(
            """
            UPDATE campaigns SET state = 'sending'
             WHERE campaign_id = $1 AND (state = 'waiting' OR state = 'done' AND $2 > 0)
            """,
            campaign_of(number),
            planned,
        )
    return planned
