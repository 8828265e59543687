"""Finds what a service has said, in its outbox, which remembers it for 150 days."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.database import Connection
from contracts.envelope import Headers

# An id tells the millisecond in which its row was written.
_AROUND_AN_ID = timedelta(minutes=1)
_UUID7 = 7


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are looked for: those that fit everything that is given.

    Times are those of the wall, at which something was said; ``until`` is not among them.
    """

    tenant_id: UUID | None = None
    types: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    ce_id: UUID | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the order of an outbox a message stands."""

    epoch: int
    xid: int
    position: int


_BEFORE_ALL = Place(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Told:
    """A message as it was said, and where that is remembered."""

    said_at: datetime
    topic: str
    key: str
    tenant_id: UUID | None
    ce_id: UUID
    type: str
    headers: Headers
    payload: bytes | None
    place: Place


_COLUMNS = """
    written_at, topic, record_key, tenant_id, ce_id, type, headers::text AS headers, payload,
    epoch, xid::text AS xid, position
"""

_OF_TRACE = """
    EXISTS (SELECT 1 FROM jsonb_array_elements(headers) AS header
             WHERE header ->> 0 = 'ce_traceparent' AND split_part(header ->> 1, '-', 2) = {})
"""


async def newest(connection: Connection, wanted: Wanted, *, limit: int) -> list[Told]:
    """Return the last ``limit`` messages that fit, in the order in which they were said."""
    condition, values = _condition(wanted)
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM outbox
         WHERE {condition}
         ORDER BY written_at DESC, outbox.epoch DESC, outbox.position DESC
         LIMIT {int(limit)}
        """,  # noqa: S608 - made of constants, each value is a parameter
        *values,
    )
    return [_told(row) for row in reversed(rows)]


async def in_order(
    connection: Connection, wanted: Wanted, *, after: Place | None = None, page: int = 1_000
) -> AsyncGenerator[list[Told], None]:
    """Yield all that fits in pages, in the order in which the relay has sent it."""
    place = after or _BEFORE_ALL
    condition, values = _condition(wanted)
    first = len(values) + 1
    statement = f"""
        SELECT {_COLUMNS} FROM outbox
         WHERE {condition}
           AND (outbox.epoch, outbox.xid, outbox.position)
               > (${first}, ${first + 1}::text::xid8, ${first + 2})
         ORDER BY outbox.epoch, outbox.xid, outbox.position
         LIMIT {int(page)}
    """  # noqa: S608 - likewise
    while rows := await connection.fetch(
        statement, *values, place.epoch, str(place.xid), place.position
    ):
        told = [_told(row) for row in rows]
        yield told
        place = told[-1].place


def _condition(wanted: Wanted) -> tuple[str, list[Any]]:
    """Say in SQL which rows fit; what is not asked for is not in it, so that it costs nothing."""
    asked: list[tuple[str, Any]] = [
        ("tenant_id = {}", wanted.tenant_id),
        ("type = ANY({}::text[])", list(wanted.types) or None),
        ("written_at >= {}", wanted.since),
        ("written_at < {}", wanted.until),
        ("ce_id = {}", wanted.ce_id),
    ]
    if wanted.ce_id is not None and wanted.ce_id.version == _UUID7:
        made_at = datetime.fromtimestamp((wanted.ce_id.int >> 80) / 1000, UTC)
        asked += [
            ("written_at >= {}", made_at - _AROUND_AN_ID),
            ("written_at < {}", made_at + _AROUND_AN_ID),
        ]
    asked.append((_OF_TRACE, wanted.trace_id))
    given = [(text, value) for text, value in asked if value is not None]
    texts = [text.format(f"${number}") for number, (text, _) in enumerate(given, start=1)]
    return " AND ".join(texts) or "true", [value for _, value in given]


def _told(row: Any) -> Told:
    return Told(
        said_at=row["written_at"],
        topic=row["topic"],
        key=row["record_key"],
        tenant_id=row["tenant_id"],
        ce_id=row["ce_id"],
        type=row["type"],
        headers=[(name, value.encode()) for name, value in json.loads(row["headers"])],
        payload=row["payload"],
        place=Place(row["epoch"], int(row["xid"]), row["position"]),
    )
