"""Tenants, their contacts, and moves of people between them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chassis.database import Connection, Pool
from contracts.tenants import ClassState
from services.notifier.domain.people import Language, Role, Tenant


async def remember_tenant(connection: Connection, tenant: Tenant) -> None:
    """Make what is known of a tenant this."""
    await connection.execute(
        """
        INSERT INTO tenants (tenant_id, addon_key, contacts)
        VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id) DO UPDATE
           SET addon_key = excluded.addon_key, contacts = excluded.contacts
        """,
        tenant.tenant_id,
        tenant.addon_key,
        tenant.contacts,
    )


async def forget_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Know nothing of a tenant any more."""
    await connection.execute("DELETE FROM tenants WHERE tenant_id = $1", tenant_id)


async def tenant(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """Say what is known of a tenant."""
    row = await connection.fetchrow(
        "SELECT addon_key, contacts FROM tenants WHERE tenant_id = $1", tenant_id
    )
    if row is None:
        return None
    return Tenant(tenant_id, row["addon_key"], ClassState(row["contacts"]))


# Contacts are under row-level security: the functions below need `act_for`.


class SealedContact(NamedTuple):
    """A contact as it is stored."""

    contact_id: UUID
    name: bytes
    address: bytes
    corrected: bool = False
    """Whether the person gave the name, which no report changes then."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a contact is known again, as what it stands beside a licence, how it is written to."""

    address_index: bytes
    roles: tuple[Role, ...]
    language: Language
    language_chosen: bool = False
    """Whether the person chose the language, which no report changes then."""


async def keep_contact(
    connection: Connection,
    tenant_id: UUID,
    contact: SealedContact,
    standing: Standing,
    *,
    now: datetime,
) -> tuple[UUID, bool]:
    """Keep a contact; return its id, and whether it is new.

    There is one for each address of a tenant: the same address again changes its name, its roles
    and its language, except what the person has had corrected.
    """
    row = await connection.fetchrow(
        """
        INSERT INTO contacts (tenant_id, contact_id, name, address, address_index)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, address_index) DO UPDATE
           SET name = CASE WHEN contacts.corrected THEN contacts.name ELSE excluded.name END,
               address = excluded.address
        RETURNING contact_id, contact_id = $2 AS is_new
        """,
        tenant_id,
        contact.contact_id,
        contact.name,
        contact.address,
        standing.address_index,
    )
    assert row is not None
    await connection.execute(
        """
        INSERT INTO audience (tenant_id, contact_id, address_index, roles, language, since)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id, contact_id) DO UPDATE
           SET roles = excluded.roles,
               language = CASE WHEN audience.language_chosen THEN audience.language
                               ELSE excluded.language END
        """,
        tenant_id,
        row["contact_id"],
        standing.address_index,
        list(standing.roles),
        standing.language,
        now,
    )
    return row["contact_id"], row["is_new"]


async def contacts(
    connection: Connection, tenant_id: UUID, *, only: UUID | None = None
) -> list[tuple[SealedContact, Standing]]:
    """List a tenant's contacts, or ``only`` one of them, each with how it stands."""
    rows = await connection.fetch(
        """
        SELECT c.contact_id, c.name, c.address, c.corrected, a.address_index, a.roles, a.language,
               a.language_chosen
          FROM contacts c
          JOIN audience a USING (tenant_id, contact_id)
         WHERE tenant_id = $1 AND ($2::uuid IS NULL OR contact_id = $2)
         ORDER BY c.contact_id
        """,
        tenant_id,
        only,
    )
    return [
        (
            SealedContact(*row[:4]),
            Standing(
                row["address_index"],
                tuple(Role(role) for role in row["roles"]),
                Language(row["language"]),
                row["language_chosen"],
            ),
        )
        for row in rows
    ]


async def add_contact_unless_known(
    connection: Connection,
    tenant_id: UUID,
    contact: SealedContact,
    standing: Standing,
    *,
    now: datetime,
) -> None:
    """Keep a contact that came from elsewhere; whoever is there already stays the same."""
    await connection.execute(
        """
        WITH added AS (
            INSERT INTO contacts (tenant_id, contact_id, name, address, address_index, corrected)
            VALUES ($1, $2, $3, $4, $5, $9)
            ON CONFLICT DO NOTHING
            RETURNING tenant_id, contact_id, address_index)
        INSERT INTO audience (tenant_id, contact_id, address_index, roles, language, since,
                              language_chosen)
        SELECT tenant_id, contact_id, address_index, $6, $7, $8, $10 FROM added
        """,
        tenant_id,
        contact.contact_id,
        contact.name,
        contact.address,
        standing.address_index,
        list(standing.roles),
        standing.language,
        now,
        contact.corrected,
        standing.language_chosen,
    )


@dataclass(frozen=True, slots=True)
class OpenMove:
    """People who are to move to another tenant before theirs is forgotten."""

    purge_id: UUID
    tenant_id: UUID
    merged_into: UUID
    noted_at: datetime


async def note_move(
    connection: Connection, purge_id: UUID, tenant_id: UUID, merged_into: UUID, *, now: datetime
) -> None:
    """Note, once, that people are to move; the purge's erasure waits for it."""
    await connection.execute(
        """
        INSERT INTO moves (purge_id, tenant_id, merged_into, state, noted_at)
        VALUES ($1, $2, $3, 'open', $4)
        ON CONFLICT (purge_id) DO NOTHING
        """,
        purge_id,
        tenant_id,
        merged_into,
        now,
    )


async def open_moves(pool: Pool) -> list[UUID]:
    """List the purges whose people are to move, those that wait longest first."""
    rows = await pool.fetch("SELECT purge_id FROM moves WHERE state = 'open' ORDER BY noted_at")
    return [row["purge_id"] for row in rows]


async def lock_open_move(connection: Connection, purge_id: UUID) -> OpenMove | None:
    """Take a move that is still open, for this transaction alone; None where another has it."""
    row = await connection.fetchrow(
        """
        SELECT purge_id, tenant_id, merged_into, noted_at
          FROM moves
         WHERE purge_id = $1 AND state = 'open'
           FOR UPDATE SKIP LOCKED
        """,
        purge_id,
    )
    return OpenMove(**row) if row else None


async def settle_move(connection: Connection, purge_id: UUID, *, moved: bool) -> None:
    """Note what became of a move, so that the erasure may begin."""
    await connection.execute(
        "UPDATE moves SET state = $2 WHERE purge_id = $1",
        purge_id,
        "moved" if moved else "given-up",
    )


async def purges_with_open_moves(connection: Connection, purge_ids: Collection[UUID]) -> set[UUID]:
    """Say which of these purges have people who are still to move."""
    rows = await connection.fetch(
        "SELECT purge_id FROM moves WHERE purge_id = ANY($1::uuid[]) AND state = 'open'",
        list(purge_ids),
    )
    return {row["purge_id"] for row in rows}


async def sealed_contacts(
    connection: Connection, contacts: Collection[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], SealedContact]:
    """Read contacts of many tenants at once, by (tenant_id, contact_id); act for all of them."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, c.contact_id, c.name, c.address
          FROM unnest($1::uuid[], $2::uuid[]) AS wanted(tenant_id, contact_id)
          JOIN contacts c USING (tenant_id, contact_id)
        """,
        [tenant_id for tenant_id, _ in contacts],
        [contact_id for _, contact_id in contacts],
    )
    return {(row["tenant_id"], row["contact_id"]): SealedContact(*row[1:4]) for row in rows}
