"""What owners should hold of a class, and where they differ."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from chassis.census import BUCKET, tally
from chassis.database import Connection
from contracts.censuses import Tally
from contracts.classes import DataClass
from contracts.ledger import LedgerEntry
from contracts.tenants import ClassState, Version
from services.purger.domain.reconciliation import DifferenceKind, Expected, Seen
from services.purger.domain.steps import StepPlan
from services.purger.store.steps import Order


async def expected_tally(connection: Connection, data_class: DataClass) -> Tally:
    """Count the tenants of which a class is live, as an owner's census counts what it holds.

    The ledger counts before the state, which may not have come yet.
    """
    return await tally(
        connection,
        data_class,
        """
        SELECT tenant_id, epoch, n
          FROM tenants
         WHERE state -> 'classes' ->> $1 = 'live'
           AND NOT EXISTS (SELECT FROM ledger
                            WHERE part IN ('wave-1', 'wave-2')
                              AND entry::jsonb ->> 'tenant_id' = tenants.tenant_id::text
                              AND entry::jsonb -> 'classes' ? $1)
        """,
        data_class,
    )


async def expected_in(
    connection: Connection,
    data_class: DataClass,
    *,
    step: str,
    buckets: Collection[int],
    besides: Collection[UUID],
) -> dict[UUID, Expected]:
    """Say what we know of the tenants in some buckets, and of those named ``besides``.

    Of an erasure the ledger decides; it is under way while its ``step`` is not answered.
    """
    rows = await connection.fetch(
        f"""
        WITH known AS (
            SELECT tenant_id, epoch, n, state -> 'classes' ->> $1 AS state
              FROM tenants
             WHERE {BUCKET} = ANY($2::integer[])),
        asked AS (
            SELECT tenant_id FROM known UNION SELECT unnest($3::uuid[])),
        erased AS (
            SELECT asked.tenant_id,
                   bool_or(steps.erased_at IS NULL AND steps.purge_id IS NOT NULL) AS under_way
              FROM asked
              JOIN ledger ON entry::jsonb ->> 'tenant_id' = asked.tenant_id::text
              LEFT JOIN steps ON steps.purge_id = ledger.purge_id AND steps.step = $4
             WHERE part IN ('wave-1', 'wave-2') AND entry::jsonb -> 'classes' ? $1
             GROUP BY asked.tenant_id)
        SELECT tenant_id, known.epoch, known.n, known.state, erased.under_way
          FROM asked LEFT JOIN known USING (tenant_id) LEFT JOIN erased USING (tenant_id)
        """,  # noqa: S608 - made of constants
        data_class,
        list(buckets),
        list(besides),
        step,
    )
    return {
        row["tenant_id"]: Expected(
            version=Version(epoch=row["epoch"], n=row["n"]) if row["state"] else None,
            state=ClassState(row["state"]) if row["state"] else None,
            erased=row["under_way"] is not None,
            under_way=bool(row["under_way"]),
        )
        for row in rows
    }


async def begin_comparison(
    connection: Connection, owner: str, census_id: UUID, open_classes: Collection[DataClass]
) -> None:
    """Note which census of an owner is compared, and of which classes a list is awaited."""
    await connection.execute(
        """
        INSERT INTO comparisons (owner, census_id, open_classes) VALUES ($1, $2, $3)
        ON CONFLICT (owner) DO UPDATE
           SET census_id = excluded.census_id, open_classes = excluded.open_classes
        """,
        owner,
        census_id,
        list(open_classes),
    )


async def close_class(
    connection: Connection, owner: str, census_id: UUID, data_class: DataClass
) -> None:
    """Note that a class of a census has been listed to its end."""
    await connection.execute(
        """
        UPDATE comparisons SET open_classes = array_remove(open_classes, $3)
         WHERE owner = $1 AND census_id = $2
        """,
        owner,
        census_id,
        data_class,
    )


async def finish_comparison(
    connection: Connection, owner: str, census_id: UUID, *, wall: datetime
) -> None:
    """Note that a census has been compared to its end, once no list is awaited any more."""
    await connection.execute(
        """
        UPDATE comparisons SET finished_at = $3
         WHERE owner = $1 AND census_id = $2 AND open_classes = '{}'
        """,
        owner,
        census_id,
        wall,
    )


async def note_differences(
    connection: Connection,
    owner: str,
    data_class: DataClass,
    *,
    buckets: Collection[int],
    found: Mapping[UUID, tuple[DifferenceKind, Version | None]],
    wall: datetime,
) -> list[Seen]:
    """Make what stands of these buckets what was found now; return it all.

    One that is another than before begins anew: it moves, so it may pass by itself.
    """
    tenant_ids = list(found)
    await connection.execute(
        f"""
        DELETE FROM differences
         WHERE owner = $1 AND data_class = $2 AND {BUCKET} = ANY($3::integer[])
           AND NOT tenant_id = ANY($4::uuid[])
        """,  # noqa: S608 - made of constants
        owner,
        data_class,
        list(buckets),
        tenant_ids,
    )
    rows = await connection.fetch(
        """
        INSERT INTO differences AS d (owner, data_class, tenant_id, kind, epoch, n,
                                      first_seen_at, last_seen_at)
        SELECT $1, $2, tenant_id, kind, epoch, n, $3, $3
          FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::bigint[])
            AS found (tenant_id, kind, epoch, n)
        ON CONFLICT (owner, data_class, tenant_id) DO UPDATE
           SET kind = excluded.kind, epoch = excluded.epoch, n = excluded.n,
               last_seen_at = excluded.last_seen_at,
               first_seen_at = CASE WHEN (d.kind, d.epoch, d.n) IS NOT DISTINCT FROM
                                         (excluded.kind, excluded.epoch, excluded.n)
                                    THEN d.first_seen_at ELSE excluded.first_seen_at END,
               mended_at = CASE WHEN (d.kind, d.epoch, d.n) IS NOT DISTINCT FROM
                                     (excluded.kind, excluded.epoch, excluded.n)
                                THEN d.mended_at END
        RETURNING kind, tenant_id, first_seen_at, mended_at
        """,
        owner,
        data_class,
        wall,
        tenant_ids,
        [kind for kind, _ in found.values()],
        [version.epoch if version else None for _, version in found.values()],
        [version.n if version else None for _, version in found.values()],
    )
    return [
        Seen(DifferenceKind(row["kind"]), row["tenant_id"], row["first_seen_at"], row["mended_at"])
        for row in rows
    ]


async def note_mending(
    connection: Connection,
    owner: str,
    data_class: DataClass,
    tenant_ids: Collection[UUID],
    *,
    wall: datetime,
) -> None:
    """Note that what should mend these differences was asked for."""
    await connection.execute(
        """
        UPDATE differences SET mended_at = $4
         WHERE owner = $1 AND data_class = $2 AND tenant_id = ANY($3::uuid[])
        """,
        owner,
        data_class,
        list(tenant_ids),
        wall,
    )


async def orders_from_ledger(
    connection: Connection, step: StepPlan, data_class: DataClass, tenant_ids: Collection[UUID]
) -> list[Order]:
    """Read from the ledger by which orders a step's owner erased a class of these tenants."""
    rows = await connection.fetch(
        """
        SELECT entry
          FROM ledger
         WHERE part IN ('wave-1', 'wave-2')
           AND entry::jsonb ->> 'tenant_id' = ANY($1::text[])
           AND entry::jsonb -> 'classes' ? $2
         ORDER BY number
        """,
        [str(tenant_id) for tenant_id in tenant_ids],
        data_class,
    )
    orders = []
    for row in rows:
        entry = LedgerEntry.decode(row["entry"])
        assert entry.tenant_id is not None
        orders.append(
            Order(
                entry.purge_id,
                entry.tenant_id,
                step,
                entry.number,
                entry.receipt_code,
                entry.merged_into,
            )
        )
    return orders


async def count_unexplained(connection: Connection, *, mended_before: datetime) -> dict[str, int]:
    """Count the differences, by kind, that stood when what should mend them was long asked for."""
    rows = await connection.fetch(
        """
        SELECT kind, count(*) AS count
          FROM differences
         WHERE mended_at < $1 AND last_seen_at > mended_at
         GROUP BY kind
        """,
        mended_before,
    )
    return {row["kind"]: row["count"] for row in rows}


async def last_comparisons(connection: Connection) -> dict[str, datetime]:
    """Say when each owner's census was last compared to its end."""
    rows = await connection.fetch(
        "SELECT owner, finished_at FROM comparisons WHERE finished_at IS NOT NULL"
    )
    return {row["owner"]: row["finished_at"] for row in rows}
