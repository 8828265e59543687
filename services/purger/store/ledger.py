"""The ledger's entries, and how far they were published."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from contracts.ledger import LedgerEntry


@dataclass(frozen=True, slots=True)
class LedgerEnd:
    """The last entry; number 0 and the hash ``GENESIS`` while there is none."""

    number: int
    hash: str


async def lock_ledger(connection: Connection) -> LedgerEnd:
    """Find the ledger's end and keep others from appending until the transaction ends."""
    row = await connection.fetchrow("SELECT number, hash FROM ledger_head FOR UPDATE")
    assert row is not None
    return LedgerEnd(row["number"], row["hash"])


async def ledger_end(connection: Connection) -> LedgerEnd:
    """Find the ledger's end."""
    row = await connection.fetchrow("SELECT number, hash FROM ledger_head")
    assert row is not None
    return LedgerEnd(row["number"], row["hash"])


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A sealed entry, and which part of its purge it records, of which there is one each."""

    entry: LedgerEntry
    part: str


async def append_entries(connection: Connection, new: Sequence[NewEntry]) -> None:
    """Append sealed entries, of which each follows the one before it; there must be one.

    The caller holds the lock of ``lock_ledger``. Raises ``asyncpg.UniqueViolationError`` for a
    part that a purge already has.
    """
    entries = [each.entry for each in new]
    await connection.execute(
        """
        INSERT INTO ledger (number, purge_id, part, receipt_code, entry)
        SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[])
        """,
        [entry.number for entry in entries],
        [entry.purge_id for entry in entries],
        [each.part for each in new],
        [entry.receipt.receipt_code if entry.receipt else None for entry in entries],
        [entry.encode().decode() for entry in entries],
    )
    await connection.execute(
        "UPDATE ledger_head SET number = $1, hash = $2", entries[-1].number, entries[-1].hash
    )


async def ledger_entries(connection: Connection, *, after: int, limit: int) -> list[LedgerEntry]:
    """Read a page of the ledger in its order."""
    rows = await connection.fetch(
        "SELECT entry FROM ledger WHERE number > $1 ORDER BY number LIMIT $2", after, limit
    )
    return [LedgerEntry.decode(row["entry"]) for row in rows]


async def entries_to_publish(
    connection: Connection, *, after: int, limit: int
) -> list[tuple[LedgerEntry, str | None]]:
    """Read a page of the ledger, each entry with the trace of its purge while that is known."""
    rows = await connection.fetch(
        """
        SELECT ledger.entry, purges.traceparent
          FROM ledger LEFT JOIN purges USING (purge_id)
         WHERE number > $1
         ORDER BY number
         LIMIT $2
        """,
        after,
        limit,
    )
    return [(LedgerEntry.decode(row["entry"]), row["traceparent"]) for row in rows]


async def receipts_by_code(connection: Connection, code: str) -> list[LedgerEntry]:
    """Find the receipt's entries by its code: none, the first, or both."""
    rows = await connection.fetch(
        "SELECT entry FROM ledger WHERE receipt_code = $1 ORDER BY number", code
    )
    return [LedgerEntry.decode(row["entry"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Publication:
    """How far the ledger was said in which Kafka cluster."""

    cluster_id: str
    number: int
    hash: str
    head_said_at: datetime | None


async def lock_publication(connection: Connection) -> Publication:
    """Let one transaction at a time say entries; call it before any other statement.

    The relay sends in the order of transaction ids. This lock takes none, so a
    transaction that gets it later has the higher id, and entries stay in order.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ledger publication', 0))"
    )
    row = await connection.fetchrow(
        "SELECT cluster_id, number, hash, head_said_at FROM ledger_publication"
    )
    assert row is not None
    return Publication(**row)


async def save_publication(connection: Connection, publication: Publication) -> None:
    """Remember how far the ledger was said."""
    await connection.execute(
        "UPDATE ledger_publication SET cluster_id = $1, number = $2, hash = $3, head_said_at = $4",
        publication.cluster_id,
        publication.number,
        publication.hash,
        publication.head_said_at,
    )


async def entries_of(
    connection: Connection, parts: Collection[tuple[UUID, str]]
) -> dict[tuple[UUID, str], LedgerEntry]:
    """Find what the ledger has recorded of these parts of purges."""
    rows = await connection.fetch(
        """
        SELECT purge_id, part, entry
          FROM ledger JOIN unnest($1::uuid[], $2::text[]) AS p(purge_id, part)
         USING (purge_id, part)
        """,
        [purge_id for purge_id, _ in parts],
        [part for _, part in parts],
    )
    return {(row["purge_id"], row["part"]): LedgerEntry.decode(row["entry"]) for row in rows}


async def receipt_codes_in_ledger(
    connection: Connection, purge_ids: Collection[UUID]
) -> dict[UUID, str]:
    """Find the codes under which purges' receipts were told, by whichever entry told them."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (purge_id)
               purge_id, coalesce(receipt_code, entry::json ->> 'receipt_code') AS code
          FROM ledger
         WHERE purge_id = ANY($1::uuid[])
           AND coalesce(receipt_code, entry::json ->> 'receipt_code') IS NOT NULL
         ORDER BY purge_id, number
        """,
        list(purge_ids),
    )
    return {row["purge_id"]: row["code"] for row in rows}


async def entry_hashes(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """Say which hashes the entries of these numbers carry; those that are missing are left out."""
    rows = await connection.fetch(
        """
        SELECT number, entry::json ->> 'hash' AS hash FROM ledger WHERE number = ANY($1::bigint[])
        """,
        list(numbers),
    )
    return {row["number"]: row["hash"] for row in rows}
