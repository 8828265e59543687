"""Whether sites let us in: who is asked next, what was answered, and what holds departures back."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from chassis.identifiers import uuid7
from contracts.tenants import SubscriptionStatus
from services.installer.domain.access import MASS_LOSS_WINDOW, Answer, Standing

_LOST = """
        SELECT tenant_id, a.addon_key, a.losses, a.first_lost_at, a.last_lost_at, a.last_seen_at,
               a.confirmed_at IS NOT NULL AS confirmed, t.subscription_status,
               t.platform = 'forge' AND EXISTS (SELECT FROM aliases
                                                 WHERE aliases.tenant_id = t.tenant_id
                                                   AND live AND present) AS on_forge,
               EXISTS (SELECT FROM licences AS l
                        WHERE l.tenant_id = t.tenant_id AND NOT l.weak) AS licence_known,
               EXISTS (SELECT FROM licences AS l
                        WHERE l.tenant_id = t.tenant_id AND l.status = 'active')
                   AS licence_active,
               (SELECT max(began_at) FROM licence_reports WHERE ended_at IS NOT NULL)
                   AS report_began_at,
               EXISTS (SELECT FROM access_holds AS h
                        WHERE h.addon_key = a.addon_key AND h.released_at IS NULL) AS held
          FROM access_checks AS a
          JOIN tenants AS t USING (tenant_id)
         WHERE a.losses > 0 AND t.status = 'installed'
"""


async def adopt_tenants(pool: Pool, *, now: datetime, limit: int) -> int:
    """Take up to ``limit`` tenants among those that are asked; return how many there were.

    They are asked for the first time within a day. A tenant that is older than
    that was never asked, so nothing counts against it that lies before now.
    Whoever begins to purge meanwhile is either not taken up, or waits for this.
    """
    status = await pool.execute(
        """
        INSERT INTO access_checks (tenant_id, addon_key, due_at, last_seen_at)
        SELECT tenant_id, t.addon_key, $1::timestamptz + random() * interval '1 day',
               CASE WHEN t.created_at > $1::timestamptz - interval '1 day'
                    THEN t.created_at ELSE $1 END
          FROM tenants AS t
          JOIN installations AS i USING (tenant_id)
         WHERE t.status = 'installed' AND i.live AND i.present
           AND NOT EXISTS (SELECT FROM access_checks AS a WHERE a.tenant_id = t.tenant_id)
         LIMIT $2
           FOR SHARE OF t SKIP LOCKED
        ON CONFLICT (tenant_id) DO NOTHING
        """,
        now,
        limit,
    )
    return _count(status)


async def put_off_others(pool: Pool, *, now: datetime) -> None:
    """Put those off by a day who are due and not asked at present, and forget their losses.

    They uninstalled, or were superseded. If they come back, what was lost
    before does not count.
    """
    await pool.execute(
        """
        UPDATE access_checks AS a
           SET due_at = $1::timestamptz + interval '1 day', losses = 0, first_lost_at = NULL,
               last_lost_at = NULL, confirmed_at = NULL, confirmed_by = NULL
          FROM tenants AS t LEFT JOIN installations AS i USING (tenant_id)
         WHERE a.due_at <= $1 AND t.tenant_id = a.tenant_id
           AND NOT (coalesce(i.live AND i.present, false)
                    AND (t.status = 'installed'
                         OR t.status = 'uninstalled' AND t.departed_how = 'access-lost'))
        """,
        now,
    )


async def count_losses_anew(connection: Connection) -> int:
    """Forget how often installed tenants were refused so far; count the tenants.

    After a restore a site may have answered in the time that is lost. Until its last refusal that we
    know of it did not, so a tenant that is refused three times more left then.
    """
    status = await connection.execute(
        """
        UPDATE access_checks AS a
           SET last_seen_at = greatest(a.last_seen_at, a.last_lost_at), losses = 0,
               first_lost_at = NULL, last_lost_at = NULL
          FROM tenants AS t
         WHERE t.tenant_id = a.tenant_id AND t.status = 'installed' AND a.losses > 0
        """
    )
    return _count(status)


@dataclass(frozen=True, slots=True)
class Claim:
    """A site that is to be asked; its secret is sealed, and has no key once that is destroyed.

    ``licence_active`` is what the site said last, ``is_lost`` whether its
    silence has consequences that an answer takes back.
    """

    tenant_id: UUID
    addon_key: str
    base_url: str = field(repr=False)
    shared_secret: bytes = field(repr=False)
    wrapped_key: bytes | None = field(repr=False)
    kek_id: str | None
    licence_active: bool | None
    is_lost: bool
    has_cloud_id: bool


async def claim_due_checks(
    pool: Pool, token: UUID, *, now: datetime, wall: datetime, lease: timedelta, limit: int
) -> list[Claim]:
    """Take up to ``limit`` sites that are due, for the worker with this token alone.

    Asked are tenants that are installed by Connect, and those of whom we only
    think that they left, until their purge begins. Rows that another worker
    holds are skipped; a claim whose lease ran out is taken over. Leases are of
    wall time, as they measure a worker's life.
    """
    rows = await pool.fetch(
        """
        WITH due AS (
            SELECT tenant_id, i.base_url, i.shared_secret, k.wrapped_key, k.kek_id,
                   t.status <> 'installed' AS has_left
              FROM access_checks AS a
              JOIN tenants AS t USING (tenant_id)
              JOIN installations AS i USING (tenant_id)
              LEFT JOIN tenant_keys AS k USING (tenant_id)
             WHERE a.due_at <= $2
               AND (a.claimed_until IS NULL OR a.claimed_until < $3)
               AND i.live AND i.present
               AND (t.status = 'installed'
                    OR t.status = 'uninstalled' AND t.departed_how = 'access-lost')
             ORDER BY a.due_at
             LIMIT $5
               FOR UPDATE OF a SKIP LOCKED)
        UPDATE access_checks AS a
           SET claim_token = $1, claimed_until = $3::timestamptz + $4::interval
          FROM due
         WHERE a.tenant_id = due.tenant_id
        RETURNING a.tenant_id, a.addon_key, due.base_url, due.shared_secret, due.wrapped_key,
                  due.kek_id, a.licence_active, (due.has_left OR a.losses > 0) AS is_lost,
                  EXISTS (SELECT FROM aliases
                           WHERE aliases.tenant_id = due.tenant_id AND kind = 'cloud-id')
                      AS has_cloud_id
        """,
        token,
        now,
        wall,
        lease,
        limit,
    )
    return [Claim(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of asking one site; the licence is what it said of it, None where nothing."""

    tenant_id: UUID
    answer: Answer
    due_at: datetime
    licence_active: bool | None = None


async def record_outcomes(
    database: "Pool | Connection", token: UUID, outcomes: Sequence[Outcome], *, now: datetime
) -> list[UUID]:
    """Write down what sites answered, and whom of them this was recorded.

    Left out is whom another worker has taken over meanwhile, or who is erased.
    An answer ends a row of losses, and with it a person's word that the site
    is gone.
    """
    rows = await database.fetch(
        """
        UPDATE access_checks AS a
           SET claim_token = NULL, claimed_until = NULL, due_at = o.due_at,
               last_seen_at = CASE WHEN o.answer = 'seen'
                                   THEN greatest(a.last_seen_at, $2) ELSE a.last_seen_at END,
               losses = CASE o.answer WHEN 'seen' THEN 0 WHEN 'lost' THEN a.losses + 1
                                      ELSE a.losses END,
               first_lost_at = CASE o.answer WHEN 'seen' THEN NULL
                                             WHEN 'lost' THEN coalesce(a.first_lost_at, $2)
                                             ELSE a.first_lost_at END,
               last_lost_at = CASE o.answer WHEN 'seen' THEN NULL WHEN 'lost' THEN $2
                                            ELSE a.last_lost_at END,
               confirmed_at = CASE WHEN o.answer = 'seen' THEN NULL ELSE a.confirmed_at END,
               confirmed_by = CASE WHEN o.answer = 'seen' THEN NULL ELSE a.confirmed_by END,
               licence_active = CASE WHEN o.answer = 'seen'
                                     THEN o.licence_active ELSE a.licence_active END,
               licence_heard_at = CASE WHEN o.answer = 'seen' AND o.licence_active IS NOT NULL
                                       THEN $2 ELSE a.licence_heard_at END,
               licence_inactive_since = CASE WHEN o.answer <> 'seen' THEN a.licence_inactive_since
                                             WHEN o.licence_active IS FALSE
                                             THEN coalesce(a.licence_inactive_since, $2) END
          FROM unnest($3::uuid[], $4::text[], $5::timestamptz[], $6::boolean[])
            AS o (tenant_id, answer, due_at, licence_active)
         WHERE a.tenant_id = o.tenant_id AND a.claim_token = $1
        RETURNING a.tenant_id
        """,
        token,
        now,
        [outcome.tenant_id for outcome in outcomes],
        [outcome.answer for outcome in outcomes],
        [outcome.due_at for outcome in outcomes],
        [outcome.licence_active for outcome in outcomes],
    )
    return [row["tenant_id"] for row in rows]


async def lock_all_living(connection: Connection, tenant_ids: Collection[UUID]) -> list[UUID]:
    """Lock these tenants' states in the order of their ids; return those that are not purging."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, status
          FROM tenants
         WHERE tenant_id = ANY($1::uuid[])
         ORDER BY tenant_id
           FOR UPDATE
        """,
        list(tenant_ids),
    )
    return [row["tenant_id"] for row in rows if row["status"] in {"installed", "uninstalled"}]


async def departed_without_access(
    connection: Connection, tenant_ids: Collection[UUID]
) -> list[UUID]:
    """List those of these tenants who are taken to have left because access was lost, by id."""
    rows = await connection.fetch(
        """
        SELECT tenant_id
          FROM tenants
         WHERE tenant_id = ANY($1::uuid[])
           AND status = 'uninstalled' AND departed_how = 'access-lost'
         ORDER BY tenant_id
        """,
        list(tenant_ids),
    )
    return [row["tenant_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class LossCount:
    """Of how many tenants of an app access is asked, and of how many it was lost lately."""

    addon_key: str
    lost: int
    asked: int


async def count_losses(pool: Pool, *, now: datetime) -> list[LossCount]:
    """Count losses per app that began within the window, and after the last hold's release.

    Those that are on Forge are not counted: that Connect lets us in no more is
    what a move to Forge ends with.
    """
    rows = await pool.fetch(
        """
        SELECT a.addon_key, count(*) AS asked,
               count(*) FILTER (
                   WHERE a.losses > 0
                     AND a.first_lost_at > greatest($1::timestamptz - $2::interval,
                                                    released.released_at)) AS lost
          FROM access_checks AS a
          JOIN tenants AS t USING (tenant_id)
          JOIN installations AS i USING (tenant_id)
          LEFT JOIN (SELECT addon_key, max(released_at) AS released_at
                       FROM access_holds GROUP BY addon_key) AS released
                 ON released.addon_key = a.addon_key
         WHERE i.live AND i.present
           AND NOT (t.platform = 'forge'
                    AND EXISTS (SELECT FROM aliases
                                 WHERE aliases.tenant_id = t.tenant_id AND live AND present))
           AND (t.status = 'installed'
                OR t.status = 'uninstalled' AND t.departed_how = 'access-lost')
         GROUP BY a.addon_key
         ORDER BY a.addon_key
        """,
        now,
        MASS_LOSS_WINDOW,
    )
    return [LossCount(**row) for row in rows]


async def open_hold(pool: Pool, count: LossCount, *, now: datetime, wall: datetime) -> bool:
    """Hold an app's departures back; False where they are held already."""
    opened = await pool.fetchval(
        """
        INSERT INTO access_holds (hold_id, addon_key, held_at, losses, asked)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (addon_key) WHERE released_at IS NULL DO NOTHING
        RETURNING true
        """,
        uuid7(wall),
        count.addon_key,
        now,
        count.lost,
        count.asked,
    )
    return opened is True


@dataclass(frozen=True, slots=True)
class Hold:
    """An app whose departures are held back, and what was counted when that began."""

    addon_key: str
    held_at: datetime
    losses: int
    asked: int


async def open_holds(database: "Pool | Connection") -> list[Hold]:
    """List the apps whose departures are held back."""
    rows = await database.fetch(
        """
        SELECT addon_key, held_at, losses, asked
          FROM access_holds
         WHERE released_at IS NULL
         ORDER BY addon_key
        """
    )
    return [Hold(**row) for row in rows]


async def release_hold(connection: Connection, addon_key: str, *, by: str, now: datetime) -> bool:
    """Let an app's departures go on; False where they are not held."""
    released = await connection.fetchval(
        """
        UPDATE access_holds
           SET released_at = $3, released_by = $2
         WHERE addon_key = $1 AND released_at IS NULL
        RETURNING true
        """,
        addon_key,
        by,
        now,
    )
    return released is True


@dataclass(frozen=True, slots=True)
class LostTenant:
    """An installed tenant whose site refuses us."""

    tenant_id: UUID
    addon_key: str
    standing: Standing


async def lost_tenants(
    database: "Pool | Connection", *, after: UUID | None = None, limit: int
) -> list[LostTenant]:
    """List installed tenants whose sites refuse us, the next ones in the order of their ids."""
    rows = await database.fetch(
        f"""
        {_LOST}
           AND ($1::uuid IS NULL OR tenant_id > $1)
         ORDER BY tenant_id
         LIMIT $2
        """,
        after,
        limit,
    )
    return [_lost_tenant(row) for row in rows]


async def lost_tenant(database: "Pool | Connection", tenant_id: UUID) -> LostTenant | None:
    """Say how an installed tenant stands whose site refuses us; None for every other tenant."""
    row = await database.fetchrow(f"{_LOST} AND tenant_id = $1", tenant_id)
    return None if row is None else _lost_tenant(row)


async def confirm_loss(connection: Connection, tenant_id: UUID, *, by: str, now: datetime) -> bool:
    """Note a person's word that a site is gone; False where it does not refuse us."""
    confirmed = await connection.fetchval(
        """
        UPDATE access_checks
           SET confirmed_at = $3, confirmed_by = $2
         WHERE tenant_id = $1 AND losses > 0
        RETURNING true
        """,
        tenant_id,
        by,
        now,
    )
    return confirmed is True


def _lost_tenant(row: asyncpg.Record) -> LostTenant:
    told = dict(row)
    standing = Standing(
        subscription=SubscriptionStatus(told.pop("subscription_status")),
        **{name: told[name] for name in told if name not in {"tenant_id", "addon_key"}},
    )
    return LostTenant(told["tenant_id"], told["addon_key"], standing)


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
