"""Faults as staff see them: the groups of all tenants together, read by the role of jobs."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from chassis.database import Connection
from chassis.erasure import NOBODY

_MOST_CHOICES: Final = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which faults are looked for; an empty text asks for no particular one."""

    text: str = ""
    app: str = ""
    release: str = ""
    browser: str = ""
    most_frequent_first: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What is one fault, whoever has it."""

    fingerprint: bytes
    app: str
    type: str
    culprit: str
    message: str = field(repr=False)
    first_seen_at: datetime
    last_seen_at: datetime
    reports: int
    tenants: int


@dataclass(frozen=True, slots=True)
class Event:
    """One stored report of a fault."""

    tenant_id: UUID
    event_id: UUID
    received_at: datetime
    occurred_at: datetime
    release: str
    level: str
    handled: bool | None
    browser: str
    browser_major: int | None
    os: str
    os_major: int | None
    thrown: list[dict[str, Any]] = field(repr=False)


_FAULT: Final = """
    g.fingerprint, min(g.app) AS app,
    (array_agg(g.type ORDER BY g.last_seen_at DESC))[1] AS type,
    (array_agg(g.culprit ORDER BY g.last_seen_at DESC))[1] AS culprit,
    (array_agg(g.message ORDER BY g.last_seen_at DESC))[1] AS message,
    min(g.first_seen_at) AS first_seen_at, max(g.last_seen_at) AS last_seen_at,
    sum(g.reports)::bigint AS reports, count(*) AS tenants
"""


async def find(connection: Connection, wanted: Wanted, *, limit: int) -> list[Fault]:
    """Find the faults of which a text, an app, a release or a browser is told."""
    order = "reports DESC, last_seen_at" if wanted.most_frequent_first else "last_seen_at"
    rows = await connection.fetch(
        f"""
        SELECT {_FAULT}
          FROM error_groups AS g
         WHERE g.tenant_id <> $1
           AND ($2 = '' OR position(lower($2) IN lower(concat_ws(' ', type, culprit, message))) > 0)
           AND ($3 = '' OR g.app = $3)
           AND (($4 = '' AND $5 = '')
                OR EXISTS (SELECT FROM error_counts AS c
                            WHERE c.tenant_id = g.tenant_id AND c.fingerprint = g.fingerprint
                              AND ($4 = '' OR c.release = $4) AND ($5 = '' OR c.browser = $5)))
         GROUP BY g.fingerprint
         ORDER BY {order} DESC, g.fingerprint
         LIMIT $6
        """,  # noqa: S608 - made of constants
        NOBODY,
        wanted.text,
        wanted.app,
        wanted.release,
        wanted.browser,
        limit,
    )
    return [Fault(**row) for row in rows]


async def fault(connection: Connection, fingerprint: bytes) -> Fault | None:
    """Find one fault; None where no tenant has it any more."""
    row = await connection.fetchrow(
        f"""
        SELECT {_FAULT} FROM error_groups AS g
         WHERE g.fingerprint = $1 AND g.tenant_id <> $2
         GROUP BY g.fingerprint
        """,  # noqa: S608 - made of constants
        fingerprint,
        NOBODY,
    )
    return Fault(**row) if row else None


async def trends(
    connection: Connection, fingerprints: Collection[bytes], *, today: date, days: int
) -> dict[bytes, list[int]]:
    """Count the reports of each fault on each of so many days, up to today."""
    first = today - timedelta(days=days - 1)
    rows = await connection.fetch(
        """
        SELECT fingerprint, day, sum(reports)::bigint AS reports
          FROM error_counts
         WHERE fingerprint = ANY($1::bytea[]) AND day BETWEEN $2 AND $3
         GROUP BY fingerprint, day
        """,
        list(fingerprints),
        first,
        today,
    )
    found = {fingerprint: [0] * days for fingerprint in fingerprints}
    for row in rows:
        found[row["fingerprint"]][(row["day"] - first).days] = row["reports"]
    return found


async def shares(connection: Connection, fingerprint: bytes) -> dict[str, list[tuple[str, int]]]:
    """Count a fault's reports by release, browser and system, the most first."""
    return {
        what: [
            (row["name"], row["reports"])
            for row in await connection.fetch(
                f"""
                SELECT {name} AS name, sum(reports)::bigint AS reports
                  FROM error_counts WHERE fingerprint = $1 AND tenant_id <> $2
                 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $3
                """,  # noqa: S608 - made of constants
                fingerprint,
                NOBODY,
                _MOST_CHOICES,
            )
        ]
        for what, name in (
            ("Release", "release"),
            ("Browser", "concat_ws(' ', browser, nullif(browser_major, 0))"),
            ("System", "os"),
        )
    }


async def events(connection: Connection, fingerprint: bytes, *, limit: int) -> list[Event]:
    """List the latest stored reports of a fault."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, event_id, received_at, occurred_at, release, level, handled, browser,
               browser_major, os, os_major, thrown
          FROM error_events
         WHERE fingerprint = $1 AND tenant_id <> $2
         ORDER BY received_at DESC, event_id
         LIMIT $3
        """,
        fingerprint,
        NOBODY,
        limit,
    )
    return [Event(**row) for row in rows]


async def browsers_met(connection: Connection, fingerprint: bytes) -> int:
    """Count the browsers in the stored reports; one of two days counts twice, as nobody can tell."""
    found = await connection.fetchval(
        "SELECT count(DISTINCT tracking) FROM error_events WHERE fingerprint = $1", fingerprint
    )
    return int(found)


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen from, in the order of the alphabet."""

    apps: list[str]
    releases: list[str]
    browsers: list[str]


async def choices(connection: Connection) -> Choices:
    """List the apps, releases and browsers that reports are of."""

    def names(rows: list[asyncpg.Record]) -> list[str]:
        return [row["name"] for row in rows if row["name"]]

    return Choices(
        *[
            names(
                await connection.fetch(
                    f"""
                    SELECT DISTINCT {column} AS name FROM {table} WHERE tenant_id <> $1
                     ORDER BY 1 LIMIT $2
                    """,  # noqa: S608 - made of constants
                    NOBODY,
                    _MOST_CHOICES,
                )
            )
            for table, column in (
                ("error_groups", "app"),
                ("error_counts", "release"),
                ("error_counts", "browser"),
            )
        ]
    )
