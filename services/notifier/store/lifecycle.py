"""What people were told about their tenant's life, and whom to welcome."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool
from contracts.tenants import Platform
from services.notifier.domain.lifecycle import KIND_OF, Event, Facts, Notice, Word
from services.notifier.store.deliveries import plan_for_tenant


async def remember_life(
    connection: Connection,
    tenant_id: UUID,
    *,
    installed: bool,
    platform: Platform,
    created_at: datetime,
) -> None:
    """Know whether a tenant is there, and where its data is.

    One that was there before a restore may have been welcomed by the database that was lost.
    """
    await connection.execute(
        """
        INSERT INTO lifecycles AS l (tenant_id, installed, platform, welcomed)
        VALUES ($1, $2, $3, EXISTS (SELECT 1 FROM doubted_until WHERE at >= $4))
        ON CONFLICT (tenant_id) DO UPDATE
           SET installed = excluded.installed, platform = excluded.platform,
               welcomed = l.welcomed OR excluded.welcomed
        """,
        tenant_id,
        installed,
        platform,
        created_at,
    )


async def note_withdrawn(
    connection: Connection, tenant_id: UUID, purge_ids: Sequence[UUID]
) -> None:
    """Know which of a tenant's purges were withdrawn; its own state may not have been heard yet."""
    await connection.execute(
        """
        INSERT INTO lifecycles AS l (tenant_id, installed, platform, welcomed, withdrawn)
        VALUES ($1, false, 'connect', false, $2)
        ON CONFLICT (tenant_id) DO UPDATE SET withdrawn = excluded.withdrawn
         WHERE l.withdrawn <> excluded.withdrawn
        """,
        tenant_id,
        list(purge_ids),
    )


async def is_withdrawn(connection: Connection, tenant_id: UUID, purge_id: UUID) -> bool:
    """Whether a purge was withdrawn, as far as that has been heard."""
    found = await connection.fetchval(
        "SELECT $2 = ANY(withdrawn) FROM lifecycles WHERE tenant_id = $1", tenant_id, purge_id
    )
    return found is True


async def forget_life(connection: Connection, tenant_id: UUID) -> None:
    """Know nothing of a tenant's life any more, nor what its people were told."""
    await connection.execute("DELETE FROM lifecycles WHERE tenant_id = $1", tenant_id)
    await connection.execute("DELETE FROM notices WHERE tenant_id = $1", tenant_id)


async def pass_on_welcome(connection: Connection, tenant_id: UUID, to: UUID) -> None:
    """Welcome nobody a second time who moves to the tenant that goes on for theirs."""
    await connection.execute(
        """
        UPDATE lifecycles SET welcomed = true
         WHERE tenant_id = $2
           AND EXISTS (SELECT 1 FROM lifecycles WHERE tenant_id = $1 AND welcomed)
        """,
        tenant_id,
        to,
    )


async def tenants_to_welcome(pool: Pool, *, limit: int) -> list[UUID]:
    """List tenants that are there, have people, and were not welcomed."""
    rows = await pool.fetch(
        """
        SELECT tenant_id FROM lifecycles l
         WHERE installed AND NOT welcomed
           AND EXISTS (SELECT 1 FROM audience a WHERE a.tenant_id = l.tenant_id)
         ORDER BY tenant_id
         LIMIT $1
        """,
        limit,
    )
    return [row["tenant_id"] for row in rows]


async def take_welcomes(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, Platform]:
    """Note that these tenants are welcomed, and give those that were not until now."""
    rows = await connection.fetch(
        """
        UPDATE lifecycles SET welcomed = true
         WHERE tenant_id = ANY($1::uuid[]) AND installed AND NOT welcomed
        RETURNING tenant_id, platform
        """,
        list(tenant_ids),
    )
    return {row["tenant_id"]: Platform(row["platform"]) for row in rows}


async def told_to(connection: Connection, tenant_id: UUID) -> dict[tuple[Event, str], Facts]:
    """Say what a tenant's people were told, in the order in which it was."""
    rows = await connection.fetch(
        "SELECT event, subject, facts FROM notices WHERE tenant_id = $1 ORDER BY noted_at, event",
        tenant_id,
    )
    return {
        (Event(row["event"]), row["subject"]): Facts.model_validate(row["facts"]) for row in rows
    }


async def doubted_until(connection: Connection) -> datetime | None:
    """Up to when people may have been told what is not remembered; None where nothing was lost."""
    found: datetime | None = await connection.fetchval("SELECT at FROM doubted_until")
    return found


async def doubt_the_past(connection: Connection, *, now: datetime) -> None:
    """Tell nobody by ourselves what the database that was lost may have told them."""
    await connection.execute(
        """
        INSERT INTO doubted_until (at) VALUES ($1)
        ON CONFLICT (id) DO UPDATE SET at = excluded.at
        """,
        now,
    )
    await connection.execute("UPDATE lifecycles SET welcomed = true WHERE NOT welcomed")


async def tell(
    connection: Connection,
    tenant_id: UUID,
    notice: Notice,
    *,
    now: datetime,
    wall: datetime,
    doubtful: bool,
) -> int:
    """Plan a notice for each of a tenant's people, unless they were told; count the messages.

    One that answers others goes to those alone who were sent these, and keeps
    the rest of these back. One that is ``doubtful`` is not sent by itself.
    """
    campaign_id = notice.campaign_id(tenant_id)
    is_new = await connection.fetchval(
        """
        INSERT INTO notices (campaign_id, tenant_id, event, subject, facts, noted_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (campaign_id) DO NOTHING
        RETURNING true
        """,
        campaign_id,
        tenant_id,
        notice.event,
        notice.subject,
        notice.facts.model_dump(mode="json", exclude_defaults=True),
        now,
        notice.expires_at,
    )
    if not is_new:
        return 0
    await _stop(connection, notice.answers)
    kind = KIND_OF[notice.event]
    planned = await plan_for_tenant(
        connection,
        campaign_id,
        kind,
        tenant_id,
        answers=notice.answers,
        now=now,
        wall=wall,
        doubtful=doubtful,
    )
    if planned:
        await connection.execute(
            """
            INSERT INTO campaigns (campaign_id, kind, state, noted_at)
            VALUES ($1, $2, 'sending', $3)
            ON CONFLICT (campaign_id) DO NOTHING
            """,
            campaign_id,
            kind,
            now,
        )
    return planned


async def _stop(connection: Connection, campaign_ids: Sequence[UUID]) -> None:
    """Send no more of what has been overtaken; what is on its way arrives."""
    await connection.execute(
        """
        UPDATE campaigns SET state = 'stopped'
         WHERE campaign_id = ANY($1::uuid[]) AND state IN ('sending', 'paused')
        """,
        list(campaign_ids),
    )


async def stop_old_news(pool: Pool, *, now: datetime) -> int:
    """Stop telling what is no news any more; count the campaigns that had not been through."""
    rows = await pool.fetch(
        """
        UPDATE campaigns c SET state = 'stopped'
          FROM notices n
         WHERE n.campaign_id = c.campaign_id AND n.expires_at <= $1 AND c.state = 'sending'
        RETURNING EXISTS (SELECT 1 FROM deliveries d
                           WHERE d.campaign_id = c.campaign_id AND d.state = 'planned') AS cut
        """,
        now,
    )
    return sum(row["cut"] for row in rows)


async def drop_campaigns(pool: Pool, *, noted_before: datetime) -> None:
    """Forget campaigns about tenants' lives that ended long ago; what was told stays known."""
    await pool.execute(
        """
        DELETE FROM campaigns
         WHERE kind IN ('welcome', 'reminder', 'welcome-back', 'hold', 'early-erasure')
           AND state = 'stopped' AND noted_at < $1
        """,
        noted_before,
    )


async def word_of(connection: Connection, campaign_id: UUID) -> Word | None:
    """Say what a notice says; None where that is forgotten."""
    row = await connection.fetchrow(
        "SELECT event, facts, tenant_id, subject FROM notices WHERE campaign_id = $1", campaign_id
    )
    if row is None:
        return None
    facts = Facts.model_validate(row["facts"])
    return Word.of(Event(row["event"]), facts, row["tenant_id"], row["subject"])
