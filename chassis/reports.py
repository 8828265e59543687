"""How far a report of the Marketplace's was read: on a schedule, by one worker at a time.

Every service that reads one has a table ``licence_reports`` of its own.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.database import TRANSIENT_ERRORS, Connection, Pool
from chassis.identifiers import uuid7

REPORT_DUE_EVERY: Final = timedelta(days=1)
EVERYTHING_EVERY: Final = timedelta(days=7)

OVERLAP: Final = timedelta(days=2)
"""The report names days without their zone, and licences that change while it is being read."""

LEASE: Final = timedelta(minutes=45)
"""Longer than an export may take, so that nobody begins a second one meanwhile."""

REPORTS_KEPT: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class ReportBegun:
    """A reading of the report that this worker alone is at."""

    report_id: UUID
    updated_since: date | None


async def begin_report(
    connection: Connection,
    *,
    now: datetime,
    wall: datetime,
    every: timedelta,
    full_every: timedelta = EVERYTHING_EVERY,
) -> ReportBegun | None:
    """Begin a reading that is due, or one whose reader is gone again; None where none is.

    It begins ``OVERLAP`` before the last whole reading, and with everything
    where the last reading of everything is older than ``full_every``.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('licence report', 0))")
    # A statement of its own, so that it sees what the lock was waited for.
    row = await connection.fetchrow(
        """
        SELECT (SELECT report_id FROM licence_reports WHERE ended_at IS NULL) AS open_id,
               EXISTS (SELECT FROM licence_reports
                        WHERE ended_at IS NULL AND claimed_until > $2
                           OR ended_at IS NOT NULL AND began_at > $1::timestamptz - $3::interval)
                   AS not_yet,
               CASE WHEN EXISTS (SELECT FROM licence_reports
                                  WHERE ended_at IS NOT NULL AND updated_since IS NULL
                                    AND began_at > $1::timestamptz - $4::interval)
                    THEN (SELECT max(began_wall_at) - $5::interval FROM licence_reports
                           WHERE ended_at IS NOT NULL)::date
               END AS updated_since
        """,
        now,
        wall,
        every,
        full_every,
        OVERLAP,
    )
    assert row is not None
    if row["not_yet"]:
        return None
    begun = ReportBegun(row["open_id"] or uuid7(wall), row["updated_since"])
    await connection.execute(
        """
        INSERT INTO licence_reports (report_id, began_at, updated_since, began_wall_at,
                                     claimed_until)
        VALUES ($1, $2, $3, $4, $4::timestamptz + $5::interval)
        ON CONFLICT (report_id) DO UPDATE
           SET began_at = excluded.began_at, updated_since = excluded.updated_since,
               began_wall_at = excluded.began_wall_at, claimed_until = excluded.claimed_until,
               rows_read = 0, rows_unreadable = 0
        """,
        begun.report_id,
        now,
        begun.updated_since,
        wall,
        LEASE,
    )
    return begun


async def note_rows(
    connection: Connection, report_id: UUID, *, read: int, unreadable: int, wall: datetime
) -> None:
    """Count what a reading has come to, and keep others off it for a while longer."""
    await connection.execute(
        """
        UPDATE licence_reports
           SET rows_read = rows_read + $2, rows_unreadable = rows_unreadable + $3,
               claimed_until = $4::timestamptz + $5::interval
         WHERE report_id = $1
        """,
        report_id,
        read,
        unreadable,
        wall,
        LEASE,
    )


async def end_report(pool: Pool, report_id: UUID, *, now: datetime) -> None:
    """Note that a report was read to its end."""
    await pool.execute(
        "UPDATE licence_reports SET ended_at = $2 WHERE report_id = $1", report_id, now
    )


async def leave_report(pool: Pool, report_id: UUID, *, until: datetime) -> None:
    """Note that a reading was broken off, and until when it is not to be begun again.

    Where the database is away too, nobody begins it again before the lease has run out.
    """
    with suppress(*TRANSIENT_ERRORS):
        await pool.execute(
            """
            UPDATE licence_reports SET claimed_until = $2
             WHERE report_id = $1 AND ended_at IS NULL
            """,
            report_id,
            until,
        )


@dataclass(frozen=True, slots=True)
class LastReport:
    """What the last whole reading came to."""

    began_at: datetime
    rows_unreadable: int


async def last_report(pool: Pool) -> LastReport | None:
    """Find the last reading that came to its end."""
    row = await pool.fetchrow(
        """
        SELECT began_at, rows_unreadable
          FROM licence_reports
         WHERE ended_at IS NOT NULL
         ORDER BY began_at DESC
         LIMIT 1
        """
    )
    return None if row is None else LastReport(**row)


async def drop_reports(pool: Pool, *, ended_before: datetime) -> None:
    """Forget old readings."""
    await pool.execute("DELETE FROM licence_reports WHERE ended_at < $1", ended_before)
