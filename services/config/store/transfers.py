"""Exports and imports: tickets, pages of all that a tenant has, and many things at once.

The functions need `act_for`, as those of things do. Who calls `create_all` or `replace_all` holds the
tenant's lock alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Connection, Pool
from services.config.domain.imports import Step
from services.config.domain.kinds import Kind
from services.config.domain.things import Thing, references_of
from services.config.store.things import GAP


async def add_ticket(
    connection: Connection, tenant_id: UUID, ticket: bytes, *, now: datetime, ends_at: datetime
) -> None:
    """Keep a ticket, as its keyed hash; those of the tenant that have ended are forgotten."""
    await connection.execute(
        "DELETE FROM export_tickets WHERE tenant_id = $1 AND ends_at <= $2", tenant_id, now
    )
    await connection.execute(
        "INSERT INTO export_tickets (tenant_id, ticket, ends_at) VALUES ($1, $2, $3)",
        tenant_id,
        ticket,
        ends_at,
    )


async def use_ticket(
    connection: Connection, tenant_id: UUID, ticket: bytes, *, now: datetime
) -> bool:
    """Take a ticket away; False where there is none that holds."""
    used = await connection.fetchval(
        """
        DELETE FROM export_tickets WHERE tenant_id = $1 AND ticket = $2 RETURNING ends_at > $3
        """,
        tenant_id,
        ticket,
        now,
    )
    return used is True


async def forget_tickets(pool: Pool, *, ended_by: datetime, limit: int) -> int:
    """Forget up to ``limit`` tickets of all tenants that have ended; return how many."""
    gone = await pool.execute(
        """
        DELETE FROM export_tickets
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM export_tickets WHERE ends_at <= $1 LIMIT $2))
        """,
        ended_by,
        limit,
    )
    return int(gone.removeprefix("DELETE "))


async def page_of_things(
    connection: Connection, tenant_id: UUID, kind: Kind, *, after: UUID | None, limit: int
) -> list[Thing]:
    """Read up to ``limit`` whole things of a kind behind ``after``, in the order of their ids."""
    rows = await connection.fetch(
        f"""
        SELECT thing_id, kind, name, tags, body, credentials IS NOT NULL AS has_credentials,
               version, created_at, updated_at
          FROM things
         WHERE tenant_id = $1 AND kind = $2 {"AND thing_id > $4" if after else ""}
         ORDER BY thing_id
         LIMIT $3
        """,  # noqa: S608 - made of constants
        tenant_id,
        kind.name,
        limit,
        *([after] if after else []),
    )
    return [Thing(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class PastThing:
    """A past version, with the thing it is of."""

    thing_id: UUID
    kind: str
    version: int
    name: str
    tags: list[str]
    body: dict[str, Any]
    made_at: datetime


async def page_of_history(
    connection: Connection, tenant_id: UUID, *, after: tuple[UUID, int] | None, limit: int
) -> list[PastThing]:
    """Read up to ``limit`` past versions behind ``after``, thing by thing."""
    rows = await connection.fetch(
        f"""
        SELECT v.thing_id, t.kind, v.version, v.name, v.tags, v.body, v.made_at
          FROM thing_versions v
          JOIN things t USING (tenant_id, thing_id)
         WHERE v.tenant_id = $1 {"AND (v.thing_id, v.version) > ($3, $4)" if after else ""}
         ORDER BY v.thing_id, v.version
         LIMIT $2
        """,  # noqa: S608 - made of constants
        tenant_id,
        limit,
        *(after or ()),
    )
    return [PastThing(**row) for row in rows]


async def present(
    connection: Connection,
    tenant_id: UUID,
    thing_ids: Collection[UUID],
    titles: Collection[tuple[str, str]],
) -> list[Thing]:
    """Find the things that have one of these ids, or one of these kinds and names."""
    rows = await connection.fetch(
        """
        SELECT thing_id, kind, name, tags, body, credentials IS NOT NULL AS has_credentials,
               version, created_at, updated_at
          FROM things
         WHERE tenant_id = $1
           AND (thing_id = ANY($2::uuid[])
                OR (kind, name) IN (SELECT * FROM unnest($3::text[], $4::text[])))
         ORDER BY thing_id
        """,
        tenant_id,
        list(thing_ids),
        [kind for kind, _ in titles],
        [name for _, name in titles],
    )
    return [Thing(**row) for row in rows]


async def create_all(
    connection: Connection, tenant_id: UUID, kind: Kind, steps: Sequence[Step], *, now: datetime
) -> None:
    """Store new things of one kind behind all others; no name must be taken."""
    last: int = await connection.fetchval(
        "SELECT coalesce(max(position), 0) FROM things WHERE tenant_id = $1 AND kind = $2",
        tenant_id,
        kind.name,
    )
    await connection.executemany(
        """
        INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, position, version,
                            created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)
        """,
        [
            (
                tenant_id,
                step.target_id,
                kind.name,
                step.imported.definition.name,
                step.imported.definition.distinct_tags,
                step.body,
                last + GAP * number,
                now,
            )
            for number, step in enumerate(steps, 1)
        ],
    )
    await _refer_all(connection, tenant_id, kind, steps)


async def replace_all(
    connection: Connection,
    tenant_id: UUID,
    kind: Kind,
    steps: Sequence[Step],
    *,
    now: datetime,
    versions_kept: int,
) -> None:
    """Make things of one kind their next version; credentials stay, and no name must be taken."""
    ids = [step.target_id for step in steps]
    await connection.execute(
        """
        INSERT INTO thing_versions (tenant_id, thing_id, version, name, tags, body, made_at)
        SELECT tenant_id, thing_id, version, name, tags, body, updated_at
          FROM things
         WHERE tenant_id = $1 AND thing_id = ANY($2::uuid[])
        """,
        tenant_id,
        ids,
    )
    await connection.execute(
        """
        DELETE FROM thing_versions v
         USING things t
         WHERE v.tenant_id = $1 AND t.tenant_id = $1 AND t.thing_id = v.thing_id
           AND t.thing_id = ANY($2::uuid[]) AND v.version <= t.version - $3
        """,
        tenant_id,
        ids,
        versions_kept,
    )
    await connection.executemany(
        """
        UPDATE things SET name = $3, tags = $4, body = $5, updated_at = $6, version = version + 1
         WHERE tenant_id = $1 AND thing_id = $2
        """,
        [
            (
                tenant_id,
                step.target_id,
                step.imported.definition.name,
                step.imported.definition.distinct_tags,
                step.body,
                now,
            )
            for step in steps
        ],
    )
    await connection.execute(
        "DELETE FROM thing_references WHERE tenant_id = $1 AND thing_id = ANY($2::uuid[])",
        tenant_id,
        ids,
    )
    await _refer_all(connection, tenant_id, kind, steps)


async def _refer_all(
    connection: Connection, tenant_id: UUID, kind: Kind, steps: Sequence[Step]
) -> None:
    await connection.executemany(
        """
        INSERT INTO thing_references (tenant_id, thing_id, field, target_id)
        VALUES ($1, $2, $3, $4)
        """,
        [
            (tenant_id, step.target_id, field, target)
            for step in steps
            for field, target in references_of(kind, step.body).items()
        ],
    )
