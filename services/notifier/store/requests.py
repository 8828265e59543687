"""What is kept of a person over all tenants, and the requests that people make about it."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import asyncpg

from chassis.database import Connection, Pool
from services.notifier.domain.people import Language, Role
from services.notifier.domain.policies import Proof
from services.notifier.domain.requests import (
    Answerer,
    Format,
    Kept,
    PersonRequest,
    Place,
    RequestKind,
    Sent,
)
from services.notifier.store.evidence import Told, note_evidence

# -- what is kept of a person --------------------------------------------------------------------

# Each campaign is looked into: an index by address alone would cost every campaign's planning.
_SENT = """
    SELECT d.delivery_id, d.campaign_id, d.kind, d.state, d.doubts, d.planned_at, d.accepted_at
      FROM campaigns c
     CROSS JOIN LATERAL (SELECT * FROM deliveries
                          WHERE campaign_id = c.campaign_id AND address_index = $1) d
"""


async def kept_of(connection: Connection, address_index: bytes) -> Kept:
    """Say what is kept of a person; their names and addresses are left out, which are sealed."""
    messages = await connection.fetch(
        f"{_SENT} ORDER BY d.planned_at, d.delivery_id", address_index
    )
    told = await connection.fetch(
        """
        SELECT e.number, e.outcome, e.at
          FROM policy_revisions r
         CROSS JOIN LATERAL (SELECT * FROM policy_evidence
                              WHERE number = r.number AND address_index = $1) e
         ORDER BY e.number
        """,
        address_index,
    )
    suppressions = await connection.fetch(
        """
        SELECT scope, reason, since FROM suppressions
         WHERE address_index = $1
         ORDER BY since, scope, reason
        """,
        address_index,
    )
    requests = await connection.fetch(
        f"{_REQUESTS} WHERE address_index = $1 ORDER BY received_at, request_id", address_index
    )
    return Kept(
        await _places(connection, address_index),
        tuple(
            Sent(row["kind"], row["state"], row["planned_at"], row["accepted_at"])
            for row in messages
        ),
        tuple((row["number"], row["outcome"], row["at"]) for row in told),
        tuple((row["scope"], row["reason"], row["since"]) for row in suppressions),
        tuple(map(_request, requests)),
    )


async def _places(connection: Connection, address_index: bytes) -> tuple[Place, ...]:
    rows = await connection.fetch(
        """
        SELECT a.tenant_id, a.contact_id, t.addon_key, t.product, t.edition, t.region, a.roles,
               a.language, a.since, l.numbers, l.licence_roles, a.gets_receipts
          FROM (SELECT a.tenant_id, a.contact_id, a.roles, a.language, a.since,
                       r.contact_id IS NOT NULL AS gets_receipts
                  FROM audience a
                  LEFT JOIN receipt_addresses r USING (tenant_id, contact_id)
                 WHERE a.address_index = $1
                 UNION ALL
                SELECT tenant_id, contact_id, '{}', language, named_at, true
                  FROM receipt_addresses r
                 WHERE address_index = $1
                   AND NOT EXISTS (SELECT FROM audience a
                                    WHERE (a.tenant_id, a.contact_id)
                                          = (r.tenant_id, r.contact_id))) a
          LEFT JOIN tenants t USING (tenant_id)
         CROSS JOIN LATERAL (
                SELECT array_agg(number ORDER BY number, role) AS numbers,
                       array_agg(role ORDER BY number, role) AS licence_roles
                  FROM licence_contacts
                 WHERE tenant_id = a.tenant_id AND contact_id = a.contact_id) l
         ORDER BY a.since, a.tenant_id
        """,
        address_index,
    )
    return tuple(
        Place(
            row["tenant_id"],
            row["contact_id"],
            row["addon_key"],
            row["product"],
            row["edition"],
            row["region"],
            tuple(map(Role, row["roles"])),
            Language(row["language"]),
            row["since"],
            tuple(
                (number, Role(role))
                for number, role in zip(
                    row["numbers"] or (), row["licence_roles"] or (), strict=True
                )
            ),
            gets_receipts=row["gets_receipts"],
        )
        for row in rows
    )


async def language_of(connection: Connection, address_index: bytes) -> Language:
    """Say in which language somebody is written to; English where nobody is known."""
    found = await connection.fetchval(
        "SELECT language FROM audience WHERE address_index = $1 ORDER BY since LIMIT 1",
        address_index,
    )
    return Language(found) if found else Language.ENGLISH


async def correct_name(
    connection: Connection, tenant_id: UUID, contact_id: UUID, sealed_name: bytes
) -> None:
    """Give a contact a name that no report changes any more; needs `act_for`."""
    await connection.execute(
        """
        UPDATE contacts SET name = $3, corrected = true
         WHERE tenant_id = $1 AND contact_id = $2
        """,
        tenant_id,
        contact_id,
        sealed_name,
    )


async def correct_language(
    connection: Connection, tenant_id: UUID, contact_id: UUID, language: Language
) -> None:
    """Write to a contact in a language that no report changes any more."""
    for statement in (
        """
        UPDATE audience SET language = $3, language_chosen = true
         WHERE tenant_id = $1 AND contact_id = $2
        """,
        "UPDATE receipt_addresses SET language = $3 WHERE tenant_id = $1 AND contact_id = $2",
    ):
        await connection.execute(statement, tenant_id, contact_id, language)


async def drop_deliveries(connection: Connection, address_index: bytes, *, now: datetime) -> int:
    """Forget what was and what was to be sent to an address; count it.

    What was not sent of policy changes is evidence of its own. A worker that is sending finds its
    claim gone.
    """
    rows = await connection.fetch(_SENT, address_index)
    unsent = [
        Told(row["campaign_id"], address_index, Proof.SUPPRESSED)
        for row in rows
        if row["state"] == "planned" and not row["doubts"]
    ]
    await note_evidence(connection, unsent, now=now)
    await connection.execute(
        "DELETE FROM deliveries WHERE delivery_id = ANY($1::uuid[])",
        [row["delivery_id"] for row in rows],
    )
    return len(rows)


async def erased_and_still_known(pool: Pool, *, limit: int) -> list[bytes]:
    """List addresses that are to be forgotten and are a contact's, as after a restore."""
    rows = await pool.fetch(
        """
        SELECT DISTINCT address_index
          FROM suppressions s
          JOIN (SELECT address_index FROM audience
                 UNION ALL
                SELECT address_index FROM receipt_addresses) known USING (address_index)
         WHERE s.reason = 'erased'
         ORDER BY address_index
         LIMIT $1
        """,
        limit,
    )
    return [row["address_index"] for row in rows]


# -- requests ------------------------------------------------------------------------------------

_REQUESTS = """
    SELECT request_id, kind, address_index, received_at, due_on, answered_at, answered_by, fetched
      FROM person_requests
"""


async def add_request(connection: Connection, request: PersonRequest, *, by_staff: bool) -> None:
    """Record a request that has come in; one ``by_staff`` waits until it is answered."""
    await connection.execute(
        """
        INSERT INTO person_requests (request_id, kind, address_index, received_at, due_on, by_staff)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        request.request_id,
        request.kind,
        request.address_index,
        request.received_at,
        request.due_on,
        by_staff,
    )


async def drop_request(connection: Connection, request_id: UUID) -> None:
    """Forget a request whose link could not be mailed."""
    await connection.execute(
        "DELETE FROM person_requests WHERE request_id = $1 AND answered_at IS NULL", request_id
    )


async def lock_request(connection: Connection, request_id: UUID) -> PersonRequest | None:
    """Find a request, and keep others from answering it until the transaction ends."""
    row = await connection.fetchrow(f"{_REQUESTS} WHERE request_id = $1 FOR UPDATE", request_id)
    return _request(row) if row else None


async def note_answer(
    connection: Connection, request_id: UUID, by: Answerer, *, now: datetime
) -> None:
    """Note that a request was answered; the first answer is the one that is kept."""
    await connection.execute(
        """
        UPDATE person_requests SET answered_at = $2, answered_by = $3
         WHERE request_id = $1 AND answered_at IS NULL
        """,
        request_id,
        now,
        by,
    )


async def note_fetched(connection: Connection, request_id: UUID, fetched: Format) -> None:
    """Note that an export was fetched in one form; the caller holds the request's lock."""
    await connection.execute(
        "UPDATE person_requests SET fetched = fetched || $2::text WHERE request_id = $1",
        request_id,
        fetched,
    )


async def received_since(
    connection: Connection, since: datetime, address_index: bytes | None = None
) -> int:
    """Count the requests that came by the page since then, about one address or about any."""
    count: int = await connection.fetchval(
        """
        SELECT count(*)
          FROM person_requests
         WHERE received_at > $1 AND NOT by_staff AND ($2::bytea IS NULL OR address_index = $2)
        """,
        since,
        address_index,
    )
    return count


async def open_requests(connection: Connection, *, limit: int) -> list[PersonRequest]:
    """List requests that wait for our staff, those that are due first."""
    rows = await connection.fetch(
        f"""
        {_REQUESTS}
         WHERE answered_at IS NULL AND by_staff
         ORDER BY due_on, request_id
         LIMIT $1
        """,
        limit,
    )
    return [_request(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many requests wait for our staff, and of how many the last day is over."""

    open: int
    overdue: int


async def count_waiting(pool: Pool, *, today: date) -> Waiting:
    """Count the requests that wait for our staff."""
    row = await pool.fetchrow(
        """
        SELECT count(*) AS open, count(*) FILTER (WHERE due_on < $1) AS overdue
          FROM person_requests
         WHERE answered_at IS NULL AND by_staff
        """,
        today,
    )
    assert row is not None
    return Waiting(row["open"], row["overdue"])


async def drop_requests(pool: Pool, *, answered_before: datetime, lapsed_before: datetime) -> None:
    """Forget requests that were answered long ago, and those whose link nobody used in time."""
    await pool.execute(
        """
        DELETE FROM person_requests
         WHERE answered_at < $1
            OR answered_at IS NULL AND NOT by_staff AND received_at < $2
        """,
        answered_before,
        lapsed_before,
    )


def _request(row: asyncpg.Record) -> PersonRequest:
    by = row["answered_by"]
    return PersonRequest(
        row["request_id"],
        RequestKind(row["kind"]),
        row["address_index"],
        row["received_at"],
        row["due_on"],
        row["answered_at"],
        Answerer(by) if by else None,
        frozenset(map(Format, row["fetched"])),
    )
