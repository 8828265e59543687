"""Legal holds: placed, standing, ended."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from contracts.classes import DataClass
from contracts.purges import Hold


@dataclass(frozen=True, slots=True)
class KeptHold:
    """A legal hold with why and by whom it was placed and released."""

    hold_id: UUID
    tenant_id: UUID
    classes: tuple[DataClass, ...]
    basis: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str | None
    released_at: datetime | None


async def place_hold(connection: Connection, hold: KeptHold) -> None:
    """Keep a hold; the caller has locked the tenant, and plans its purges anew."""
    await connection.execute(
        """
        INSERT INTO legal_holds (hold_id, tenant_id, classes, basis, reason, placed_by, placed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        hold.hold_id,
        hold.tenant_id,
        list(hold.classes),
        hold.basis,
        hold.reason,
        hold.placed_by,
        hold.placed_at,
    )


async def release_hold(
    connection: Connection, hold_id: UUID, *, released_by: str, reason: str, now: datetime
) -> bool:
    """Let a hold keep nothing any more; False for one that was released before."""
    return (
        await connection.fetchval(
            """
            UPDATE legal_holds SET released_by = $2, release_reason = $3, released_at = $4
             WHERE hold_id = $1 AND released_at IS NULL
            RETURNING true
            """,
            hold_id,
            released_by,
            reason,
            now,
        )
        is True
    )


async def end_holds(
    connection: Connection,
    tenant_id: UUID,
    classes: Collection[DataClass],
    *,
    why: str,
    now: datetime,
) -> None:
    """Let no hold of a tenant keep these classes; one that keeps nothing else is released."""
    await connection.execute(
        """
        UPDATE legal_holds
           SET classes = CASE WHEN classes <@ $2 THEN classes
                              ELSE ARRAY(SELECT each FROM unnest(classes) AS each
                                          WHERE each <> ALL($2)) END,
               released_by = CASE WHEN classes <@ $2 THEN $3 END,
               release_reason = CASE WHEN classes <@ $2 THEN $3 END,
               released_at = CASE WHEN classes <@ $2 THEN $4::timestamptz END
         WHERE tenant_id = $1 AND released_at IS NULL AND classes && $2::text[]
        """,
        tenant_id,
        list(classes),
        why,
        now,
    )


async def hold(connection: Connection, hold_id: UUID) -> KeptHold | None:
    """Find a hold."""
    rows = await _holds(connection, "hold_id = $1", hold_id)
    return next(iter(rows), None)


async def holds_of(connection: Connection, tenant_id: UUID) -> list[KeptHold]:
    """List a tenant's holds, released ones too, the first first."""
    return await _holds(connection, "tenant_id = $1", tenant_id)


async def _holds(connection: Connection, condition: str, wanted: UUID) -> list[KeptHold]:
    rows = await connection.fetch(
        f"""
        SELECT hold_id, tenant_id, classes, basis, reason, placed_by, placed_at, released_by,
               released_at
          FROM legal_holds WHERE {condition} ORDER BY placed_at, hold_id
        """,  # noqa: S608 - made of constants
        wanted,
    )
    return [
        KeptHold(**{**row, "classes": tuple(DataClass(name) for name in row["classes"])})
        for row in rows
    ]


async def standing_holds(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[Hold, ...]]:
    """List the holds of these tenants that were not released, the first first."""
    found: dict[UUID, tuple[Hold, ...]] = dict.fromkeys(tenant_ids, ())
    rows = await connection.fetch(
        """
        SELECT tenant_id, hold_id, classes, basis, placed_at
          FROM legal_holds
         WHERE tenant_id = ANY($1::uuid[]) AND released_at IS NULL
         ORDER BY placed_at, hold_id
        """,
        list(tenant_ids),
    )
    for row in rows:
        placed = Hold.model_validate({name: row[name] for name in Hold.model_fields})
        found[row["tenant_id"]] += (placed,)
    return found


async def wished_and_held(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[datetime | None, frozenset[DataClass]]]:
    """Say since when tenants' erasure is wished for, where it is, and which classes are held."""
    rows = await connection.fetch(
        """
        SELECT tenant_id,
               (SELECT min(asked_at) FROM wishes w
                 WHERE w.tenant_id = t.tenant_id AND withdrawn_at IS NULL) AS wished_at,
               ARRAY(SELECT unnest(classes) FROM legal_holds h
                      WHERE h.tenant_id = t.tenant_id AND released_at IS NULL) AS held
          FROM unnest($1::uuid[]) AS t(tenant_id)
        """,
        list(tenant_ids),
    )
    return {
        row["tenant_id"]: (row["wished_at"], frozenset(DataClass(name) for name in row["held"]))
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class HeldCounts:
    """How much is held, and how much of that should be gone by now."""

    holds: int
    purges: int
    overdue_purges: int


async def count_held(connection: Connection, *, now: datetime) -> HeldCounts:
    """Count the holds that stand, the purges that they keep, and those kept beyond ``erase_by``."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM legal_holds WHERE released_at IS NULL) AS holds,
               count(*) AS purges,
               count(*) FILTER (WHERE erase_by <= $1) AS overdue_purges
          FROM purges
         WHERE phase = 'planned' AND held
        """,
        now,
    )
    assert row is not None
    return HeldCounts(**row)


async def drop_old_holds(connection: Connection, *, before: datetime) -> None:
    """Forget holds released before a time of tenants of whom nothing is known any more."""
    await connection.execute(
        """
        DELETE FROM legal_holds h
         WHERE h.released_at < $1
           AND NOT EXISTS (SELECT 1 FROM purge_states s WHERE s.tenant_id = h.tenant_id)
           AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = h.tenant_id)
        """,
        before,
    )
