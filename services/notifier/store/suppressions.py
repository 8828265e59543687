"""Who must not be written to, by the keyed hash of the address."""

from datetime import datetime

from chassis.database import Connection
from services.notifier.domain.suppressions import Reason


async def suppress(
    connection: Connection, address_index: bytes, *, scope: str, reason: Reason, now: datetime
) -> bool:
    """Keep messages of this scope from an address; False where that is so already."""
    added = await connection.fetchval(
        """
        INSERT INTO suppressions (address_index, scope, reason, since)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        address_index,
        scope,
        reason,
        now,
    )
    return added is True


async def lift(connection: Connection, address_index: bytes, *, scope: str, reason: Reason) -> bool:
    """Let messages of this scope through again, as far as this reason goes; False if it did not stand."""
    lifted = await connection.fetchval(
        """
        DELETE FROM suppressions
         WHERE address_index = $1 AND scope = $2 AND reason = $3
        RETURNING true
        """,
        address_index,
        scope,
        reason,
    )
    return lifted is True


async def suppressions_of(connection: Connection, address_index: bytes) -> set[tuple[str, Reason]]:
    """List the (scope, reason) that keep messages from an address."""
    rows = await connection.fetch(
        "SELECT scope, reason FROM suppressions WHERE address_index = $1", address_index
    )
    return {(row["scope"], Reason(row["reason"])) for row in rows}
