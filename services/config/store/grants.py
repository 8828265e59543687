"""Grants of staff, and why they were given. What is said in words needs `act_for`, as things do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from chassis.database import Connection, Pool
from services.config.domain.grants import Category, Grant, Reason

_COLUMNS: Final = """
    grant_id, tenant_id, subject, role, category, reason_hash, break_glass, renews, granted_at,
    expires_at, revoked_at, revoked_by, reviewed_at, reviewed_by, justified
"""


async def add(connection: Connection, grant: Grant, reason: Reason, *, salt: bytes) -> None:
    """Keep a new grant, and apart from it why it was given."""
    told = asdict(grant)
    await connection.execute(
        f"""
        INSERT INTO access_grants ({_COLUMNS})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        """,  # noqa: S608 - made of constants
        *told.values(),
    )
    await connection.execute(
        """
        INSERT INTO access_reasons (tenant_id, grant_id, salt, ticket, told, given_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        grant.tenant_id,
        grant.grant_id,
        salt,
        reason.ticket,
        reason.told,
        grant.granted_at,
    )


async def best_of(connection: Connection, tenant_id: UUID, subject: str) -> Grant | None:
    """Find the grant of somebody for a tenant that is good for longest, or was.

    It is not revoked before the transaction ends; one that is revoked comes
    last, so that it hides no other.
    """
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS}
          FROM access_grants
         WHERE tenant_id = $1 AND subject = $2
         ORDER BY revoked_at IS NULL DESC, expires_at DESC, grant_id DESC
         LIMIT 1
           FOR SHARE
        """,  # noqa: S608 - made of constants
        tenant_id,
        subject,
    )
    return _grant(row) if row else None


async def find(connection: Connection, grant_id: UUID, *, lock: bool = False) -> Grant | None:
    """Find a grant, and ``lock`` it against whoever changes or uses it until the end."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM access_grants WHERE grant_id = $1 {"FOR UPDATE" if lock else ""}
        """,  # noqa: S608 - made of constants
        grant_id,
    )
    return _grant(row) if row else None


async def latest(connection: Connection, *, subject: str | None, limit: int) -> list[Grant]:
    """List the latest grants, of one person or of all; the last one first."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}
          FROM access_grants
         WHERE $1::text IS NULL OR subject = $1
         ORDER BY granted_at DESC, grant_id DESC
         LIMIT $2
        """,  # noqa: S608 - made of constants
        subject,
        limit,
    )
    return [_grant(row) for row in rows]


async def to_review(connection: Connection, *, limit: int) -> list[Grant]:
    """List the broken glasses that nobody has reviewed, the oldest first."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}
          FROM access_grants
         WHERE break_glass AND reviewed_at IS NULL
         ORDER BY granted_at, grant_id
         LIMIT $1
        """,  # noqa: S608 - made of constants
        limit,
    )
    return [_grant(row) for row in rows]


async def revoke(connection: Connection, grant_id: UUID, *, by: str, now: datetime) -> None:
    """Let a grant open nothing any more; it is locked."""
    await connection.execute(
        "UPDATE access_grants SET revoked_at = $2, revoked_by = $3 WHERE grant_id = $1",
        grant_id,
        now,
        by,
    )


async def note_review(
    connection: Connection, grant_id: UUID, *, by: str, justified: bool, now: datetime
) -> None:
    """Note what a privacy officer thinks of a broken glass; it is locked."""
    await connection.execute(
        """
        UPDATE access_grants SET reviewed_at = $2, reviewed_by = $3, justified = $4
         WHERE grant_id = $1
        """,
        grant_id,
        now,
        by,
        justified,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """Why a grant was given, in words."""

    salt: bytes = field(repr=False)
    ticket: str | None
    told: str = field(repr=False)


async def reasons(
    connection: Connection, tenant_id: UUID, grant_ids: Sequence[UUID]
) -> Mapping[UUID, Told]:
    """Say why these grants of a tenant were given; those of which it is erased are left out."""
    rows = await connection.fetch(
        """
        SELECT grant_id, salt, ticket, told
          FROM access_reasons
         WHERE tenant_id = $1 AND grant_id = ANY($2::uuid[])
        """,
        tenant_id,
        list(grant_ids),
    )
    return {row["grant_id"]: Told(row["salt"], row["ticket"], row["told"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Unreviewed:
    """How many broken glasses wait for a review, and since when the first one does."""

    number: int
    since: datetime | None


async def unreviewed(database: "Pool | Connection") -> Unreviewed:
    """Count the broken glasses that nobody has reviewed."""
    row = await database.fetchrow(
        """
        SELECT count(*) AS number, min(granted_at) AS since
          FROM access_grants
         WHERE break_glass AND reviewed_at IS NULL
        """
    )
    assert row is not None
    return Unreviewed(row["number"], row["since"])


async def forget(pool: Pool, *, given_before: datetime, limit: int) -> int:
    """Forget up to ``limit`` grants of all tenants from before this time, and why; return how many."""
    gone = 0
    for table, column in (("access_reasons", "given_at"), ("access_grants", "granted_at")):
        answer = await pool.execute(
            f"""
            DELETE FROM {table}
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {column} < $1 LIMIT $2))
            """,  # noqa: S608 - made of constants
            given_before,
            limit,
        )
        gone += int(answer.removeprefix("DELETE "))
    return gone


def _grant(row: Any) -> Grant:
    told = dict(row)
    return Grant(**told | {"category": Category(told["category"])})
