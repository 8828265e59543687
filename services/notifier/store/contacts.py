"""Who stands beside which licence by the Marketplace's report, and who does no longer."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection, Pool
from services.notifier.domain.people import Role


@dataclass(frozen=True, slots=True)
class Holder:
    """A tenant that a licence of the report may be of."""

    tenant_id: UUID
    addon_key: str
    numbers: frozenset[str]


async def holders_of(pool: Pool, numbers: Collection[str]) -> list[Holder]:
    """List the tenants that have one of these licence numbers."""
    rows = await pool.fetch(
        """
        SELECT tenant_id, addon_key, numbers
          FROM licences
          JOIN tenants USING (tenant_id)
         WHERE numbers && $1::text[]
         ORDER BY tenant_id
        """,
        list(numbers),
    )
    return [Holder(row["tenant_id"], row["addon_key"], frozenset(row["numbers"])) for row in rows]


async def note_licences_changed(connection: Connection, tenant_id: UUID, *, now: datetime) -> None:
    """Note that only a report of everything can say who stands beside the tenant's licences."""
    await connection.execute(
        "UPDATE tenants SET licences_changed_at = $2 WHERE tenant_id = $1", tenant_id, now
    )


async def somebody_waits(connection: Connection) -> bool:
    """Whether licences of a tenant were heard of since the last report of everything began."""
    found = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT 1 FROM tenants
             WHERE contacts = 'live'
               AND licences_changed_at > (SELECT max(began_at) FROM licence_reports
                                            WHERE ended_at IS NOT NULL AND updated_since IS NULL))
        """
    )
    return found is True


async def note_reported(
    connection: Connection,
    tenant_id: UUID,
    report_id: UUID,
    *,
    product: str | None,
    edition: str | None,
    region: str | None,
) -> None:
    """Note that a reading named a licence of the tenant, and what it says of the tenant."""
    await connection.execute(
        """
        UPDATE tenants
           SET reported_in = $2, product = coalesce($3, product),
               edition = coalesce($4, edition), region = coalesce($5, region)
         WHERE tenant_id = $1
        """,
        tenant_id,
        report_id,
        product,
        edition,
        region,
    )


async def name_contact(
    connection: Connection,
    tenant_id: UUID,
    contact_id: UUID,
    report_id: UUID,
    stands: Iterable[tuple[str, Role]],
) -> None:
    """Note beside which licences a reading named a contact, as what; their roles follow."""
    numbers, roles = zip(*sorted(stands), strict=True)
    await connection.execute(
        """
        INSERT INTO licence_contacts (tenant_id, number, role, contact_id, report_id)
        SELECT $1, number, role, $2, $3
          FROM unnest($4::text[], $5::text[]) AS stands (number, role)
        ON CONFLICT (tenant_id, number, role, contact_id) DO UPDATE
           SET report_id = excluded.report_id
        """,
        tenant_id,
        contact_id,
        report_id,
        list(numbers),
        list(roles),
    )
    await _renew_roles(connection, tenant_id, [contact_id])


async def believe_named_still(
    connection: Connection, tenant_id: UUID, report_id: UUID, number: str, role: Role
) -> None:
    """Count those as named again who were, where a reading could not be understood."""
    await connection.execute(
        """
        UPDATE licence_contacts SET report_id = $2
         WHERE tenant_id = $1 AND number = $3 AND role = $4
           AND report_id = (SELECT max(report_id::text)::uuid FROM licence_contacts
                             WHERE tenant_id = $1 AND number = $3 AND role = $4)
        """,
        tenant_id,
        report_id,
        number,
        role,
    )


async def last_named(
    connection: Connection, tenant_id: UUID, number: str, role: Role
) -> set[bytes]:
    """Say by the index of the address who was named last beside a licence in this role.

    Ids of readings are in their order.
    """
    rows = await connection.fetch(
        """
        SELECT address_index
          FROM licence_contacts
          JOIN audience USING (tenant_id, contact_id)
         WHERE tenant_id = $1 AND number = $2 AND role = $3
           AND report_id = (SELECT max(report_id::text)::uuid FROM licence_contacts
                             WHERE tenant_id = $1 AND number = $2 AND role = $3)
        """,
        tenant_id,
        number,
        role,
    )
    return {row["address_index"] for row in rows}


async def tenants_with_unnamed(
    connection: Connection, report_id: UUID, *, after: UUID | None, limit: int
) -> list[UUID]:
    """List tenants whose licences a reading named, without everybody who stood beside them."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT tenant_id
          FROM licence_contacts
          JOIN tenants USING (tenant_id)
         WHERE reported_in = $1 AND report_id <> $1 AND ($2::uuid IS NULL OR tenant_id > $2)
         ORDER BY tenant_id
         LIMIT $3
        """,
        report_id,
        after,
        limit,
    )
    return [row["tenant_id"] for row in rows]


async def drop_unnamed(connection: Connection, tenant_id: UUID, report_id: UUID) -> list[UUID]:
    """Forget where nobody stands by this reading; return the contacts that stand nowhere now."""
    rows = await connection.fetch(
        """
        DELETE FROM licence_contacts WHERE tenant_id = $1 AND report_id <> $2 RETURNING contact_id
        """,
        tenant_id,
        report_id,
    )
    moved = list({row["contact_id"] for row in rows})
    still = await _renew_roles(connection, tenant_id, moved)
    return [contact_id for contact_id in moved if contact_id not in still]


async def forget_contacts(
    connection: Connection, tenant_id: UUID, contact_ids: Sequence[UUID]
) -> int:
    """Forget people of a tenant; needs `act_for`. Count those who were there.

    Whom an administrator named to get receipts is kept for that alone.
    """
    for table in ("licence_contacts", "audience"):
        await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[])",  # noqa: S608 - one of two constants
            tenant_id,
            contact_ids,
        )
    rows = await connection.fetch(
        """
        DELETE FROM contacts c
         WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[])
           AND NOT EXISTS (SELECT FROM receipt_addresses r
                            WHERE (r.tenant_id, r.contact_id) = (c.tenant_id, c.contact_id))
        RETURNING 1
        """,
        tenant_id,
        contact_ids,
    )
    return len(rows)


async def contacts_with(connection: Connection, address_index: bytes) -> list[tuple[UUID, UUID]]:
    """List where an address is known, over all tenants: (tenant_id, contact_id)."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, contact_id FROM audience WHERE address_index = $1 ORDER BY tenant_id
        """,
        address_index,
    )
    return [(row["tenant_id"], row["contact_id"]) for row in rows]


async def move_stands(connection: Connection, source: UUID, target: UUID) -> None:
    """Let people who moved to another tenant stand there beside the licences that they stood beside."""
    await connection.execute(
        """
        INSERT INTO licence_contacts (tenant_id, number, role, contact_id, report_id)
        SELECT $2, number, role, there.contact_id, report_id
          FROM licence_contacts
          JOIN audience AS here USING (tenant_id, contact_id)
          JOIN audience AS there
            ON there.tenant_id = $2 AND there.address_index = here.address_index
         WHERE licence_contacts.tenant_id = $1
        ON CONFLICT DO NOTHING
        """,
        source,
        target,
    )


async def count_by_role(pool: Pool) -> dict[Role, int]:
    """Count contacts by what they stand as beside a licence."""
    rows = await pool.fetch(
        "SELECT role, count(*) AS n FROM audience, unnest(roles) AS role GROUP BY role"
    )
    return {Role(row["role"]): row["n"] for row in rows}


async def count_without_contact(pool: Pool) -> int:
    """Count tenants whose people may be kept and of whom nobody is known."""
    count = await pool.fetchval(
        """
        SELECT count(*)
          FROM tenants
         WHERE contacts = 'live'
           AND NOT EXISTS (SELECT 1 FROM audience WHERE audience.tenant_id = tenants.tenant_id)
        """
    )
    return int(count)


async def _renew_roles(
    connection: Connection, tenant_id: UUID, contact_ids: Sequence[UUID]
) -> set[UUID]:
    """Give contacts the roles in which they stand; return those who stand anywhere."""
    rows = await connection.fetch(
        """
        UPDATE audience
           SET roles = standing.roles
          FROM (SELECT contact_id, array_agg(DISTINCT role ORDER BY role) AS roles
                  FROM licence_contacts
                 WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[])
                 GROUP BY contact_id) AS standing
         WHERE audience.tenant_id = $1 AND audience.contact_id = standing.contact_id
        RETURNING audience.contact_id
        """,
        tenant_id,
        contact_ids,
    )
    return {row["contact_id"] for row in rows}
