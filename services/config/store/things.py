"""Things: what customers create, their order, and what refers to what.

The functions need `act_for`: row-level security shows no tenant's rows otherwise. They
name the tenant all the same, so that neither protection stands alone.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

import asyncpg

from chassis.database import Connection
from services.config.domain.definitions import Definition
from services.config.domain.kinds import Kind
from services.config.domain.things import Sort, Thing, references_of

GAP: Final = 2**32
"""Between the positions of two neighbours, so that many can be put between them."""

_SHOWN: Final = """
    thing_id, kind, name, tags, body, credentials IS NOT NULL AS has_credentials, version,
    created_at, updated_at
"""
_NAMES_AT_ONCE: Final = 20


class NameTaken(Exception):  # noqa: N818 - reads as the fact it states
    """Another thing of the tenant and kind has this name."""


async def add(
    connection: Connection,
    tenant_id: UUID,
    kind: Kind,
    thing_id: UUID,
    wanted: Definition,
    *,
    name: str | None = None,
    credentials: bytes | None,
    now: datetime,
) -> Thing | None:
    """Store a new thing behind all others; None, and nothing stored, where its name is taken.

    ``credentials`` are sealed; ``name`` goes before the one that is wanted. What
    it refers to must be there, and locked by `meant`.
    """
    body = wanted.body()
    row = await connection.fetchrow(
        f"""
        INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, credentials, position,
                            version, created_at, updated_at)
        SELECT $1, $2, $3, $4, $5, $6, $7, $9 + coalesce(
                   (SELECT max(position) FROM things WHERE tenant_id = $1 AND kind = $3), 0),
               1, $8, $8
        ON CONFLICT (tenant_id, kind, name) DO NOTHING
        RETURNING {_SHOWN}
        """,  # noqa: S608 - made of constants
        tenant_id,
        thing_id,
        kind.name,
        wanted.name if name is None else name,
        wanted.distinct_tags,
        body,
        credentials,
        now,
        GAP,
    )
    if row is None:
        return None
    await refer(connection, tenant_id, thing_id, references_of(kind, body))
    return Thing(**row)


async def free_name(
    connection: Connection, tenant_id: UUID, kind: Kind, names: Iterator[str]
) -> str:
    """Take the first of these names that no thing of the tenant and kind has."""
    while True:
        found = await connection.fetchval(
            """
            SELECT n.name
              FROM unnest($3::text[]) WITH ORDINALITY AS n(name, place)
             WHERE NOT EXISTS (SELECT 1 FROM things t
                                WHERE t.tenant_id = $1 AND t.kind = $2 AND t.name = n.name)
             ORDER BY place
             LIMIT 1
            """,
            tenant_id,
            kind.name,
            list(islice(names, _NAMES_AT_ONCE)),
        )
        if found is not None:
            return str(found)


async def find(
    connection: Connection, tenant_id: UUID, kind: Kind, thing_id: UUID, *, lock: bool = False
) -> Thing | None:
    """Find one thing of a tenant, and ``lock`` it against other writers until the end."""
    row = await connection.fetchrow(
        f"""
        SELECT {_SHOWN}
          FROM things
         WHERE tenant_id = $1 AND kind = $2 AND thing_id = $3
         {"FOR UPDATE" if lock else ""}
        """,  # noqa: S608 - made of constants
        tenant_id,
        kind.name,
        thing_id,
    )
    return Thing(**row) if row else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which things of a kind a list shows, and how it is sorted."""

    sort: Sort = Sort.ORDER
    having: str | None = None
    """A part of the name or of a tag, in whatever case."""
    tag: str | None = None


async def listed(
    connection: Connection,
    tenant_id: UUID,
    kind: Kind,
    wanted: Wanted,
    *,
    after: tuple[str | int, UUID] | None,
    limit: int,
) -> list[tuple[str | int, Thing]]:
    """List up to ``limit`` things behind ``after``, each with what it is sorted by.

    What is long of them is not read.
    """
    key = "name" if wanted.sort is Sort.NAME else "position"
    given: list[Any] = [tenant_id, kind.name, list(kind.long), limit]
    conditions = ["tenant_id = $1", "kind = $2"]

    def also(condition: str, *values: Any) -> None:
        """Add a condition only where it is wanted, so that the plan can go by an index."""
        places = (f"${len(given) + n}" for n in range(1, len(values) + 1))
        conditions.append(condition.format(*places))
        given.extend(values)

    if after is not None:
        also(f"({key}, thing_id) > ({{0}}, {{1}})", *after)
    if wanted.tag is not None:
        also("{0} = ANY(tags)", wanted.tag)
    if wanted.having is not None:
        also(
            "(strpos(lower(name), lower({0}::text)) > 0 OR EXISTS ("
            " SELECT 1 FROM unnest(tags) AS tag WHERE strpos(lower(tag), lower({0}::text)) > 0))",
            wanted.having,
        )
    rows = await connection.fetch(
        f"""
        SELECT {key} AS sorted_by, thing_id, kind, name, tags, body - $3::text[] AS body,
               credentials IS NOT NULL AS has_credentials, version, created_at, updated_at
          FROM things
         WHERE {" AND ".join(conditions)}
         ORDER BY {key}, thing_id
         LIMIT $4
        """,  # noqa: S608 - made of constants
        *given,
    )
    found = []
    for row in rows:
        told = dict(row)
        found.append((told.pop("sorted_by"), Thing(**told)))
    return found


async def replace(
    connection: Connection,
    tenant_id: UUID,
    kind: Kind,
    present: Thing,
    wanted: Definition,
    *,
    credentials: bytes | None,
    now: datetime,
    versions_kept: int,
) -> Thing:
    """Make a thing this, with the next version; what it was goes to its history.

    ``present`` was found and locked in this transaction, and ``wanted`` says
    whether the credentials stay. Raises ``NameTaken``, which undoes the transaction.
    """
    body = wanted.body()
    await connection.execute(
        """
        INSERT INTO thing_versions (tenant_id, thing_id, version, name, tags, body, made_at)
        SELECT tenant_id, thing_id, version, name, tags, body, updated_at
          FROM things
         WHERE tenant_id = $1 AND thing_id = $2
        """,
        tenant_id,
        present.thing_id,
    )
    await connection.execute(
        "DELETE FROM thing_versions WHERE tenant_id = $1 AND thing_id = $2 AND version <= $3",
        tenant_id,
        present.thing_id,
        present.version - versions_kept,
    )
    try:
        row = await connection.fetchrow(
            f"""
            UPDATE things
               SET name = $3, tags = $4, body = $5,
                   credentials = CASE WHEN $6 THEN credentials ELSE $7::bytea END,
                   updated_at = $8, version = version + 1
             WHERE tenant_id = $1 AND thing_id = $2
            RETURNING {_SHOWN}
            """,  # noqa: S608 - made of constants
            tenant_id,
            present.thing_id,
            wanted.name,
            wanted.distinct_tags,
            body,
            wanted.keeps_secret,
            credentials,
            now,
        )
    except asyncpg.UniqueViolationError:
        # Its detail quotes the row.
        raise NameTaken from None
    assert row is not None
    references = references_of(kind, body)
    if references != references_of(kind, present.body):
        await connection.execute(
            "DELETE FROM thing_references WHERE tenant_id = $1 AND thing_id = $2",
            tenant_id,
            present.thing_id,
        )
        await refer(connection, tenant_id, present.thing_id, references)
    return Thing(**row)


async def remove(connection: Connection, tenant_id: UUID, thing_id: UUID) -> None:
    """Remove a thing with its history; nothing must refer to it, and it must be locked."""
    await connection.execute(
        "DELETE FROM things WHERE tenant_id = $1 AND thing_id = $2", tenant_id, thing_id
    )


async def credentials_of(connection: Connection, tenant_id: UUID, thing_id: UUID) -> bytes | None:
    """Return what is sealed of a thing, as it lies there."""
    sealed: bytes | None = await connection.fetchval(
        "SELECT credentials FROM things WHERE tenant_id = $1 AND thing_id = $2", tenant_id, thing_id
    )
    return sealed


async def count_in(connection: Connection, tenant_id: UUID, change: int, *, now: datetime) -> int:
    """Add to how many things a tenant has; return how many there are now.

    It comes last in a transaction: from here on the tenant's other writers wait.
    """
    number: int = await connection.fetchval(
        """
        INSERT INTO tenant_totals AS t (tenant_id, things, changed_at) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id) DO UPDATE
           SET things = t.things + excluded.things, changed_at = excluded.changed_at
        RETURNING things
        """,
        tenant_id,
        change,
        now,
    )
    return number


# -- what refers to what -------------------------------------------------------------------------


async def meant(
    connection: Connection, tenant_id: UUID, thing_ids: Collection[UUID]
) -> dict[UUID, Thing]:
    """Find the things that others are to refer to; none is removed until the transaction ends."""
    rows = await connection.fetch(
        f"""
        SELECT {_SHOWN}
          FROM things
         WHERE tenant_id = $1 AND thing_id = ANY($2::uuid[])
         ORDER BY thing_id
           FOR KEY SHARE
        """,  # noqa: S608 - made of constants
        tenant_id,
        list(thing_ids),
    )
    return {row["thing_id"]: Thing(**row) for row in rows}


async def found(
    connection: Connection, tenant_id: UUID, thing_ids: Collection[UUID]
) -> dict[UUID, Thing]:
    """Find these things, of whatever kind."""
    rows = await connection.fetch(
        f"SELECT {_SHOWN} FROM things WHERE tenant_id = $1 AND thing_id = ANY($2::uuid[])",  # noqa: S608 - made of constants
        tenant_id,
        list(thing_ids),
    )
    return {row["thing_id"]: Thing(**row) for row in rows}


@dataclass(frozen=True, slots=True)
class User:
    """A thing that refers to another."""

    thing_id: UUID
    kind: str
    name: str


async def users_of(
    connection: Connection, tenant_id: UUID, thing_id: UUID, *, limit: int
) -> tuple[list[User], int]:
    """List up to ``limit`` things that refer to this one, by name, and say how many there are."""
    rows = await connection.fetch(
        """
        SELECT t.thing_id, t.kind, t.name, count(*) OVER () AS number
          FROM things t
         WHERE t.tenant_id = $1
           AND t.thing_id IN (SELECT r.thing_id FROM thing_references r
                               WHERE r.tenant_id = $1 AND r.target_id = $2)
         ORDER BY t.name, t.thing_id
         LIMIT $3
        """,
        tenant_id,
        thing_id,
        limit,
    )
    users = [User(row["thing_id"], row["kind"], row["name"]) for row in rows]
    return users, rows[0]["number"] if rows else 0


async def refer(
    connection: Connection, tenant_id: UUID, thing_id: UUID, references: Mapping[str, UUID]
) -> None:
    """Note which things one refers to, by the field that does; each must be there."""
    if references:
        await connection.execute(
            """
            INSERT INTO thing_references (tenant_id, thing_id, field, target_id)
            SELECT $1, $2, field, target_id FROM unnest($3::text[], $4::uuid[]) AS r(field, target_id)
            """,
            tenant_id,
            thing_id,
            list(references),
            list(references.values()),
        )
