"""How far the ledger's chain was checked."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from chassis.database import Connection


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Up to which entry the ledger was verified, and when it was last walked from its beginning.

    ``checkpoint_number`` is the last entry of which a checkpoint was left; 0 where none ever was.
    """

    number: int
    hash: str
    walked_at: datetime | None
    checkpoint_number: int


async def ledger_check(connection: Connection) -> LedgerCheck:
    """Read how far the ledger was verified."""
    row = await connection.fetchrow(
        "SELECT number, hash, walked_at, checkpoint_number FROM ledger_check"
    )
    assert row is not None
    return LedgerCheck(**row)


async def save_ledger_check(connection: Connection, check: LedgerCheck) -> None:
    """Remember how far the ledger was verified, and had its checkpoints."""
    await connection.execute(
        """
        UPDATE ledger_check SET number = $1, hash = $2, walked_at = $3, checkpoint_number = $4
        """,
        check.number,
        check.hash,
        check.walked_at,
        check.checkpoint_number,
    )


async def entry_hashes(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """Say which hashes the entries of these numbers carry; those that are missing are left out."""
    rows = await connection.fetch(
        """
        SELECT number, entry::jsonb ->> 'hash' AS hash FROM ledger
         WHERE number = ANY($1::bigint[])
        """,
        list(numbers),
    )
    return {row["number"]: row["hash"] for row in rows}
