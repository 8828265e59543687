"""How far the ledger's chain was checked."""

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
