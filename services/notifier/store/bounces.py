"""Deliveries that came back, and whose recipients complained."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Connection
from services.notifier.domain.campaigns import Kind


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivery of which something came back."""

    campaign_id: UUID
    kind: Kind
    address_index: bytes


async def sent(connection: Connection, delivery_id: UUID) -> Sent | None:
    """Find a delivery; None where it has gone with its contact."""
    row = await connection.fetchrow(
        "SELECT campaign_id, kind, address_index FROM deliveries WHERE delivery_id = $1",
        delivery_id,
    )
    return Sent(row["campaign_id"], Kind(row["kind"]), row["address_index"]) if row else None


async def note_bounce(connection: Connection, delivery_id: UUID, *, now: datetime) -> bool:
    """Note that a message was not delivered after all, also as evidence; False where that is known.

    Whose policy mail came back was not told, whatever the mail server had said when it took it.
    """
    bounced = await connection.fetchrow(
        """
        UPDATE deliveries
           SET bounced_at = $2,
               state = CASE WHEN state IN ('sent', 'uncertain') THEN 'failed' ELSE state END
         WHERE delivery_id = $1 AND bounced_at IS NULL
        RETURNING campaign_id, address_index
        """,
        delivery_id,
        now,
    )
    if bounced is None:
        return False
    await connection.execute(
        """
        UPDATE policy_evidence e
           SET outcome = 'failed', status_code = NULL, at = $3
          FROM policy_revisions r
         WHERE r.campaign_id = $1 AND e.number = r.number AND e.address_index = $2
        """,
        bounced["campaign_id"],
        bounced["address_index"],
        now,
    )
    return True
