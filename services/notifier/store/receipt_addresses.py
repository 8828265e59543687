"""Whom a tenant's administrator named to get its receipts, beside its contacts.

Name and address are sealed among the contacts, where the person may be for another reason too.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from services.notifier.domain.people import Language


@dataclass(frozen=True, slots=True)
class Named:
    """That somebody is named: since when, and as which contact.

    None where nobody may write to the address, which is not kept then.
    """

    named_at: datetime
    contact_id: UUID | None
    address_index: bytes | None
    language: Language


async def named(connection: Connection, tenant_id: UUID) -> Named | None:
    """Say whether somebody is named."""
    row = await connection.fetchrow(
        """
        SELECT named_at, contact_id, address_index, language
          FROM receipt_addresses
         WHERE tenant_id = $1 AND named_at IS NOT NULL
        """,
        tenant_id,
    )
    if row is None:
        return None
    return Named(**{**row, "language": Language(row["language"])})


async def may_change(
    connection: Connection, tenant_id: UUID, *, now: datetime, counted_since: datetime, most: int
) -> bool:
    """Count a change; False where there were the ``most`` of them already since then."""
    counted = await connection.fetchval(
        """
        INSERT INTO receipt_addresses (tenant_id, language, changes, counted_from)
        VALUES ($1, 'en', 1, $2)
        ON CONFLICT (tenant_id) DO UPDATE
           SET changes = CASE WHEN receipt_addresses.counted_from <= $3 THEN 1
                              ELSE receipt_addresses.changes + 1 END,
               counted_from = CASE WHEN receipt_addresses.counted_from <= $3 THEN $2
                                   ELSE receipt_addresses.counted_from END
         WHERE receipt_addresses.counted_from <= $3 OR receipt_addresses.changes < $4
        RETURNING true
        """,
        tenant_id,
        now,
        counted_since,
        most,
    )
    return counted is True


async def seal_in(
    connection: Connection,
    tenant_id: UUID,
    contact_id: UUID,
    *,
    name: bytes,
    address: bytes,
    address_index: bytes,
) -> UUID:
    """Keep a sealed address among the contacts, and return as which; who is there stays as known.

    Needs `act_for`.
    """
    kept: UUID = await connection.fetchval(
        """
        INSERT INTO contacts (tenant_id, contact_id, name, address, address_index)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, address_index) DO UPDATE SET address = contacts.address
        RETURNING contact_id
        """,
        tenant_id,
        contact_id,
        name,
        address,
        address_index,
    )
    return kept


async def note_named(connection: Connection, tenant_id: UUID, named: Named) -> None:
    """Note who is named from now on; `may_change` has made the row."""
    await connection.execute(
        """
        UPDATE receipt_addresses
           SET contact_id = $2, address_index = $3, language = $4, named_at = $5
         WHERE tenant_id = $1
        """,
        tenant_id,
        named.contact_id,
        named.address_index,
        named.language,
        named.named_at,
    )


async def note_withdrawn(connection: Connection, tenant_id: UUID) -> None:
    """Note that nobody is named any more."""
    await connection.execute(
        """
        UPDATE receipt_addresses SET contact_id = NULL, address_index = NULL, named_at = NULL
         WHERE tenant_id = $1
        """,
        tenant_id,
    )


async def drop_who_is_no_contact(connection: Connection, tenant_id: UUID) -> None:
    """Forget people of a tenant who are neither contacts nor named; needs `act_for`."""
    await connection.execute(
        """
        DELETE FROM contacts c
         WHERE c.tenant_id = $1
           AND NOT EXISTS (SELECT FROM audience a
                            WHERE (a.tenant_id, a.contact_id) = (c.tenant_id, c.contact_id))
           AND NOT EXISTS (SELECT FROM receipt_addresses r
                            WHERE (r.tenant_id, r.contact_id) = (c.tenant_id, c.contact_id))
        """,
        tenant_id,
    )


async def let_them_be_told(connection: Connection, tenant_id: UUID, *, now: datetime) -> None:
    """Count who is named among the people that a receipt goes to, from the end of the tenant on."""
    await connection.execute(
        """
        INSERT INTO audience (tenant_id, contact_id, address_index, roles, language, since)
        SELECT tenant_id, contact_id, address_index, '{}', language, $2
          FROM receipt_addresses
         WHERE tenant_id = $1 AND contact_id IS NOT NULL
        ON CONFLICT DO NOTHING
        """,
        tenant_id,
        now,
    )


async def named_with(connection: Connection, address_index: bytes) -> list[UUID]:
    """List the tenants for which an address is named."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM receipt_addresses WHERE address_index = $1 ORDER BY tenant_id",
        address_index,
    )
    return [row["tenant_id"] for row in rows]


async def forget_named(connection: Connection, tenant_id: UUID, address_index: bytes) -> None:
    """Forget whose address is named; that one was named stays, and tells nobody why it is gone."""
    await connection.execute(
        """
        UPDATE receipt_addresses SET contact_id = NULL, address_index = NULL
         WHERE tenant_id = $1 AND address_index = $2
        """,
        tenant_id,
        address_index,
    )
