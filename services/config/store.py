"""Every SQL statement of config: the tenants it knows, the datasources they keep."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from contracts.purges import PurgeState
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.domain import Datasource, DatasourceInput, DatasourceKind, Tenant
from services.config.early_erasure import ErasureRequest


class NameTaken(Exception):  # noqa: N818 - reads as the fact it states
    """The tenant has another datasource of this name."""


async def remember_tenants(connection: Connection, tenants: Sequence[Tenant]) -> None:
    """Make what is known of these tenants this."""
    await connection.execute(
        """
        INSERT INTO tenants (tenant_id, status, platform, content)
        SELECT *
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
               AS t(tenant_id, status, platform, content)
         ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE
           SET status = excluded.status, platform = excluded.platform, content = excluded.content
        """,
        [tenant.tenant_id for tenant in tenants],
        [tenant.status for tenant in tenants],
        [tenant.platform for tenant in tenants],
        [tenant.content for tenant in tenants],
    )


async def forget_tenants(connection: Connection, tenant_ids: Sequence[UUID]) -> None:
    """Know nothing of these tenants any more."""
    await connection.execute("DELETE FROM tenants WHERE tenant_id = ANY($1::uuid[])", tenant_ids)


async def tenant(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """Say what is known of a tenant."""
    row = await connection.fetchrow(
        "SELECT status, platform, content FROM tenants WHERE tenant_id = $1", tenant_id
    )
    if row is None:
        return None
    return Tenant(
        tenant_id=tenant_id,
        status=TenantStatus(row["status"]),
        platform=Platform(row["platform"]),
        content=ClassState(row["content"]),
    )


@dataclass(frozen=True, slots=True)
class OpenMove:
    """Content that is to move to another tenant before its own is forgotten, and how far it has."""

    purge_id: UUID
    tenant_id: UUID
    merged_into: UUID
    noted_at: datetime
    moved_up_to: UUID | None
    rows_moved: int


async def note_move(
    connection: Connection,
    purge_id: UUID,
    step: str,
    tenant_id: UUID,
    merged_into: UUID,
    *,
    now: datetime,
) -> None:
    """Note, once, that content is to move before an accepted erasure that has never been begun.

    `accept_erasure` holds the erasure's row until the transaction ends, so none
    begins behind our back.
    """
    await connection.execute(
        """
        INSERT INTO moves (purge_id, tenant_id, merged_into, state, noted_at)
        SELECT purge_id, $3, $4, 'open', $5
          FROM erasures
         WHERE purge_id = $1 AND step = $2 AND attempts = 0
        ON CONFLICT (purge_id) DO NOTHING
        """,
        purge_id,
        step,
        tenant_id,
        merged_into,
        now,
    )


async def open_moves(pool: Pool) -> list[UUID]:
    """List the purges whose content is to move, those that wait longest first."""
    rows = await pool.fetch("SELECT purge_id FROM moves WHERE state = 'open' ORDER BY noted_at")
    return [row["purge_id"] for row in rows]


async def lock_open_move(connection: Connection, purge_id: UUID) -> OpenMove | None:
    """Take a move that is still open, for this transaction alone; None where another has it."""
    row = await connection.fetchrow(
        """
        SELECT purge_id, tenant_id, merged_into, noted_at, moved_up_to, rows_moved
          FROM moves
         WHERE purge_id = $1 AND state = 'open'
           FOR UPDATE SKIP LOCKED
        """,
        purge_id,
    )
    return OpenMove(**row) if row else None


async def note_moved(connection: Connection, purge_id: UUID, *, up_to: UUID, rows: int) -> None:
    """Note how far a move has come, in the transaction that moved these rows."""
    await connection.execute(
        "UPDATE moves SET moved_up_to = $2, rows_moved = rows_moved + $3 WHERE purge_id = $1",
        purge_id,
        up_to,
        rows,
    )


async def settle_move(connection: Connection, purge_id: UUID, *, moved: bool) -> None:
    """Note what became of a move, so that the erasure may begin."""
    await connection.execute(
        "UPDATE moves SET state = $2 WHERE purge_id = $1",
        purge_id,
        "moved" if moved else "given-up",
    )


async def purges_with_open_moves(connection: Connection, purge_ids: Collection[UUID]) -> set[UUID]:
    """Say which of these purges have content that is still to move."""
    rows = await connection.fetch(
        "SELECT purge_id FROM moves WHERE purge_id = ANY($1::uuid[]) AND state = 'open'",
        list(purge_ids),
    )
    return {row["purge_id"] for row in rows}


# -- erasure asked for early -------------------------------------------------------------------


async def remember_purges(connection: Connection, states: Sequence[PurgeState]) -> None:
    """Make what is known of these tenants' purges this."""
    await connection.execute(
        """
        INSERT INTO purge_states (tenant_id, state)
        SELECT tenant_id, state::jsonb
          FROM unnest($1::uuid[], $2::text[]) AS s(tenant_id, state)
         ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET state = excluded.state
        """,
        [state.tenant_id for state in states],
        [state.model_dump_json() for state in states],
    )


async def purges(connection: Connection, tenant_id: UUID) -> PurgeState | None:
    """Say what purger last told of a tenant's purges; None where it has told nothing."""
    state = await connection.fetchval(
        "SELECT state FROM purge_states WHERE tenant_id = $1", tenant_id
    )
    return None if state is None else PurgeState.model_validate(state)


async def forget_purges(connection: Connection, tenant_ids: Sequence[UUID]) -> None:
    """Know nothing of these tenants' purges any more, nor of what they asked for."""
    for table in ("purge_states", "erasure_requests"):
        await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = ANY($1::uuid[])",  # noqa: S608 - one of two constants
            tenant_ids,
        )


async def save_request(connection: Connection, tenant_id: UUID, request: ErasureRequest) -> None:
    """Make a tenant's latest request this."""
    await connection.execute(
        """
        INSERT INTO erasure_requests (tenant_id, wish_id, asked_at, heard, withdrawn_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id) DO UPDATE
           SET wish_id = excluded.wish_id, asked_at = excluded.asked_at, heard = excluded.heard,
               withdrawn_at = excluded.withdrawn_at
        """,
        tenant_id,
        request.wish_id,
        request.asked_at,
        request.heard,
        request.withdrawn_at,
    )


async def request(connection: Connection, tenant_id: UUID) -> ErasureRequest | None:
    """Find a tenant's latest request."""
    row = await connection.fetchrow(
        "SELECT wish_id, asked_at, heard, withdrawn_at FROM erasure_requests WHERE tenant_id = $1",
        tenant_id,
    )
    return None if row is None else ErasureRequest(**row)


async def settle_requests(
    connection: Connection, tenant_ids: Sequence[UUID], standing: Collection[UUID]
) -> None:
    """Note that purger names these tenants' requests, or drop those that it names no longer."""
    await connection.execute(
        """
        UPDATE erasure_requests SET heard = true
         WHERE tenant_id = ANY($1::uuid[]) AND wish_id = ANY($2::uuid[])
        """,
        tenant_ids,
        list(standing),
    )
    await connection.execute(
        """
        DELETE FROM erasure_requests
         WHERE tenant_id = ANY($1::uuid[]) AND heard AND wish_id <> ALL($2::uuid[])
        """,
        tenant_ids,
        list(standing),
    )


# -- datasources -------------------------------------------------------------------------------

# The functions below need `act_for`: row-level security shows no tenant's rows otherwise. They
# name the tenant all the same, so that neither protection stands alone.


async def add_datasource(
    connection: Connection,
    tenant_id: UUID,
    datasource_id: UUID,
    wanted: DatasourceInput,
    *,
    sealed_credentials: bytes | None,
    now: datetime,
) -> Datasource | None:
    """Store a new datasource; None, and nothing stored, where its name is taken."""
    row = await connection.fetchrow(
        """
        INSERT INTO datasources (tenant_id, datasource_id, name, kind, url, options, username,
                                 credentials, created_at, updated_at, version)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 1)
        ON CONFLICT (tenant_id, name) DO NOTHING
        RETURNING datasource_id, name, kind, url, options, username,
                  credentials IS NOT NULL AS has_credentials, version, created_at, updated_at
        """,
        tenant_id,
        datasource_id,
        wanted.name,
        wanted.kind,
        wanted.url,
        wanted.options,
        wanted.username,
        sealed_credentials,
        now,
    )
    return _datasource(row) if row else None


async def datasource(
    connection: Connection, tenant_id: UUID, datasource_id: UUID
) -> Datasource | None:
    """Find one datasource of a tenant."""
    row = await connection.fetchrow(
        """
        SELECT datasource_id, name, kind, url, options, username,
               credentials IS NOT NULL AS has_credentials, version, created_at, updated_at
          FROM datasources
         WHERE tenant_id = $1 AND datasource_id = $2
        """,
        tenant_id,
        datasource_id,
    )
    return _datasource(row) if row else None


async def datasources(
    connection: Connection, tenant_id: UUID, *, after: UUID | None, limit: int
) -> list[Datasource]:
    """List up to ``limit`` datasources of a tenant in the order of their ids, behind ``after``."""
    rows = await connection.fetch(
        """
        SELECT datasource_id, name, kind, url, options, username,
               credentials IS NOT NULL AS has_credentials, version, created_at, updated_at
          FROM datasources
         WHERE tenant_id = $1 AND ($2::uuid IS NULL OR datasource_id > $2)
         ORDER BY datasource_id
         LIMIT $3
        """,
        tenant_id,
        after,
        limit,
    )
    return [_datasource(row) for row in rows]


async def replace_datasource(
    connection: Connection,
    tenant_id: UUID,
    datasource_id: UUID,
    wanted: DatasourceInput,
    *,
    sealed_credentials: bytes | None,
    version: int | None,
    now: datetime,
) -> Datasource | None:
    """Make a datasource this, with the next version; None where it is not there.

    ``version`` is the one that must be there, if any. ``wanted`` says whether
    the credentials stay. Raises ``NameTaken``, which undoes the transaction.
    """
    try:
        row = await connection.fetchrow(
            """
            UPDATE datasources
               SET name = $3, kind = $4, url = $5, options = $6, username = $7,
                   credentials = CASE WHEN $8 THEN credentials ELSE $9::bytea END,
                   updated_at = $10, version = version + 1
             WHERE tenant_id = $1 AND datasource_id = $2 AND ($11::int IS NULL OR version = $11)
            RETURNING datasource_id, name, kind, url, options, username,
                      credentials IS NOT NULL AS has_credentials, version, created_at, updated_at
            """,
            tenant_id,
            datasource_id,
            wanted.name,
            wanted.kind,
            wanted.url,
            wanted.options,
            wanted.username,
            wanted.keeps_credentials,
            sealed_credentials,
            now,
            version,
        )
    except asyncpg.UniqueViolationError:
        # Its detail quotes the row.
        raise NameTaken from None
    return _datasource(row) if row else None


async def remove_datasource(
    connection: Connection, tenant_id: UUID, datasource_id: UUID, *, version: int | None
) -> bool:
    """Remove a datasource; False where it, in this ``version`` if one is given, is not there."""
    removed = await connection.fetchval(
        """
        DELETE FROM datasources
         WHERE tenant_id = $1 AND datasource_id = $2 AND ($3::int IS NULL OR version = $3)
        RETURNING true
        """,
        tenant_id,
        datasource_id,
        version,
    )
    return removed is True


@dataclass(frozen=True, slots=True)
class StoredDatasource:
    """A datasource as it lies in the database, its credentials sealed."""

    datasource_id: UUID
    name: str = field(repr=False)
    kind: str
    url: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    username: str | None = field(repr=False)
    credentials: bytes | None = field(repr=False)
    created_at: datetime
    updated_at: datetime
    version: int


async def stored_datasources(
    connection: Connection, tenant_id: UUID, *, after: UUID | None, limit: int
) -> list[StoredDatasource]:
    """List up to ``limit`` datasources with all that is stored of them, behind ``after``."""
    rows = await connection.fetch(
        """
        SELECT datasource_id, name, kind, url, options, username, credentials, created_at,
               updated_at, version
          FROM datasources
         WHERE tenant_id = $1 AND ($2::uuid IS NULL OR datasource_id > $2)
         ORDER BY datasource_id
         LIMIT $3
        """,
        tenant_id,
        after,
        limit,
    )
    return [StoredDatasource(**row) for row in rows]


async def add_moved_datasource(
    connection: Connection,
    tenant_id: UUID,
    moved: StoredDatasource,
    *,
    name: str,
    sealed_credentials: bytes | None,
) -> bool:
    """Keep another tenant's datasource under this name, else as it was.

    False, and nothing kept, where the name is taken or the datasource is there:
    its id stays, so that what refers to it goes on doing so.
    """
    added = await connection.fetchval(
        """
        INSERT INTO datasources (tenant_id, datasource_id, name, kind, url, options, username,
                                 credentials, created_at, updated_at, version)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        tenant_id,
        moved.datasource_id,
        name,
        moved.kind,
        moved.url,
        moved.options,
        moved.username,
        sealed_credentials,
        moved.created_at,
        moved.updated_at,
        moved.version,
    )
    return added is True


def _datasource(row: asyncpg.Record) -> Datasource:
    return Datasource(**{**row, "kind": DatasourceKind(row["kind"])})
