"""What is kept of a person in all tenants, and the requests that people make about it."""

from datetime import date, datetime
from uuid import UUID

from chassis.database import Connection, Pool
from services.notifier.domain.requests import (
    Kept,
    OpenRequests,
    PersonRequest,
    Place,
    RequestKind,
    Sent,
)


async def tenants_of(connection: Connection, address_index: bytes) -> list[UUID]:
    """List the tenants that know a person."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM audience WHERE address_index = $1 ORDER BY tenant_id", address_index
    )
    return [row["tenant_id"] for row in rows]


async def kept_of(connection: Connection, address_index: bytes) -> Kept:
    """Say what is kept of a person, by the index of their address."""
    places = await connection.fetch(
        """
        SELECT a.tenant_id, a.contact_id, t.addon_key, a.roles, a.language, a.since
          FROM audience a
          LEFT JOIN tenants t USING (tenant_id)
         WHERE a.address_index = $1
         ORDER BY a.since, a.tenant_id
        """,
        address_index,
    )
    messages = await connection.fetch(
        """
        SELECT kind, state, planned_at, accepted_at FROM deliveries
         WHERE address_index = $1
         ORDER BY planned_at, delivery_id
        """,
        address_index,
    )
    suppressions = await connection.fetch(
        "SELECT scope, reason, since FROM suppressions WHERE address_index = $1 ORDER BY since",
        address_index,
    )
    return Kept(
        tuple(Place(**{**row, "roles": tuple(row["roles"])}) for row in places),
        tuple(Sent(**row) for row in messages),
        tuple((row["scope"], row["reason"], row["since"]) for row in suppressions),
    )


async def rename(
    connection: Connection, tenant_id: UUID, contact_id: UUID, sealed_name: bytes
) -> None:
    """Give a contact another name; needs `act_for`."""
    await connection.execute(
        "UPDATE contacts SET name = $3 WHERE tenant_id = $1 AND contact_id = $2",
        tenant_id,
        contact_id,
        sealed_name,
    )


async def erase_contact(connection: Connection, place: Place) -> None:
    """Erase a person as one tenant's contact, with what was or is to be sent to them.

    Needs `act_for`. A worker that is sending to them finds its claim gone.
    """
    for table in ("deliveries", "audience", "contacts"):
        await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = $1 AND contact_id = $2",  # noqa: S608 - made of constants
            place.tenant_id,
            place.contact_id,
        )


# -- requests ---------------------------------------------------------------------------------


async def record_request(connection: Connection, request: PersonRequest, *, noted_by: str) -> None:
    """Record a request that has come in."""
    await connection.execute(
        """
        INSERT INTO person_requests (request_id, kind, asked_at, due_on, noted_by)
        VALUES ($1, $2, $3, $4, $5)
        """,
        request.request_id,
        request.kind,
        request.asked_at,
        request.due_on,
        noted_by,
    )


async def lock_request(connection: Connection, request_id: UUID) -> PersonRequest | None:
    """Find a request, and keep others from answering it."""
    row = await connection.fetchrow(
        """
        SELECT request_id, kind, asked_at, due_on, answered_at, answered_by, records
          FROM person_requests WHERE request_id = $1 FOR UPDATE
        """,
        request_id,
    )
    return PersonRequest(**{**row, "kind": RequestKind(row["kind"])}) if row else None


async def record_answer(
    connection: Connection, request_id: UUID, *, by: str, records: int, now: datetime
) -> None:
    """Record that a request was answered; the caller holds its lock or has just recorded it."""
    await connection.execute(
        """
        UPDATE person_requests SET answered_at = $2, answered_by = $3, records = $4
         WHERE request_id = $1
        """,
        request_id,
        now,
        by,
        records,
    )


async def open_requests(connection: Connection, *, limit: int) -> list[PersonRequest]:
    """List requests that wait for an answer, those that are due first."""
    rows = await connection.fetch(
        """
        SELECT request_id, kind, asked_at, due_on FROM person_requests
         WHERE answered_at IS NULL
         ORDER BY due_on, request_id
         LIMIT $1
        """,
        limit,
    )
    return [PersonRequest(**{**row, "kind": RequestKind(row["kind"])}) for row in rows]


async def count_open(pool: Pool, *, today: date) -> OpenRequests:
    """Count requests that wait, and those whose last day is over."""
    row = await pool.fetchrow(
        """
        SELECT count(*) AS open, count(*) FILTER (WHERE due_on < $1) AS overdue
          FROM person_requests WHERE answered_at IS NULL
        """,
        today,
    )
    assert row is not None
    return OpenRequests(row["open"], row["overdue"])


async def drop_requests(pool: Pool, *, answered_before: datetime) -> None:
    """Forget requests that were answered long ago."""
    await pool.execute("DELETE FROM person_requests WHERE answered_at < $1", answered_before)
