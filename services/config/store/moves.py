"""Moves: which content goes to another tenant before an erasure, and how far it has come."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Connection, Pool


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


@dataclass(frozen=True, slots=True)
class StoredThing:
    """A thing as it lies in the database, its credentials sealed."""

    thing_id: UUID
    kind: str
    name: str = field(repr=False)
    tags: list[str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)
    credentials: bytes | None = field(repr=False)
    position: int
    version: int
    created_at: datetime
    updated_at: datetime


async def stored_things(
    connection: Connection,
    tenant_id: UUID,
    kinds: Sequence[str],
    *,
    after: UUID | None,
    limit: int,
) -> list[StoredThing]:
    """List up to ``limit`` things with all that is stored of them, kind by kind, behind ``after``.

    Needs `act_for`, as do the functions below.
    """
    rows = await connection.fetch(
        """
        SELECT thing_id, kind, name, tags, body, credentials, position, version, created_at,
               updated_at
          FROM things
         WHERE tenant_id = $1
           AND ($3::uuid IS NULL
                OR (array_position($2, kind), thing_id)
                   > (SELECT array_position($2, t.kind), t.thing_id FROM things t
                       WHERE t.tenant_id = $1 AND t.thing_id = $3))
         ORDER BY array_position($2::text[], kind), thing_id
         LIMIT $4
        """,
        tenant_id,
        list(kinds),
        after,
        limit,
    )
    return [StoredThing(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A past version of a thing, as it lies in the database."""

    thing_id: UUID
    version: int
    name: str = field(repr=False)
    tags: list[str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)
    made_at: datetime


async def stored_versions(
    connection: Connection, tenant_id: UUID, thing_ids: Sequence[UUID]
) -> list[StoredVersion]:
    """List all past versions of these things."""
    rows = await connection.fetch(
        """
        SELECT thing_id, version, name, tags, body, made_at
          FROM thing_versions
         WHERE tenant_id = $1 AND thing_id = ANY($2::uuid[])
        """,
        tenant_id,
        list(thing_ids),
    )
    return [StoredVersion(**row) for row in rows]


async def add_moved_thing(
    connection: Connection,
    tenant_id: UUID,
    moved: StoredThing,
    *,
    name: str,
    body: dict[str, Any],
    sealed_credentials: bytes | None,
) -> bool:
    """Keep another tenant's thing under this name and with this body, else as it was.

    False, and nothing kept, where the name is taken or the thing is there: its
    id stays, so that what refers to it goes on doing so.
    """
    added = await connection.fetchval(
        """
        INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, credentials, position,
                            version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        tenant_id,
        moved.thing_id,
        moved.kind,
        name,
        moved.tags,
        body,
        sealed_credentials,
        moved.position,
        moved.version,
        moved.created_at,
        moved.updated_at,
    )
    return added is True


async def add_moved_versions(
    connection: Connection, tenant_id: UUID, versions: Sequence[StoredVersion]
) -> int:
    """Keep past versions of things that have moved; return how many there are."""
    await connection.executemany(
        """
        INSERT INTO thing_versions (tenant_id, thing_id, version, name, tags, body, made_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        [
            (tenant_id, each.thing_id, each.version, each.name, each.tags, each.body, each.made_at)
            for each in versions
        ],
    )
    return len(versions)
