"""News of products: what was written, whom it reaches, and the planning of what tells them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from services.notifier.domain.campaigns import OPTIONAL, CampaignState, Kind
from services.notifier.domain.deliveries import MOST_DOUBTS
from services.notifier.domain.news import Act, News, Segment, Stage, Words, stage_of
from services.notifier.domain.people import Language
from services.notifier.domain.suppressions import scopes_that_stop

_LONGEST_PLANNING: Final = timedelta(seconds=100)

# Who is counted is who is planned. Nobody who stands beside any licence as a partner gets news.
_PERSONS: Final = """
    SELECT DISTINCT ON (a.address_index) a.tenant_id, a.contact_id, a.address_index
      FROM audience a
      JOIN tenants t USING (tenant_id)
     WHERE t.contacts = 'live'
       AND ($1::text IS NULL OR t.addon_key = $1)
       AND ($2::text IS NULL OR t.product = $2)
       AND ($3::text IS NULL OR t.edition = $3)
       AND ($4::text IS NULL OR t.region = $4)
       AND NOT EXISTS (SELECT FROM erased_tenants e
                        WHERE e.tenant_id = a.tenant_id AND e.data_class = 'contacts')
       AND NOT EXISTS (SELECT FROM suppressions s
                        WHERE s.address_index = a.address_index AND s.scope = ANY($5::text[]))
       AND NOT EXISTS (SELECT FROM audience p
                        WHERE p.address_index = a.address_index AND 'partner' = ANY(p.roles))
     ORDER BY a.address_index, a.since, a.tenant_id
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a person did with a campaign, and when."""

    act: Act
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """News as it is kept; ``version`` counts its changes."""

    news: News
    version: int
    stage: Stage
    send_at: datetime | None
    planned_at: datetime | None
    announced_at: datetime | None


_KEPT: Final = """
    SELECT n.*, c.state AS campaign
      FROM product_news n
      LEFT JOIN campaigns c USING (campaign_id)
"""


async def add(connection: Connection, news: News, *, now: datetime) -> None:
    """Keep a draft."""
    await connection.execute(
        """
        INSERT INTO product_news (campaign_id, kind, subject_en, text_en, subject_de, text_de,
                                  addon_key, product, edition, region, changed_at, version, stage)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, 'draft')
        """,
        *_columns(news),
        now,
    )


async def change(connection: Connection, news: News, *, now: datetime) -> None:
    """Make it say this, as a draft that nobody has approved."""
    await connection.execute(
        """
        UPDATE product_news
           SET kind = $2, subject_en = $3, text_en = $4, subject_de = $5, text_de = $6,
               addon_key = $7, product = $8, edition = $9, region = $10, changed_at = $11,
               version = version + 1, stage = 'draft', send_at = NULL
         WHERE campaign_id = $1
        """,
        *_columns(news),
        now,
    )
    await connection.execute(
        "DELETE FROM campaigns WHERE campaign_id = $1 AND state = 'waiting'", news.campaign_id
    )


async def approve(connection: Connection, campaign_id: UUID, *, now: datetime) -> None:
    """Let it be scheduled."""
    await connection.execute(
        """
        UPDATE product_news SET stage = 'approved', changed_at = $2, version = version + 1
         WHERE campaign_id = $1
        """,
        campaign_id,
        now,
    )


async def schedule(connection: Connection, kept: Kept, send_at: datetime, *, now: datetime) -> None:
    """Let its campaign wait for its time."""
    await connection.execute(
        """
        UPDATE product_news
           SET stage = 'scheduled', send_at = $2, changed_at = $3, version = version + 1
         WHERE campaign_id = $1
        """,
        kept.news.campaign_id,
        send_at,
        now,
    )
    await connection.execute(
        "INSERT INTO campaigns (campaign_id, kind, state, noted_at) VALUES ($1, $2, 'waiting', $3)",
        kept.news.campaign_id,
        kept.news.kind,
        now,
    )


def _columns(news: News) -> Sequence[object]:
    english, german = news.words[Language.ENGLISH], news.words.get(Language.GERMAN)
    return (
        news.campaign_id,
        news.kind,
        english.subject,
        english.text,
        german and german.subject,
        german and german.text,
        *_values(news.segment),
    )


def _values(segment: Segment) -> tuple[str | None, ...]:
    return segment.addon_key, segment.product, segment.edition, segment.region


async def lock(connection: Connection, campaign_id: UUID) -> None:
    """Let nobody else change it until the transaction ends."""
    await connection.execute(
        "SELECT FROM product_news WHERE campaign_id = $1 FOR UPDATE", campaign_id
    )


async def find(connection: Connection, campaign_id: UUID) -> Kept | None:
    """Find news."""
    row = await connection.fetchrow(f"{_KEPT} WHERE n.campaign_id = $1", campaign_id)
    return _kept(row) if row else None


async def latest(connection: Connection, *, limit: int) -> list[Kept]:
    """List news, what was changed last first."""
    rows = await connection.fetch(
        f"{_KEPT} ORDER BY n.changed_at DESC, n.campaign_id LIMIT $1", limit
    )
    return [_kept(row) for row in rows]


async def news_of(connection: Connection, campaign_id: UUID) -> News | None:
    """Say what a campaign says; None where that is forgotten."""
    kept = await find(connection, campaign_id)
    return kept.news if kept else None


def _kept(row: asyncpg.Record) -> Kept:
    words = {Language.ENGLISH: Words(row["subject_en"], row["text_en"])}
    if row["subject_de"] is not None:
        words[Language.GERMAN] = Words(row["subject_de"], row["text_de"])
    segment = Segment(row["addon_key"], row["product"], row["edition"], row["region"])
    campaign = None if row["campaign"] is None else CampaignState(row["campaign"])
    return Kept(
        News(row["campaign_id"], Kind(row["kind"]), words, segment),
        row["version"],
        stage_of(Stage(row["stage"]), campaign, planned=row["planned_at"] is not None),
        row["send_at"],
        row["planned_at"],
        row["announced_at"],
    )


async def note(
    connection: Connection, campaign_id: UUID, act: Act, *, by: str, now: datetime
) -> None:
    """Note what a person did with a campaign."""
    await connection.execute(
        "INSERT INTO campaign_acts (campaign_id, act, by_whom, at) VALUES ($1, $2, $3, $4)",
        campaign_id,
        act,
        by,
        now,
    )


async def acts(connection: Connection, campaign_id: UUID) -> list[Done]:
    """List what was done with a campaign, the first act first."""
    rows = await connection.fetch(
        "SELECT act, by_whom, at FROM campaign_acts WHERE campaign_id = $1 ORDER BY act_id",
        campaign_id,
    )
    return [Done(Act(row["act"]), row["by_whom"], row["at"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Choices:
    """What tenants have, so that a segment can be chosen."""

    addon_key: Sequence[str]
    product: Sequence[str]
    edition: Sequence[str]
    region: Sequence[str]


async def choices(connection: Connection) -> Choices:
    """List what a segment may be made of."""
    row = await connection.fetchrow(
        """
        SELECT array_agg(DISTINCT addon_key) AS addon_key,
               array_agg(DISTINCT product) FILTER (WHERE product IS NOT NULL) AS product,
               array_agg(DISTINCT edition) FILTER (WHERE edition IS NOT NULL) AS edition,
               array_agg(DISTINCT region) FILTER (WHERE region IS NOT NULL) AS region
          FROM tenants
         WHERE contacts = 'live'
        """
    )
    assert row is not None
    return Choices(**{name: tuple(found or ()) for name, found in row.items()})


async def count_recipients(connection: Connection, kind: Kind, segment: Segment) -> int:
    """Count the persons who would be told now."""
    counted: int = await connection.fetchval(
        f"SELECT count(*) FROM ({_PERSONS}) person",  # noqa: S608 - a constant
        *_values(segment),
        list(scopes_that_stop(kind)),
    )
    return counted


async def due(pool: Pool, *, now: datetime) -> list[UUID]:
    """List news whose time has come and whose recipients are not planned."""
    rows = await pool.fetch(
        """
        SELECT n.campaign_id
          FROM product_news n
          JOIN campaigns c USING (campaign_id)
         WHERE n.stage = 'scheduled' AND n.planned_at IS NULL AND n.send_at <= $1
           AND c.state = 'waiting'
         ORDER BY n.send_at
        """,
        now,
    )
    return [row["campaign_id"] for row in rows]


async def plan_recipients(
    pool: Pool, campaign_id: UUID, *, now: datetime, wall: datetime
) -> int | None:
    """Plan to tell everybody whom news is for, once and for all; count them.

    None where it was planned, paused or stopped meanwhile. Who joins later is not told. No guard is
    set while this runs: an erasure that looked before these rows are committed would not see them.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE erased_tenants IN SHARE MODE")
        await connection.execute("SET LOCAL work_mem = '128MB'")
        row = await connection.fetchrow(
            """
            UPDATE product_news n SET planned_at = $2
              FROM campaigns c
             WHERE n.campaign_id = $1 AND c.campaign_id = $1
               AND n.stage = 'scheduled' AND n.planned_at IS NULL AND c.state = 'waiting'
            RETURNING n.kind, n.addon_key, n.product, n.edition, n.region
            """,
            campaign_id,
            now,
        )
        if row is None:
            return None
        kind = Kind(row["kind"])
        planned: int = await connection.fetchval(
            f"""
            WITH person AS ({_PERSONS}),
            planned AS (
                INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id,
                                        address_index, kind, state, planned_at, next_attempt_at)
                SELECT gen_random_uuid(), $6, tenant_id, contact_id, address_index, $7, 'planned',
                       $8, $9
                  FROM person
                ON CONFLICT (campaign_id, address_index) DO NOTHING
                RETURNING 1)
            SELECT count(*) FROM planned
            """,  # noqa: S608 - a constant
            row["addon_key"],
            row["product"],
            row["edition"],
            row["region"],
            list(scopes_that_stop(kind)),
            campaign_id,
            kind,
            now,
            wall,
            timeout=_LONGEST_PLANNING.total_seconds(),
        )
        await connection.execute(
            "UPDATE campaigns SET state = 'sending' WHERE campaign_id = $1", campaign_id
        )
    return planned


async def take_unannounced(
    connection: Connection, *, now: datetime
) -> list[tuple[UUID, Kind, Segment]]:
    """Note that others are told of what is being sent, and give what they were not told of."""
    rows = await connection.fetch(
        """
        UPDATE product_news SET announced_at = $1
         WHERE planned_at IS NOT NULL AND announced_at IS NULL
        RETURNING campaign_id, kind, addon_key, product, edition, region
        """,
        now,
    )
    return [(row["campaign_id"], Kind(row["kind"]), Segment(*row[2:])) for row in rows]


async def stop_announced(
    connection: Connection, campaign_ids: Collection[UUID], *, now: datetime
) -> int:
    """Let none of this news begin that has not begun here, as it has elsewhere; count it."""
    rows = await connection.fetch(
        """
        UPDATE product_news SET announced_at = $2
         WHERE campaign_id = ANY($1::uuid[]) AND announced_at IS NULL
        RETURNING campaign_id, planned_at
        """,
        list(campaign_ids),
        now,
    )
    begun_elsewhere = [row["campaign_id"] for row in rows if row["planned_at"] is None]
    await connection.execute(
        """
        UPDATE campaigns SET state = 'stopped'
         WHERE campaign_id = ANY($1::uuid[]) AND state IN ('waiting', 'paused')
        """,
        begun_elsewhere,
    )
    return len(begun_elsewhere)


async def finish(pool: Pool) -> list[UUID]:
    """Call news done of which nothing is left to send."""
    rows = await pool.fetch(
        """
        UPDATE campaigns c SET state = 'done'
         WHERE c.kind = ANY($2) AND c.state = 'sending'
           AND NOT EXISTS (SELECT FROM deliveries d
                            WHERE d.campaign_id = c.campaign_id
                              AND (d.state IN ('planned', 'sending')
                                   OR d.state = 'uncertain' AND d.doubts < $1))
        RETURNING c.campaign_id
        """,
        MOST_DOUBTS,
        list(OPTIONAL),
    )
    return [row["campaign_id"] for row in rows]


async def forget(pool: Pool, *, before: datetime) -> int:
    """Forget news that nobody has touched since then, but what is under way; count it."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            """
            DELETE FROM product_news n
             WHERE greatest(n.changed_at, n.send_at, n.planned_at) < $1
               AND NOT EXISTS (SELECT FROM campaigns c
                                WHERE c.campaign_id = n.campaign_id
                                  AND c.state IN ('waiting', 'sending', 'paused'))
            RETURNING campaign_id
            """,
            before,
        )
        forgotten = [row["campaign_id"] for row in rows]
        for table in ("deliveries", "campaigns"):
            await connection.execute(
                f"DELETE FROM {table} WHERE campaign_id = ANY($1::uuid[])",  # noqa: S608 - one of two constants
                forgotten,
            )
        await connection.execute(
            """
            DELETE FROM campaign_acts a
             WHERE a.at < $1
               AND NOT EXISTS (SELECT FROM product_news n WHERE n.campaign_id = a.campaign_id)
            """,
            before,
        )
    return len(forgotten)
