"""What was said of a tenant's purges, and at which version."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from contracts.purges import Plan
from contracts.tenants import Version
from services.purger.store.plans import PLAN, plan_of


async def next_versions(
    connection: Connection, tenant_ids: Collection[UUID], *, epoch: int
) -> dict[UUID, Version]:
    """Count up the versions of what is said of these tenants.

    Locks them until the transaction ends; what is read after this call is what
    belongs to the version, whoever else waits.
    """
    rows = await connection.fetch(
        """
        INSERT INTO purge_states AS s (tenant_id, epoch, n)
        SELECT tenant_id, $2, 1 FROM unnest($1::uuid[]) AS tenant_id ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE
           SET epoch = greatest(s.epoch, excluded.epoch), n = s.n + 1, forgotten_at = NULL
        RETURNING tenant_id, epoch, n
        """,
        list(tenant_ids),
        epoch,
    )
    return {row["tenant_id"]: Version(epoch=row["epoch"], n=row["n"]) for row in rows}


async def plans_of(
    connection: Connection, tenant_ids: Collection[UUID]
) -> dict[UUID, tuple[bool, tuple[Plan, ...]]]:
    """Say of each tenant whether it is known, and list all its purges, the earliest first."""
    found: dict[UUID, list[Plan]] = {tenant_id: [] for tenant_id in tenant_ids}
    rows = await connection.fetch(
        f"""
        SELECT {PLAN} FROM purges WHERE tenant_id = ANY($1::uuid[])
         ORDER BY clock_started_at, scope, purge_id
        """,  # noqa: S608 - made of constants
        list(tenant_ids),
    )
    for row in rows:
        found[row["tenant_id"]].append(plan_of(row))
    known = {
        row["tenant_id"]
        for row in await connection.fetch(
            "SELECT tenant_id FROM tenants WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
        )
    }
    return {tenant_id: (tenant_id in known, tuple(plans)) for tenant_id, plans in found.items()}


async def note_forgotten(
    connection: Connection, tenant_ids: Collection[UUID], *, now: datetime
) -> None:
    """Remember that nothing is said of these tenants any more."""
    await connection.execute(
        "UPDATE purge_states SET forgotten_at = $2 WHERE tenant_id = ANY($1::uuid[])",
        list(tenant_ids),
        now,
    )


async def spoken_of(connection: Connection, tenant_ids: Collection[UUID]) -> set[UUID]:
    """List those of these tenants of whose purges, wishes or holds something stands said."""
    rows = await connection.fetch(
        """
        SELECT tenant_id FROM purge_states
         WHERE tenant_id = ANY($1::uuid[]) AND forgotten_at IS NULL
        """,
        list(tenant_ids),
    )
    return {row["tenant_id"] for row in rows}


async def tenants_spoken_of(
    connection: Connection, *, after: UUID | None, limit: int
) -> list[UUID]:
    """List, in the order of their ids, the tenants of whose purges something stands said."""
    rows = await connection.fetch(
        """
        SELECT tenant_id FROM purge_states
         WHERE forgotten_at IS NULL AND ($1::uuid IS NULL OR tenant_id > $1)
         ORDER BY tenant_id
         LIMIT $2
        """,
        after,
        limit,
    )
    return [row["tenant_id"] for row in rows]
