"""How much of a tenant is kept here, for the tenant itself. Needs `act_for`, as things do."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from chassis.database import Connection


@dataclass(frozen=True, slots=True)
class Kept:
    """Numbers of what is kept: things by kind, their earlier versions, error reports, downloads."""

    things: Mapping[str, int]
    versions: int
    reports: int
    downloads: int


async def kept_of(connection: Connection, tenant_id: UUID) -> Kept:
    """Count what is kept of a tenant now."""
    rows = await connection.fetch(
        "SELECT kind, count(*) AS n FROM things WHERE tenant_id = $1 GROUP BY kind", tenant_id
    )
    versions, reports, downloads = [
        int(await connection.fetchval(statement, tenant_id))
        for statement in (
            "SELECT count(*) FROM thing_versions WHERE tenant_id = $1",
            "SELECT coalesce(sum(reports), 0) FROM error_counts WHERE tenant_id = $1",
            "SELECT count(*) FROM export_uses WHERE tenant_id = $1",
        )
    ]
    return Kept({row["kind"]: row["n"] for row in rows}, versions, reports, downloads)
