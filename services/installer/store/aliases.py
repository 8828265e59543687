"""Aliases: the names by which tenants are found besides Connect's, and which of them are in use."""

from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from services.installer.domain.aliases import Alias, AliasKind


async def find_tenant(connection: Connection, alias: Alias) -> UUID | None:
    """Find the tenant of this name that is not purging; no lock is taken."""
    tenant_id: UUID | None = await connection.fetchval(
        """
        SELECT tenant_id
          FROM aliases
         WHERE kind = $1 AND addon_key = $2 AND name = $3 AND live
        """,
        alias.kind,
        alias.addon_key,
        alias.name,
    )
    return tenant_id


async def add_alias(
    connection: Connection, tenant_id: UUID, alias: Alias, *, now: datetime
) -> bool:
    """Give a tenant a name; False where it is its own already, or another living tenant's.

    An installation is in use from then on. Call it under the tenant's lock.
    """
    added = await connection.fetchval(
        """
        INSERT INTO aliases (tenant_id, kind, addon_key, name, live, present, heard_at)
        VALUES ($1, $2, $3, $4, true, $5, $6)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        tenant_id,
        alias.kind,
        alias.addon_key,
        alias.name,
        alias.kind is AliasKind.FORGE_INSTALLATION,
        now,
    )
    return added is True


async def move_alias(connection: Connection, alias: Alias, *, to: UUID) -> None:
    """Let a name find another tenant from now on; call it under the locks of both."""
    await connection.execute(
        """
        UPDATE aliases
           SET tenant_id = $4
         WHERE kind = $1 AND addon_key = $2 AND name = $3 AND live
        """,
        alias.kind,
        alias.addon_key,
        alias.name,
        to,
    )


async def move_all_aliases(connection: Connection, tenant_id: UUID, *, to: UUID) -> None:
    """Let all names of a tenant find another one; call it under the locks of both."""
    await connection.execute(
        "UPDATE aliases SET tenant_id = $2 WHERE tenant_id = $1 AND live", tenant_id, to
    )


async def is_in_use(connection: Connection, tenant_id: UUID, alias: Alias) -> bool:
    """Say whether an app is installed at this tenant by this name."""
    present: bool | None = await connection.fetchval(
        """
        SELECT present
          FROM aliases
         WHERE tenant_id = $1 AND kind = $2 AND name = $3
        """,
        tenant_id,
        alias.kind,
        alias.name,
    )
    return present is True


async def put_out_of_use(connection: Connection, tenant_id: UUID, alias: Alias) -> bool:
    """Note that an app is not installed by this name any more; False where that was known."""
    was_present = await connection.fetchval(
        """
        UPDATE aliases
           SET present = false
         WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND present
        RETURNING true
        """,
        tenant_id,
        alias.kind,
        alias.name,
    )
    return was_present is True


async def is_on_forge(connection: Connection, tenant_id: UUID) -> bool:
    """Say whether an installation on Forge is in use; call it under the tenant's lock."""
    present: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM aliases WHERE tenant_id = $1 AND live AND present)", tenant_id
    )
    return present


async def is_installed_by_any_name(connection: Connection, tenant_id: UUID) -> bool:
    """Say whether any name of a tenant is in use, Connect's or Forge's; call it under its lock."""
    present: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM installations WHERE tenant_id = $1 AND live AND present)
            OR EXISTS (SELECT FROM aliases WHERE tenant_id = $1 AND live AND present)
        """,
        tenant_id,
    )
    return present
