"""Licences of the Marketplace's report: what was read, whose each is, and which were purged."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from chassis.unit_of_work import UnitOfWork
from contracts.tenants import TenantState, TenantStatus
from services.installer.domain.licences import (
    SELF_HOSTED,
    Candidate,
    Licence,
    LicenceName,
    Match,
    SiteAnswer,
    Step,
    sen_digits,
)

# -- licences -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredLicence:
    """A licence, whose it is, and since when we know it."""

    licence: Licence
    match: Match | None
    first_seen_at: datetime


async def save_licences(
    connection: Connection, licences: Collection[Licence], *, now: datetime, last_day_past: date
) -> None:
    """Take up licences, each once, or make known ones what the report says; whose they are stays.

    Left out are those that are not known yet and have been over for six months.
    """
    given = list(licences)
    await connection.execute(
        """
        INSERT INTO licences (
               addon_key, number, sen, entitlement_id, entitlement_number, hosting, status,
               licence_type, ends_on, cloud_id, site_host, last_updated, first_seen_at, heard_at)
        SELECT given.*, $13, $13
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                      $7::text[], $8::text[], $9::date[], $10::text[], $11::text[], $12::date[])
            AS given (addon_key, number, sen, entitlement_id, entitlement_number, hosting, status,
                      licence_type, ends_on, cloud_id, site_host, last_updated)
         WHERE status = 'active'
            OR coalesce(ends_on, last_updated) > $14
            OR EXISTS (SELECT FROM licences AS l
                        WHERE (l.addon_key, l.number) = (given.addon_key, given.number))
         ORDER BY addon_key, number  -- so that two readers cannot wait for each other
        ON CONFLICT (addon_key, number) DO UPDATE
           SET sen = excluded.sen, entitlement_id = excluded.entitlement_id,
               entitlement_number = excluded.entitlement_number, hosting = excluded.hosting,
               status = excluded.status, licence_type = excluded.licence_type,
               ends_on = excluded.ends_on, cloud_id = excluded.cloud_id,
               site_host = excluded.site_host, last_updated = excluded.last_updated,
               heard_at = excluded.heard_at
        """,
        [each.name.addon_key for each in given],
        [each.name.number for each in given],
        [each.sen for each in given],
        [each.entitlement_id for each in given],
        [each.entitlement_number for each in given],
        [each.hosting for each in given],
        [each.status for each in given],
        [each.licence_type for each in given],
        [each.ends_on for each in given],
        [each.cloud_id for each in given],
        [each.site_host for each in given],
        [each.last_updated for each in given],
        now,
        last_day_past,
    )


async def read_licences(
    connection: Connection, names: Collection[LicenceName], *, lock: bool = False
) -> list[StoredLicence]:
    """Read licences by their names, in the order of these; ``lock`` keeps others off them."""
    rows = await connection.fetch(
        f"""
        SELECT licences.*
          FROM licences
          JOIN unnest($1::text[], $2::text[]) AS wanted (addon_key, number)
         USING (addon_key, number)
         ORDER BY addon_key, number
         {"FOR UPDATE OF licences" if lock else ""}
        """,  # noqa: S608 - made of constants
        [name.addon_key for name in names],
        [name.number for name in names],
    )
    return [_stored(row) for row in rows]


async def joinable_licences(
    pool: Pool, *, after: LicenceName | None, limit: int
) -> list[LicenceName]:
    """List, in their order, licences that may still find an installation, or a better one."""
    rows = await pool.fetch(
        """
        SELECT addon_key, number
          FROM licences
         WHERE (tenant_id IS NULL OR weak OR matched_by = 'itself')
           AND (addon_key, number) > ($1, $2)
         ORDER BY addon_key, number
         LIMIT $3
        """,
        after.addon_key if after else "",
        after.number if after else "",
        limit,
    )
    return [LicenceName(row["addon_key"], row["number"]) for row in rows]


async def note_lost_installations(pool: Pool) -> None:
    """Let licences find another tenant whose own is purging, or goes on as another."""
    await pool.execute(
        """
        UPDATE licences
           SET matched_by = 'itself'
          FROM tenants AS t
         WHERE licences.tenant_id = t.tenant_id
           AND (t.status IN ('purging', 'purged') OR t.merged_into IS NOT NULL)
           AND NOT weak AND matched_by <> 'itself'
        """
    )


async def candidates_of(
    connection: Connection, licences: Collection[Licence]
) -> dict[LicenceName, list[Candidate]]:
    """Find the tenants that any of these licences may be of, by all steps of the join at once.

    They are those that can still be found by name: nobody who is purging is
    among them. A base URL is a host alone, or Confluence's below it.
    """
    given = list(licences)
    rows = await connection.fetch(
        r"""
        WITH given AS NOT MATERIALIZED (  -- each arm is a look into an index, for each licence
            SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[],
                                 $6::text[], $7::text[], $8::text[])
                AS given (n, addon_key, entitlement_id, entitlement_number, sen, other_sen,
                          cloud_id, site_host)),
        found AS (
            SELECT n, tenant_id
              FROM given
              JOIN installations AS i USING (addon_key, entitlement_id)
             WHERE i.live
            UNION
            SELECT n, tenant_id
              FROM given
              JOIN installations AS i USING (addon_key, entitlement_number)
             WHERE i.live
            UNION
            SELECT n, tenant_id
              FROM given
             CROSS JOIN LATERAL (VALUES (given.sen), (given.other_sen)) AS told (digits)
              JOIN installations AS i USING (addon_key)
             WHERE i.live AND i.service_entitlement_number IS NOT NULL
               AND regexp_replace(i.service_entitlement_number, '\D', '', 'g') = told.digits
            UNION
            SELECT n, tenant_id
              FROM given
              JOIN aliases AS a ON a.addon_key = given.addon_key AND a.name = given.cloud_id
             WHERE a.live AND a.kind = 'cloud-id'
            UNION
            SELECT n, tenant_id
              FROM given
             CROSS JOIN LATERAL (VALUES ('https://' || site_host),
                                        ('https://' || site_host || '/wiki')) AS told (base_url)
              JOIN installations AS i USING (addon_key, base_url)
             WHERE i.live)
        SELECT n, t.tenant_id, t.addon_key, t.status, t.created_at, i.entitlement_id,
               i.entitlement_number, i.service_entitlement_number, i.base_url,
               ARRAY(SELECT name FROM aliases AS a
                      WHERE a.tenant_id = t.tenant_id AND a.live AND a.kind = 'cloud-id')
                   AS cloud_ids
          FROM found
          JOIN tenants AS t USING (tenant_id)
          LEFT JOIN installations AS i USING (tenant_id)
         WHERE t.status IN ('installed', 'uninstalled') AND t.merged_into IS NULL
        """,
        list(range(len(given))),
        [each.name.addon_key for each in given],
        [each.entitlement_id for each in given],
        [each.entitlement_number for each in given],
        [sen_digits(each.sen) for each in given],
        [sen_digits(each.name.number) for each in given],
        [each.cloud_id for each in given],
        [each.site_host for each in given],
    )
    found: dict[LicenceName, list[Candidate]] = {each.name: [] for each in given}
    for row in rows:
        found[given[row["n"]].name].append(_candidate(row))
    return found


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(
        tenant_id=row["tenant_id"],
        addon_key=row["addon_key"],
        installed=row["status"] == TenantStatus.INSTALLED,
        created_at=row["created_at"],
        entitlement_id=row["entitlement_id"],
        entitlement_number=row["entitlement_number"],
        service_entitlement_number=row["service_entitlement_number"],
        cloud_ids=frozenset(row["cloud_ids"]),
        base_url=row["base_url"],
    )


async def save_matches(connection: Connection, matches: Mapping[LicenceName, Match | None]) -> None:
    """Write down whose licences are now."""
    await connection.execute(
        """
        UPDATE licences
           SET tenant_id = given.tenant_id, matched_by = given.step, weak = given.weak
          FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::boolean[])
            AS given (addon_key, number, tenant_id, step, weak)
         WHERE (licences.addon_key, licences.number) = (given.addon_key, given.number)
        """,
        [name.addon_key for name in matches],
        [name.number for name in matches],
        [match.tenant_id if match else None for match in matches.values()],
        [match.step if match else None for match in matches.values()],
        [match.weak if match else False for match in matches.values()],
    )


async def strong_licences(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, list[Licence]]:
    """List the licences of tenants, without those that are matched weakly."""
    rows = await connection.fetch(
        """
        SELECT * FROM licences
         WHERE tenant_id = ANY($1::uuid[]) AND NOT weak
         ORDER BY addon_key, number
        """,
        list(tenant_ids),
    )
    found: dict[UUID, list[Licence]] = {tenant_id: [] for tenant_id in tenant_ids}
    for row in rows:
        found[row["tenant_id"]].append(_licence(row))
    return found


@dataclass(frozen=True, slots=True)
class OwnWord:
    """What a tenant's installation says of its licence, and what its site does."""

    service_entitlement_number: str | None = field(repr=False)
    entitlement_number: str | None = field(repr=False)
    site: SiteAnswer | None


async def own_words(connection: Connection, tenant_ids: Collection[UUID]) -> dict[UUID, OwnWord]:
    """Read what tenants with a living installation say of their licences themselves."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, service_entitlement_number, entitlement_number, licence_active,
               licence_inactive_since
          FROM installations
          LEFT JOIN access_checks USING (tenant_id)
         WHERE tenant_id = ANY($1::uuid[]) AND live
        """,
        list(tenant_ids),
    )
    return {
        row["tenant_id"]: OwnWord(
            row["service_entitlement_number"],
            row["entitlement_number"],
            None
            if row["licence_active"] is None
            else SiteAnswer(row["licence_active"], row["licence_inactive_since"]),
        )
        for row in rows
    }


async def out_of_step(pool: Pool, *, after: UUID | None, limit: int) -> list[UUID]:
    """List, in the order of ids, tenants of whom coming or going has changed what their site says.

    A site is not believed once its tenant has left, and is again when it is
    back; neither is an answer that would come to say so.
    """
    rows = await pool.fetch(
        """
        SELECT tenant_id
          FROM tenants AS t
         WHERE ($1::uuid IS NULL OR tenant_id > $1)
           AND classes ->> 'contacts' = 'live' AND merged_into IS NULL
           AND (subscription_status = 'active' AND departed_at IS NOT NULL
                AND NOT EXISTS (SELECT FROM licences AS l
                                 WHERE l.tenant_id = t.tenant_id AND NOT l.weak
                                   AND l.status = 'active')
                OR subscription_status <> 'active' AND departed_at IS NULL
                AND EXISTS (SELECT FROM access_checks AS a
                              JOIN installations AS i USING (tenant_id)
                             WHERE a.tenant_id = t.tenant_id AND a.licence_active AND i.live))
         ORDER BY tenant_id
         LIMIT $2
        """,
        after,
        limit,
    )
    return [row["tenant_id"] for row in rows]


# -- licences without an installation -------------------------------------------------------------


async def lock_lone_licences(
    connection: Connection, *, seen_before: datetime, last_day_past: date, limit: int
) -> list[Licence]:
    """Take licences that are nobody's and are to be tenants: self-hosted, or known for long.

    Rows that another worker holds are skipped, not waited for.
    """
    rows = await connection.fetch(
        """
        SELECT *
          FROM licences
         WHERE tenant_id IS NULL
           AND (hosting = ANY($1::text[]) OR first_seen_at <= $2)
           AND (status = 'active' OR coalesce(ends_on, last_updated) > $3)
         ORDER BY first_seen_at
         LIMIT $4
           FOR UPDATE SKIP LOCKED
        """,
        list(SELF_HOSTED),
        seen_before,
        last_day_past,
        limit,
    )
    return [_licence(row) for row in rows]


async def add_lone_tenants(
    uow: UnitOfWork[Any], tenants: Mapping[LicenceName, TenantState]
) -> None:
    """Write tenants that are a licence each, and say them; call it with the licences locked."""
    states = list(tenants.values())
    await uow.connection.execute(
        """
        INSERT INTO tenants (tenant_id, version_epoch, version_n, status, classes, platform,
                             addon_key, product_type, created_at, subscription_status,
                             subscription_ended_at, licence_numbers)
        SELECT tenant_id, epoch, n, status, classes::jsonb, platform, addon_key, product_type,
               created_at, subscription_status, subscription_ended_at,
               ARRAY(SELECT jsonb_array_elements_text(numbers::jsonb))
          FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                      $7::text[], $8::text[], $9::timestamptz[], $10::text[], $11::timestamptz[],
                      $12::text[])
            AS given (tenant_id, epoch, n, status, classes, platform, addon_key, product_type,
                      created_at, subscription_status, subscription_ended_at, numbers)
        """,
        [state.tenant_id for state in states],
        [state.version.epoch for state in states],
        [state.version.n for state in states],
        [state.status for state in states],
        [json.dumps(state.classes) for state in states],
        [state.platform for state in states],
        [state.addon_key for state in states],
        [state.product_type for state in states],
        [state.created_at for state in states],
        [state.subscription.status for state in states],
        [state.subscription.ended_at for state in states],
        [json.dumps(state.licence_numbers) for state in states],
    )
    await save_matches(
        uow.connection,
        {name: Match(state.tenant_id, Step.ITSELF) for name, state in tenants.items()},
    )
    for state in states:
        uow.outbox.add(state, type_name="tenant-updated")


# -- licences that were purged ----------------------------------------------------------------------


async def note_purged(connection: Connection, hashes: Collection[bytes], *, now: datetime) -> None:
    """Remember licences by their keyed hashes, from now on."""
    await connection.execute(
        """
        INSERT INTO purged_licences (licence_hash, purged_at)
        SELECT licence_hash, $2 FROM unnest($1::bytea[]) AS licence_hash
        ON CONFLICT (licence_hash) DO UPDATE SET purged_at = excluded.purged_at
        """,
        list(hashes),
        now,
    )


async def move_licences(connection: Connection, tenant_id: UUID, *, to: UUID) -> None:
    """Let the licences of a tenant be those of the one that goes on for it."""
    await connection.execute(
        "UPDATE licences SET tenant_id = $2 WHERE tenant_id = $1", tenant_id, to
    )


async def let_go_of_weak(connection: Connection, tenant_id: UUID) -> None:
    """Let licences be nobody's that are only guessed to be this tenant's."""
    await connection.execute(
        """
        UPDATE licences SET tenant_id = NULL, matched_by = NULL, weak = false
         WHERE tenant_id = $1 AND weak
        """,
        tenant_id,
    )


async def purged_at(
    database: "Pool | Connection", hashes: Collection[bytes]
) -> dict[bytes, datetime]:
    """Say which of these licences were purged, and when."""
    rows = await database.fetch(
        "SELECT licence_hash, purged_at FROM purged_licences WHERE licence_hash = ANY($1::bytea[])",
        list(hashes),
    )
    return {row["licence_hash"]: row["purged_at"] for row in rows}


async def drop_old(pool: Pool, *, last_day_past: date, purged_before: datetime) -> None:
    """Forget licences that are nobody's and over for six months, and what else is old."""
    await pool.execute(
        """
        DELETE FROM licences
         WHERE tenant_id IS NULL AND status <> 'active' AND coalesce(ends_on, last_updated) <= $1
        """,
        last_day_past,
    )
    await pool.execute("DELETE FROM purged_licences WHERE purged_at < $1", purged_before)


# -- for people -------------------------------------------------------------------------------------


async def without_installation(pool: Pool, *, limit: int) -> list[StoredLicence]:
    """List licences whose installation is not known, or only guessed; the oldest first.

    A self-hosted one has none that we could know of, so it is not among them.
    """
    rows = await pool.fetch(
        """
        SELECT *
          FROM licences
         WHERE (tenant_id IS NULL OR weak OR matched_by = 'itself')
           AND hosting <> ALL($1::text[])
         ORDER BY first_seen_at, addon_key, number
         LIMIT $2
        """,
        list(SELF_HOSTED),
        limit,
    )
    return [_stored(row) for row in rows]


async def count_licences(pool: Pool) -> dict[tuple[str, str], int]:
    """Count licences by app, and by how they are matched: strong, weak or none."""
    rows = await pool.fetch(
        """
        SELECT addon_key,
               CASE WHEN tenant_id IS NULL OR matched_by = 'itself' THEN 'none'
                    WHEN weak THEN 'weak'
                    ELSE 'strong' END AS matched,
               count(*) AS licences
          FROM licences
         GROUP BY 1, 2
        """
    )
    return {(row["addon_key"], row["matched"]): row["licences"] for row in rows}


def _stored(row: asyncpg.Record) -> StoredLicence:
    tenant_id = row["tenant_id"]
    match = Match(tenant_id, Step(row["matched_by"])) if tenant_id else None
    return StoredLicence(_licence(row), match, row["first_seen_at"])


def _licence(row: asyncpg.Record) -> Licence:
    return Licence(
        name=LicenceName(row["addon_key"], row["number"]),
        sen=row["sen"],
        entitlement_id=row["entitlement_id"],
        entitlement_number=row["entitlement_number"],
        hosting=row["hosting"],
        status=row["status"],
        licence_type=row["licence_type"],
        ends_on=row["ends_on"],
        cloud_id=row["cloud_id"],
        site_host=row["site_host"],
        last_updated=row["last_updated"],
    )
