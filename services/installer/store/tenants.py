"""Tenants and their installations, and how a tenant's state is written and said at once."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from chassis.outbox import OutboxRow
from chassis.unit_of_work import UnitOfWork
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.registry import ce_type
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from contracts.topics import INSTALLER_TENANTS
from services.installer.domain.tenants import Installation

KNOWN_VERSIONS = "SELECT tenant_id, version_epoch AS epoch, version_n AS n FROM tenants"
"""At which version each tenant's state is; it is made here, not followed."""

_ALL_LIVE = json.dumps(dict.fromkeys(TENANT_CLASSES, ClassState.LIVE))


@dataclass(frozen=True, slots=True)
class FirstInstall:
    """All that is written of a tenant which is not known yet; its secret is sealed already."""

    state: TenantState
    installation: Installation
    sealed_secret: bytes
    wrapped_key: bytes
    kek_id: str
    said: OutboxRow


async def add_tenants(
    database: "Pool | Connection",
    firsts: Sequence[FirstInstall],
    *,
    wall: datetime,
    beside_others: bool = False,
) -> set[UUID]:
    """Write tenants, installations, keys and what is said of them in one statement.

    Answers which tenants now exist. Left out, without a trace, are those whose
    name is live already, whose epoch is not the present one any more, and,
    unless ``beside_others``, those whose base URL is another live one's. Of
    several that bring one name at once the first wins; the others wait for it.
    """
    rows = await database.fetch(
        """
        WITH first AS (
            SELECT *
              FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[],
                          $6::text[], $7::text[], $8::text[], $9::bytea[], $10::text[],
                          $11::text[], $12::bytea[], $13::text[], $14::uuid[], $15::text[],
                          $16::bytea[], $17::text[], $18::text[])
                AS given (tenant_id, epoch, addon_key, product_type, created_at,
                          client_key, base_url, sen, shared_secret, oauth_client_id,
                          licence_numbers, wrapped_key, kek_id, ce_id, headers,
                          payload, entitlement_id, entitlement_number)
             WHERE epoch = (SELECT max(epoch) FROM relay_epochs)
               AND ($19 OR NOT EXISTS (SELECT FROM installations AS other
                                        WHERE other.live
                                          AND other.addon_key = given.addon_key
                                          AND other.base_url = given.base_url))),
        installed AS (
            INSERT INTO installations (tenant_id, live, addon_key, product_type, client_key,
                                       base_url, service_entitlement_number, shared_secret,
                                       oauth_client_id, entitlement_id, entitlement_number)
            SELECT tenant_id, true, addon_key, product_type, client_key, base_url, sen,
                   shared_secret, oauth_client_id, entitlement_id, entitlement_number
              FROM first
             ORDER BY addon_key, client_key  -- so that two batches cannot wait for each other
            ON CONFLICT (addon_key, client_key) WHERE live DO NOTHING
            RETURNING tenant_id AS installed_id),
        known AS (
            INSERT INTO tenants (tenant_id, version_epoch, version_n, status, classes, platform,
                                 addon_key, product_type, created_at, subscription_status,
                                 licence_numbers)
            SELECT tenant_id, epoch, 1, $20, $21::text::jsonb, $22, addon_key, product_type,
                   created_at, $23, string_to_array(licence_numbers, ',')
              FROM first JOIN installed ON tenant_id = installed_id),
        keys AS (
            INSERT INTO tenant_keys (tenant_id, wrapped_key, kek_id, made_at)
            SELECT tenant_id, wrapped_key, kek_id, created_at
              FROM first JOIN installed ON tenant_id = installed_id),
        said AS (
            INSERT INTO outbox (written_at, epoch, topic, kind, record_key, tenant_id, ce_id,
                                type, headers, payload, data_class)
            SELECT $24, epoch, $25, $26, tenant_id::text, tenant_id, ce_id, $27, headers::jsonb,
                   payload, $28
              FROM first JOIN installed ON tenant_id = installed_id)
        SELECT installed_id FROM installed
        """,
        [first.state.tenant_id for first in firsts],
        [first.state.version.epoch for first in firsts],
        [first.state.addon_key for first in firsts],
        [first.state.product_type for first in firsts],
        [first.state.created_at for first in firsts],
        [first.installation.client_key for first in firsts],
        [first.installation.base_url for first in firsts],
        [first.installation.service_entitlement_number for first in firsts],
        [first.sealed_secret for first in firsts],
        [first.installation.oauth_client_id for first in firsts],
        [",".join(first.state.licence_numbers) for first in firsts],
        [first.wrapped_key for first in firsts],
        [first.kek_id for first in firsts],
        [first.said.ce_id for first in firsts],
        [first.said.headers for first in firsts],
        [first.said.payload for first in firsts],
        [first.installation.entitlement_id for first in firsts],
        [first.installation.entitlement_number for first in firsts],
        beside_others,
        TenantStatus.INSTALLED,
        _ALL_LIVE,
        Platform.CONNECT,
        SubscriptionStatus.NONE,
        wall,
        INSTALLER_TENANTS.name,
        INSTALLER_TENANTS.kind,
        ce_type("tenant-installed"),
        INSTALLER_TENANTS.erases_as,
    )
    return {row["installed_id"] for row in rows}


async def add_forge_tenant(uow: UnitOfWork[Any], tenant: TenantState) -> None:
    """Write a tenant that has no installation of Connect's, and say it."""
    await uow.connection.execute(
        """
        INSERT INTO tenants (tenant_id, version_epoch, version_n, status, classes, platform,
                             addon_key, product_type, created_at, subscription_status,
                             licence_numbers)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '{}')
        """,
        tenant.tenant_id,
        tenant.version.epoch,
        tenant.version.n,
        tenant.status,
        tenant.classes,
        tenant.platform,
        tenant.addon_key,
        tenant.product_type,
        tenant.created_at,
        tenant.subscription.status,
    )
    uow.outbox.add(tenant, type_name="tenant-installed")


async def present_epoch(pool: Pool) -> int:
    """Say under which epoch states are made now."""
    epoch: int = await pool.fetchval("SELECT max(epoch) FROM relay_epochs")
    return epoch


async def find_live_tenant(connection: Connection, addon_key: str, client_key: str) -> UUID | None:
    """Find the tenant of this name that is not purging; no lock is taken."""
    tenant_id: UUID | None = await connection.fetchval(
        "SELECT tenant_id FROM installations WHERE addon_key = $1 AND client_key = $2 AND live",
        addon_key,
        client_key,
    )
    return tenant_id


async def find_signer(pool: Pool, addon_key: str, client_key: str) -> asyncpg.Record | None:
    """Read what the calls of a name are checked by: of a living tenant, else of the newest one."""
    return await pool.fetchrow(
        """
        SELECT tenant_id, i.live, t.status, t.platform, t.departed_how, i.shared_secret,
               i.replaced_secret, i.replaced_until, k.wrapped_key, k.kek_id, a.last_seen_at,
               a.losses
          FROM installations AS i
          JOIN tenants AS t USING (tenant_id)
          LEFT JOIN tenant_keys AS k USING (tenant_id)
          LEFT JOIN access_checks AS a USING (tenant_id)
         WHERE i.addon_key = $1 AND i.client_key = $2
         ORDER BY i.live DESC, tenant_id DESC
         LIMIT 1
        """,
        addon_key,
        client_key,
    )


async def find_other_tenants_at(
    connection: Connection, addon_key: str, base_url: str, *, than: UUID
) -> list[UUID]:
    """Find the other tenants that are installed at this base URL, in the order of ids."""
    rows = await connection.fetch(
        """
        SELECT tenant_id
          FROM installations
         WHERE addon_key = $1 AND base_url = $2 AND live AND present AND tenant_id <> $3
         ORDER BY tenant_id
        """,
        addon_key,
        base_url,
        than,
    )
    return [row["tenant_id"] for row in rows]


async def lock_tenant(connection: Connection, tenant_id: UUID) -> TenantState | None:
    """Lock a tenant's state until the transaction ends, and read it as it is then.

    What hangs on it (its installation, its purges) must be read by a later
    statement: this one's snapshot is older than the lock.
    """
    return (await lock_tenants(connection, [tenant_id])).get(tenant_id)


async def lock_tenants(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, TenantState]:
    """Do the same of several, in the order of their ids; who is not known is left out."""
    rows = await connection.fetch(
        """
        SELECT * FROM tenants WHERE tenant_id = ANY($1::uuid[]) ORDER BY tenant_id FOR UPDATE
        """,
        list(tenant_ids),
    )
    return {row["tenant_id"]: _state_of(row) for row in rows}


async def read_tenant(connection: Connection, tenant_id: UUID) -> TenantState | None:
    """Read a tenant's state, which may change at once; no lock is taken."""
    row = await connection.fetchrow("SELECT * FROM tenants WHERE tenant_id = $1", tenant_id)
    return None if row is None else _state_of(row)


@dataclass(frozen=True, slots=True)
class StoredInstallation:
    """What is stored of an installation: all but its secret, and that sealed.

    ``present`` is whether the app is installed by Connect's name.
    """

    installation: Installation
    sealed_secret: bytes = field(repr=False)
    present: bool


async def installation_of(connection: Connection, tenant_id: UUID) -> StoredInstallation | None:
    """Read what is stored of a live installation.

    None for a tenant that is purging, or has no installation of Connect's;
    call it under the tenant's lock.
    """
    row = await connection.fetchrow(
        "SELECT * FROM installations WHERE tenant_id = $1 AND live", tenant_id
    )
    if row is None:
        return None
    installation = Installation(
        addon_key=row["addon_key"],
        product_type=row["product_type"],
        client_key=row["client_key"],
        base_url=row["base_url"],
        service_entitlement_number=row["service_entitlement_number"],
        shared_secret="",
        oauth_client_id=row["oauth_client_id"],
        entitlement_id=row["entitlement_id"],
        entitlement_number=row["entitlement_number"],
    )
    return StoredInstallation(installation, row["shared_secret"], row["present"])


async def save_installation(
    connection: Connection,
    tenant_id: UUID,
    installation: Installation,
    sealed_secret: bytes,
    *,
    replaced_until: datetime | None,
    wall: datetime,
) -> None:
    """Replace what is stored of an installation, and call it present; its name stays.

    Where ``replaced_until`` is given, the secret was replaced, and the one
    before counts until then. One whose time is over is forgotten.
    """
    await connection.execute(
        """
        UPDATE installations
           SET product_type = $2, base_url = $3, service_entitlement_number = $4,
               shared_secret = $5, oauth_client_id = $6, entitlement_id = $7,
               entitlement_number = $8, present = true,
               replaced_secret = CASE WHEN $9::timestamptz IS NOT NULL THEN shared_secret
                                      WHEN replaced_until > $10 THEN replaced_secret END,
               replaced_until = CASE WHEN $9::timestamptz IS NOT NULL THEN $9
                                     WHEN replaced_until > $10 THEN replaced_until END
         WHERE tenant_id = $1
        """,
        tenant_id,
        installation.product_type,
        installation.base_url,
        installation.service_entitlement_number,
        sealed_secret,
        installation.oauth_client_id,
        installation.entitlement_id,
        installation.entitlement_number,
        replaced_until,
        wall,
    )


async def forget_replaced_secrets(database: "Pool | Connection", *, wall: datetime) -> int:
    """Forget the replaced secrets whose time is over; answer how many there were."""
    status = await database.execute(
        """
        UPDATE installations
           SET replaced_secret = NULL, replaced_until = NULL
         WHERE replaced_until <= $1
        """,
        wall,
    )
    return int(status.rpartition(" ")[2])


async def put_out_of_use(connection: Connection, tenant_id: UUID) -> bool:
    """Note that an app is not installed by Connect's name any more; False where that was known."""
    was_present = await connection.fetchval(
        """
        UPDATE installations
           SET present = false
         WHERE tenant_id = $1 AND live AND present
        RETURNING true
        """,
        tenant_id,
    )
    return was_present is True


async def note_seen(database: "Pool | Connection", tenant_id: UUID, *, now: datetime) -> None:
    """Note that a site was heard of, which ends a row of losses and a person's word of its end."""
    await database.execute(
        """
        UPDATE access_checks
           SET last_seen_at = greatest(last_seen_at, $2), losses = 0, first_lost_at = NULL,
               last_lost_at = NULL, confirmed_at = NULL, confirmed_by = NULL
         WHERE tenant_id = $1
        """,
        tenant_id,
        now,
    )


async def record_state(uow: UnitOfWork[Any], tenant: TenantState, type_name: str) -> None:
    """Write a tenant's newer state and say it; a purging tenant is found by no name any more.

    Call it under the tenant's lock.
    """
    await write_state(uow.connection, tenant)
    uow.outbox.add(tenant, type_name=type_name)
    if _outlives_its_installation(tenant):
        _keep_as_proof(uow)


async def write_state(connection: Connection, tenant: TenantState) -> None:
    """Write a tenant's newer state, and find a purging tenant by no name any more; say nothing."""
    departure = tenant.departure
    await connection.execute(
        """
        UPDATE tenants
           SET version_epoch = $2, version_n = $3, status = $4, classes = $5, product_type = $6,
               departed_at = $7, departed_how = $8, subscription_status = $9,
               subscription_ended_at = $10, licence_numbers = $11, purge_id = $12,
               platform = $13, platform_since = $14, merged_into = $15
         WHERE tenant_id = $1
        """,
        tenant.tenant_id,
        tenant.version.epoch,
        tenant.version.n,
        tenant.status,
        tenant.classes,
        tenant.product_type,
        departure.at if departure else None,
        departure.how if departure else None,
        tenant.subscription.status,
        tenant.subscription.ended_at,
        list(tenant.licence_numbers),
        tenant.purge_id,
        tenant.platform,
        tenant.platform_since,
        tenant.merged_into,
    )
    if tenant.classes[DataClass.INSTALLATION] is not ClassState.LIVE:
        await connection.execute(
            "UPDATE installations SET live = false WHERE tenant_id = $1 AND live",
            tenant.tenant_id,
        )
        await connection.execute(
            "UPDATE aliases SET live = false WHERE tenant_id = $1 AND live", tenant.tenant_id
        )


async def record_purge(
    connection: Connection,
    purge_id: UUID,
    tenant_id: UUID,
    classes: Sequence[DataClass],
    *,
    now: datetime,
) -> None:
    """Remember that a purge takes these classes, besides those that it was known to take."""
    await connection.execute(
        """
        INSERT INTO accepted_purges AS known (purge_id, tenant_id, classes, accepted_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (purge_id) DO UPDATE
           SET classes = ARRAY(SELECT DISTINCT unnest(known.classes || excluded.classes))
        """,
        purge_id,
        tenant_id,
        list(classes),
        now,
    )


@dataclass(frozen=True, slots=True)
class AcceptedPurge:
    """A purge past the point of no return."""

    tenant_id: UUID
    classes: tuple[DataClass, ...]
    accepted_at: datetime


async def accepted_purges(
    connection: Connection, purge_ids: Collection[UUID]
) -> dict[UUID, AcceptedPurge]:
    """Find accepted purges, as long as their tenants are not gone."""
    rows = await connection.fetch(
        """
        SELECT purge_id, tenant_id, classes, accepted_at
          FROM accepted_purges
         WHERE purge_id = ANY($1::uuid[])
        """,
        list(purge_ids),
    )
    return {
        row["purge_id"]: AcceptedPurge(
            row["tenant_id"],
            tuple(DataClass(name) for name in row["classes"]),
            row["accepted_at"],
        )
        for row in rows
    }


async def forget_tenant(uow: UnitOfWork[Any], tenant_id: UUID) -> None:
    """Delete a tenant whose every class is erased, and set the tombstone of its state.

    Its guards stay. An installation that is still there goes with it: after a
    restore the ledger is applied before the eraser runs, whose answer then
    counts it all the same.
    """
    await uow.connection.execute(
        """
        UPDATE erasures
           SET counts = jsonb_build_object(
                   $2::text,
                   (SELECT count(*) FROM installations WHERE tenant_id = $1)
                   + (SELECT count(*) FROM aliases WHERE tenant_id = $1))
         WHERE tenant_id = $1 AND state = 'queued' AND $2 = ANY(classes)
        """,
        tenant_id,
        DataClass.INSTALLATION,
    )
    await uow.connection.execute("DELETE FROM tenants WHERE tenant_id = $1", tenant_id)
    say_gone(uow, tenant_id)


def say_gone(uow: UnitOfWork[Any], tenant_id: UUID) -> None:
    """Set the tombstone of a tenant's state."""
    uow.outbox.tombstone(TenantState, tenant_id)
    _keep_as_proof(uow)


def _outlives_its_installation(tenant: TenantState) -> bool:
    return tenant.classes[DataClass.INSTALLATION] is not ClassState.LIVE


def _keep_as_proof(uow: UnitOfWork[Any]) -> None:
    """Let the outbox drop what was said last as it drops proof: ids only, gone after 30 days.

    It is said when the installation's own rows may have been erased already,
    so nobody would come for it any more.
    """
    uow.outbox.rows[-1] = replace(uow.outbox.rows[-1], data_class=DataClass.ERASURE_PROOF)


async def lock_page(connection: Connection, *, after: UUID | None, limit: int) -> list[TenantState]:
    """Lock and read the next tenants in the order of their ids."""
    rows = await connection.fetch(
        """
        SELECT *
          FROM tenants
         WHERE $1::uuid IS NULL OR tenant_id > $1
         ORDER BY tenant_id
         LIMIT $2
           FOR UPDATE
        """,
        after,
        limit,
    )
    return [_state_of(row) for row in rows]


async def restate_tenants(uow: UnitOfWork[Any], tenants: Sequence[TenantState]) -> None:
    """Give tenants their newer versions and say their states again; nothing else changes."""
    await uow.connection.execute(
        """
        UPDATE tenants
           SET version_epoch = newer.epoch, version_n = newer.n
          FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS newer (tenant_id, epoch, n)
         WHERE tenants.tenant_id = newer.tenant_id
        """,
        [tenant.tenant_id for tenant in tenants],
        [tenant.version.epoch for tenant in tenants],
        [tenant.version.n for tenant in tenants],
    )
    for tenant in tenants:
        uow.outbox.add(tenant, type_name="tenant-updated")
        if _outlives_its_installation(tenant):
            _keep_as_proof(uow)


async def add_orphan(connection: Connection, tenant: TenantState) -> None:
    """Write a tenant of which nothing but its state is known; nothing is said of it yet."""
    await connection.execute(
        """
        INSERT INTO tenants (tenant_id, version_epoch, version_n, status, classes, platform,
                             addon_key, product_type, created_at, subscription_status,
                             licence_numbers)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '{}')
        """,
        tenant.tenant_id,
        tenant.version.epoch,
        tenant.version.n,
        tenant.status,
        tenant.classes,
        tenant.platform,
        tenant.addon_key,
        tenant.product_type,
        tenant.created_at,
        tenant.subscription.status,
    )
    await write_state(connection, tenant)


async def note_whether_installed(connection: Connection, tenant: TenantState) -> None:
    """Let a tenant's names be in use as its state says, as far as that can tell.

    A lost access leaves them in use. By which name on Forge it came back is not known.
    """
    departure = tenant.departure
    if departure is not None and departure.how is not DepartureKind.ACCESS_LOST:
        await connection.execute(
            "UPDATE installations SET present = false WHERE tenant_id = $1", tenant.tenant_id
        )
        await connection.execute(
            "UPDATE aliases SET present = false WHERE tenant_id = $1", tenant.tenant_id
        )
    elif departure is None and tenant.platform is Platform.CONNECT:
        await connection.execute(
            "UPDATE installations SET present = true WHERE tenant_id = $1", tenant.tenant_id
        )


async def status_of(pool: Pool, tenant_id: UUID) -> TenantStatus | None:
    """Say where a tenant stands."""
    status = await pool.fetchval("SELECT status FROM tenants WHERE tenant_id = $1", tenant_id)
    return None if status is None else TenantStatus(status)


async def created_at(pool: Pool, tenant_id: UUID) -> datetime | None:
    """Say when a tenant began; None where there is none."""
    began_at: datetime | None = await pool.fetchval(
        "SELECT created_at FROM tenants WHERE tenant_id = $1", tenant_id
    )
    return began_at


async def tenants_named(
    pool: Pool, addon_key: str, client_key: str
) -> list[tuple[UUID, TenantStatus]]:
    """List the tenants of a name whose installation is not erased, the newest first."""
    rows = await pool.fetch(
        """
        SELECT tenant_id, status
          FROM tenants
          JOIN installations USING (tenant_id)
         WHERE installations.addon_key = $1 AND client_key = $2
         ORDER BY tenant_id DESC
        """,
        addon_key,
        client_key,
    )
    return [(row["tenant_id"], TenantStatus(row["status"])) for row in rows]


def _state_of(row: asyncpg.Record) -> TenantState:
    departed_at = row["departed_at"]
    return TenantState(
        tenant_id=row["tenant_id"],
        version=Version(epoch=row["version_epoch"], n=row["version_n"]),
        status=row["status"],
        classes=row["classes"],
        platform=row["platform"],
        addon_key=row["addon_key"],
        product_type=row["product_type"],
        created_at=row["created_at"],
        departure=Departure(at=departed_at, how=row["departed_how"]) if departed_at else None,
        subscription=Subscription(
            status=row["subscription_status"], ended_at=row["subscription_ended_at"]
        ),
        licence_numbers=tuple(row["licence_numbers"]),
        purge_id=row["purge_id"],
        platform_since=row["platform_since"],
        merged_into=row["merged_into"],
    )
