"""The SQL of error reports: their groups, the counts of each day, and each week's first events."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from json import dumps
from typing import Final
from uuid import UUID

from chassis.database import Connection, Pool
from chassis.erasure import NOBODY
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.domain.access import Tenant
from services.config.domain.error_reports import Report, Thrown

KEPT: Final = timedelta(days=90)
"""How long anything of a report is kept, at most."""

FIRST_OF_A_WEEK: Final = 10
"""So many events of a group are stored of each week and tenant; all are counted."""

WEEKS_AHEAD: Final = 3
_ROWS_A_STATEMENT: Final = 5_000


@dataclass(frozen=True, slots=True)
class Taken:
    """A report as it is written: whose, of which app, and in which group."""

    tenant_id: UUID
    app: str
    fingerprint: bytes
    report: Report

    @property
    def group(self) -> tuple[UUID, bytes]:
        """Names the group of this tenant."""
        return self.tenant_id, self.fingerprint


@dataclass(frozen=True, slots=True)
class Reporter:
    """A tenant, and of which app its reports are; the app is empty while it is not known."""

    tenant: Tenant
    app: str


async def reporters(connection: Connection, tenant_ids: Collection[UUID]) -> dict[UUID, Reporter]:
    """Say what is known of these tenants; who is unknown is not among them."""
    rows = await connection.fetch(
        """
        SELECT tenant_id, status, platform, content, coalesce(app, '') AS app
          FROM tenants
          LEFT JOIN error_apps USING (tenant_id)
         WHERE tenant_id = ANY($1::uuid[])
        """,
        list(tenant_ids),
    )
    return {
        row["tenant_id"]: Reporter(
            Tenant(
                row["tenant_id"],
                TenantStatus(row["status"]),
                Platform(row["platform"]),
                ClassState(row["content"]),
            ),
            row["app"],
        )
        for row in rows
    }


async def save_apps(connection: Connection, apps: Mapping[UUID, str]) -> None:
    """Make the apps of these tenants these."""
    await connection.execute(
        """
        INSERT INTO error_apps (tenant_id, app)
        SELECT * FROM unnest($1::uuid[], $2::text[]) AS a(tenant_id, app) ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET app = excluded.app
        """,
        list(apps),
        list(apps.values()),
    )


async def forget_apps(connection: Connection, tenant_ids: Sequence[UUID]) -> None:
    """Know nothing of these tenants' apps any more."""
    await connection.execute(
        "DELETE FROM error_apps WHERE tenant_id = ANY($1::uuid[])", list(tenant_ids)
    )


async def add_reports(connection: Connection, reports: Sequence[Taken], *, now: datetime) -> None:
    """Count reports in their groups, and store those that are among the first of their week.

    The transaction acts for their tenants, and holds erasures of them off.
    """
    week = monday_of(now.date())
    stored = await _count_in_groups(connection, reports, week=week, now=now)
    await _count_in_day(connection, reports, day=now.date())
    events = []
    for taken in reports:
        if stored[taken.group] < FIRST_OF_A_WEEK:
            events.append(taken)
        stored[taken.group] += 1
    if events:
        await _add_events(connection, events, now=now)


def monday_of(day: date) -> date:
    """Return the day with which the week of a day begins."""
    return day - timedelta(days=day.weekday())


async def _count_in_groups(
    connection: Connection, reports: Sequence[Taken], *, week: date, now: datetime
) -> Counter[tuple[UUID, bytes]]:
    """Count them, and return how many of each group this week had before."""
    counts = Counter(taken.group for taken in reports)
    latest = {taken.group: taken for taken in reports}
    rows = await connection.fetch(
        """
        INSERT INTO error_groups AS g (tenant_id, fingerprint, app, type, culprit, message,
                                       first_seen_at, last_seen_at, reports, week, reports_of_week)
        SELECT tenant_id, fingerprint, app, type, culprit, message, $8, $8, reports, $9, reports
          FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[],
                      $7::bigint[])
               AS r(tenant_id, fingerprint, app, type, culprit, message, reports)
         ORDER BY tenant_id, fingerprint
        ON CONFLICT (tenant_id, fingerprint) DO UPDATE
           SET message = excluded.message,
               last_seen_at = greatest(g.last_seen_at, excluded.last_seen_at),
               reports = g.reports + excluded.reports,
               reports_of_week = excluded.reports_of_week
                   + CASE WHEN g.week = excluded.week THEN g.reports_of_week ELSE 0 END,
               week = excluded.week
        RETURNING tenant_id, fingerprint, reports_of_week
        """,
        [tenant_id for tenant_id, _ in counts],
        [fingerprint for _, fingerprint in counts],
        [latest[group].app for group in counts],
        [latest[group].report.thrown[-1].type for group in counts],
        [latest[group].report.culprit for group in counts],
        [latest[group].report.thrown[-1].value for group in counts],
        list(counts.values()),
        now,
        week,
    )
    after = {(row["tenant_id"], row["fingerprint"]): row["reports_of_week"] for row in rows}
    return Counter({group: after[group] - count for group, count in counts.items()})


async def _count_in_day(connection: Connection, reports: Sequence[Taken], *, day: date) -> None:
    counts = Counter(
        (
            *taken.group,
            taken.report.release,
            taken.report.agent.browser,
            taken.report.agent.browser_major or 0,
            taken.report.agent.os,
        )
        for taken in reports
    )
    await connection.execute(
        """
        INSERT INTO error_counts AS c (tenant_id, fingerprint, day, release, browser, browser_major,
                                       os, reports)
        SELECT tenant_id, fingerprint, $8, release, browser, browser_major, os, reports
          FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::int[], $6::text[],
                      $7::bigint[])
               AS r(tenant_id, fingerprint, release, browser, browser_major, os, reports)
         ORDER BY tenant_id, fingerprint, release, browser, browser_major, os
        ON CONFLICT (tenant_id, fingerprint, day, release, browser, browser_major, os) DO UPDATE
           SET reports = c.reports + excluded.reports
        """,
        *(list(column) for column in zip(*counts, strict=True)),
        list(counts.values()),
        day,
    )


async def _add_events(connection: Connection, events: Sequence[Taken], *, now: datetime) -> None:
    # Whoever sends an id a second time at the same moment says the same twice.
    await connection.execute(
        """
        INSERT INTO error_events (tenant_id, fingerprint, received_at, event_id, occurred_at,
                                  release, level, handled, browser, browser_major, os, os_major,
                                  tracking, thrown)
        SELECT tenant_id, fingerprint, $14, event_id, occurred_at, release, level, handled, browser,
               browser_major, os, os_major, tracking, thrown::jsonb
          FROM unnest($1::uuid[], $2::bytea[], $3::uuid[], $4::timestamptz[], $5::text[],
                      $6::text[], $7::boolean[], $8::text[], $9::int[], $10::text[], $11::int[],
                      $12::bytea[], $13::text[])
               AS e(tenant_id, fingerprint, event_id, occurred_at, release, level, handled, browser,
                    browser_major, os, os_major, tracking, thrown)
        ON CONFLICT DO NOTHING
        """,
        [taken.tenant_id for taken in events],
        [taken.fingerprint for taken in events],
        [taken.report.event_id for taken in events],
        [taken.report.occurred_at for taken in events],
        [taken.report.release for taken in events],
        [taken.report.level for taken in events],
        [taken.report.handled for taken in events],
        [taken.report.agent.browser for taken in events],
        [taken.report.agent.browser_major for taken in events],
        [taken.report.agent.os for taken in events],
        [taken.report.agent.os_major for taken in events],
        [taken.report.tracking for taken in events],
        [dumps([_told(each) for each in taken.report.thrown]) for taken in events],
        now,
    )


def _told(thrown: Thrown) -> Mapping[str, object]:
    # A call is written as a list, in the order of its fields.
    return {"type": thrown.type, "value": thrown.value, "frames": thrown.frames}


# -- housekeeping ------------------------------------------------------------------------------


async def make_weeks(worker: Pool, *, today: date) -> None:
    """Have this week's partitions and those of the coming ones."""
    await worker.execute("SELECT error_reports_make_weeks($1::date, $2)", today, WEEKS_AHEAD)


async def forget_old(worker: Pool, *, now: datetime) -> None:
    """Forget what is as old as it may become: whole weeks, groups that were not seen since.

    Each goes a day early, so that nothing is an hour late; of a week, all goes with its first day.
    """
    limit = now - KEPT + timedelta(days=1)
    await worker.execute(
        "SELECT error_reports_drop_weeks($1::date)", limit.date() + timedelta(days=1)
    )
    # Days for which no partition was made; the rows of nobody stay.
    await worker.execute(
        "DELETE FROM error_events WHERE received_at < $1 AND tenant_id <> $2", limit, NOBODY
    )
    await worker.execute(
        "DELETE FROM error_counts WHERE day <= $1 AND tenant_id <> $2", limit.date(), NOBODY
    )
    gone = f"DELETE {_ROWS_A_STATEMENT}"
    while gone == f"DELETE {_ROWS_A_STATEMENT}":
        gone = await worker.execute(
            """
            DELETE FROM error_groups
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM error_groups
                                     WHERE last_seen_at < $1 AND tenant_id <> $2
                                     LIMIT $3))
            """,
            limit,
            NOBODY,
            _ROWS_A_STATEMENT,
        )
