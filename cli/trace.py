"""`keepword trace`: the story of a tenant over all services, as one timeline that names nobody.

Of mails there are counts, of people's decisions that there was one and when: who took them and why
stays where it is. What an erasure has taken cannot be told any more; what is said about it can.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from rich.console import Console

from chassis.database import Connection, connect
from cli.databases import advice, database_variable, named_urls
from cli.rows import show_rows
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES

COLUMNS: Final = ("at", "service", "what", "about")

# What every service has. Each statement gives when, what and about what, of the tenant $1.
_PLUMBING: Final = (
    # Business time, which is in the message: the row itself is of the wall's.
    """
    SELECT (SELECT h ->> 1 FROM jsonb_array_elements(headers) AS h
             WHERE h ->> 0 = 'ce_time')::timestamptz AS at,
           'said ' || split_part(type, '.', 2) AS what,
           jsonb_build_object('topic', topic, 'event', ce_id, 'because of',
               (SELECT h ->> 1 FROM jsonb_array_elements(headers) AS h
                 WHERE h ->> 0 = 'ce_causationid'),
               'version', CASE WHEN kind = 'state'
                               THEN convert_from(payload, 'UTF8')::jsonb -> 'version' END) AS about
      FROM outbox
     WHERE tenant_id = $1 AND payload IS NOT NULL
    """,
    """
    SELECT written_at AS at, 'said that nothing is left to know' AS what,
           jsonb_build_object('topic', topic, 'event', ce_id) AS about
      FROM outbox
     WHERE tenant_id = $1 AND payload IS NULL
    """,
    """
    SELECT first_failed_at AS at,
           CASE WHEN attempts = 0 THEN 'parked ' ELSE 'gave up ' END
               || coalesce(split_part(type, '.', 2), 'what it could not read') AS what,
           jsonb_build_object('letter', dead_letter_id, 'handler', handler, 'why', reason) AS about
      FROM dead_letters
     WHERE tenant_id = $1
    """,
    """
    SELECT settled_at AS at, 'settled a dead letter: ' || state AS what,
           jsonb_build_object('letter', dead_letter_id) AS about
      FROM dead_letters
     WHERE tenant_id = $1 AND settled_at IS NOT NULL
    """,
    """
    SELECT a.at, 'a person ' || a.act || ' a dead letter' AS what,
           jsonb_build_object('letter', a.dead_letter_id) AS about
      FROM dead_letter_acts a
      JOIN dead_letters d USING (dead_letter_id)
     WHERE d.tenant_id = $1
    """,
    """
    SELECT min(erased_at) AS at, 'set the guard' AS what,
           jsonb_build_object('classes', jsonb_agg(data_class ORDER BY data_class),
                              'purge', purge_id) AS about
      FROM erased_tenants
     WHERE tenant_id = $1
     GROUP BY purge_id
    """,
    """
    SELECT queued_at AS at, 'was ordered to ' || step AS what,
           jsonb_build_object('purge', purge_id, 'ledger', ledger_number) AS about
      FROM erasures
     WHERE tenant_id = $1
    """,
    """
    SELECT erased_at AS at, 'carried out ' || step AS what,
           jsonb_build_object('rows', counts, 'attempts', attempts) AS about
      FROM erasures
     WHERE tenant_id = $1 AND erased_at IS NOT NULL
    """,
)
_OWN: Final[Mapping[str, Sequence[str]]] = {
    "installer": (
        """
        SELECT at, 'heard: ' || what AS what, '{}'::jsonb AS about
          FROM timelines
         WHERE tenant_id = $1
        """,
        """
        SELECT created_at AS at, 'made the tenant' AS what,
               jsonb_build_object('app', addon_key, 'platform', platform, 'status', status) AS about
          FROM tenants
         WHERE tenant_id = $1
        """,
        """
        SELECT accepted_at AS at, 'accepted a purge' AS what,
               jsonb_build_object('purge', purge_id, 'classes', classes) AS about
          FROM accepted_purges
         WHERE tenant_id = $1
        """,
        """
        SELECT linked_at AS at, 'a person linked two tenants' AS what,
               jsonb_build_object('old', old_tenant_id, 'new', tenant_id) AS about
          FROM links
         WHERE $1 IN (tenant_id, old_tenant_id)
        """,
    ),
    "config": (
        """
        SELECT asked_at AS at, 'the customer asked for erasure' AS what,
               jsonb_build_object('wish', wish_id) AS about
          FROM erasure_requests
         WHERE tenant_id = $1
        """,
        """
        SELECT withdrawn_at AS at, 'the customer took that back' AS what,
               jsonb_build_object('wish', wish_id) AS about
          FROM erasure_requests
         WHERE tenant_id = $1 AND withdrawn_at IS NOT NULL
        """,
        """
        SELECT noted_at AS at, 'content moves: ' || state AS what,
               jsonb_build_object('to', merged_into, 'rows', rows_moved) AS about
          FROM moves
         WHERE tenant_id = $1
        """,
    ),
    "purger": (
        """
        SELECT clock_started_at AS at, 'the clock started: ' || clock AS what,
               jsonb_build_object('purge', purge_id, 'scope', scope, 'starts', start_at,
                                  'to be done by', erase_by) AS about
          FROM purges
         WHERE tenant_id = $1
        """,
        """
        SELECT asked_at AS at, 'asked the installer' AS what,
               jsonb_build_object('purge', purge_id, 'times', times_asked) AS about
          FROM purges
         WHERE tenant_id = $1 AND asked_at IS NOT NULL
        """,
        """
        SELECT s.erased_at AS at, 'heard that it is done: ' || s.step AS what,
               jsonb_build_object('purge', s.purge_id, 'rows', s.counts) AS about
          FROM steps s
          JOIN purges p USING (purge_id)
         WHERE p.tenant_id = $1 AND s.erased_at IS NOT NULL
        """,
        """
        SELECT (l.entry::jsonb ->> 'at')::timestamptz AS at, 'wrote into the ledger: ' || l.part AS what,
               jsonb_build_object('purge', l.purge_id, 'ledger', l.number) AS about
          FROM ledger l
         WHERE l.purge_id IN (SELECT purge_id FROM purges WHERE tenant_id = $1)
        """,
        """
        SELECT e.noted_at AS at, 'noted that it may be late: ' || e.level AS what,
               jsonb_build_object('purge', e.purge_id) AS about
          FROM escalations e
          JOIN purges p USING (purge_id)
         WHERE p.tenant_id = $1
        """,
        """
        SELECT recorded_at AS at, 'noted a wish of ' || made_by AS what,
               jsonb_build_object('wish', wish_id, 'withdrawn', withdrawn_at) AS about
          FROM wishes
         WHERE tenant_id = $1
        """,
        """
        SELECT placed_at AS at, 'a person placed a hold' AS what,
               jsonb_build_object('hold', hold_id, 'classes', classes, 'released', released_at) AS about
          FROM legal_holds
         WHERE tenant_id = $1
        """,
    ),
    "notifier": (
        """
        SELECT min(planned_at) AS at, 'mails planned: ' || kind AS what,
               jsonb_build_object('campaign', campaign_id, 'mails', count(*)) AS about
          FROM deliveries
         WHERE tenant_id = $1
         GROUP BY campaign_id, kind
        """,
        """
        SELECT max(accepted_at) AS at, 'mails taken by a server: ' || kind AS what,
               jsonb_build_object('campaign', campaign_id, 'mails', count(*)) AS about
          FROM deliveries
         WHERE tenant_id = $1 AND accepted_at IS NOT NULL
         GROUP BY campaign_id, kind
        """,
        """
        SELECT max(bounced_at) AS at, 'mails came back: ' || kind AS what,
               jsonb_build_object('campaign', campaign_id, 'mails', count(*)) AS about
          FROM deliveries
         WHERE tenant_id = $1 AND bounced_at IS NOT NULL
         GROUP BY campaign_id, kind
        """,
        """
        SELECT noted_at AS at, 'has to tell the tenant''s people: ' || event AS what,
               jsonb_build_object('campaign', campaign_id) AS about
          FROM notices
         WHERE tenant_id = $1
        """,
        """
        SELECT opened_at AS at, 'support tickets to be erased' AS what,
               jsonb_build_object('purge', purge_id, 'state', state, 'left', tickets_left) AS about
          FROM ticket_erasures
         WHERE tenant_id = $1
        """,
        """
        SELECT done_at AS at, 'support tickets are gone' AS what,
               jsonb_build_object('purge', purge_id) AS about
          FROM ticket_erasures
         WHERE tenant_id = $1 AND done_at IS NOT NULL
        """,
        """
        SELECT noted_at AS at, 'people move: ' || state AS what,
               jsonb_build_object('to', merged_into) AS about
          FROM moves
         WHERE tenant_id = $1
        """,
        """
        SELECT seen_at AS at, 'a policy notice was seen in the app' AS what,
               jsonb_build_object('revision', number) AS about
          FROM policy_sights
         WHERE tenant_id = $1
        """,
    ),
}
# An answer to an erasure is no longer known by its tenant where it was heard, but by its id.
_HEARD: Final = """
    SELECT received_at AS at, ce_id
      FROM inbox
     WHERE ce_id = ANY($1::uuid[])
"""

# Of a state it is kept how far each reader has come, and not when.
_FOLLOWED: Final = """
    SELECT topic, epoch, n
      FROM followed_states
     WHERE tenant_id = $1
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened."""

    at: datetime
    service: str
    what: str
    about: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """Give it for a table or a program."""
        return {
            "at": self.at,
            "service": self.service,
            "what": self.what,
            "about": {name: each for name, each in self.about.items() if each is not None},
        }


@dataclass(slots=True)
class Story:
    """What was found, and where nobody could look."""

    moments: list[Moment] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_trace(tenant_id: UUID) -> int:
    """Tell the story of a tenant, as far as the databases that are named know it."""
    console, aside = Console(), Console(stderr=True)
    urls = named_urls(os.environ)
    if not urls:
        names = ", ".join(map(database_variable, SERVICES))
        console.print(f"No database is named. Set one of {names}.", soft_wrap=True)
        return MISUSED
    story = asyncio.run(tell(urls, tenant_id))
    show_rows(console, COLUMNS, [moment.row() for moment in story.moments])
    for service, why in story.failed.items():
        aside.print(f"[red]{service}:[/] {why}", soft_wrap=True)
    missing = [service for service in SERVICES if service not in urls]
    if missing:
        aside.print(f"Not the whole of it: not looked at: {', '.join(missing)}.", soft_wrap=True)
    if not story.moments:
        aside.print("Nothing is known of a tenant of this id.")
    return FAILED if story.failed or not story.moments else 0


async def tell(urls: Mapping[str, str], tenant_id: UUID) -> Story:
    """Gather what each service knows, the earliest first; a database that refuses is named."""
    story = Story()
    connections: dict[str, Connection] = {}
    try:
        for service, url in urls.items():
            try:
                connections[service] = await connect(url, name="keepword trace")
                story.moments += await _own(connections[service], service, tenant_id)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as failure:
                story.failed[service] = f"{type(failure).__name__}. {advice(service)}"
        said = [moment for moment in story.moments if "event" in moment.about]
        for service, connection in connections.items():
            if service not in story.failed:
                story.moments += await _heard(connection, service, said)
                story.moments += await _followed(connection, service, tenant_id, said)
    finally:
        for connection in connections.values():
            await connection.close()
    story.moments.sort(key=lambda moment: moment.at)
    return story


async def _own(connection: Connection, service: str, tenant_id: UUID) -> list[Moment]:
    async with connection.transaction(readonly=True):
        return [
            Moment(row["at"], service, row["what"], row["about"])
            for statement in (*_PLUMBING, *_OWN[service])
            for row in await connection.fetch(statement, tenant_id)
        ]


async def _heard(connection: Connection, service: str, said: Sequence[Moment]) -> list[Moment]:
    by_id = {UUID(moment.about["event"]): moment for moment in said}
    rows = await connection.fetch(_HEARD, list(by_id))
    return [
        Moment(
            row["at"],
            service,
            f"handled {by_id[row['ce_id']].what.removeprefix('said ')}",
            {"of": by_id[row["ce_id"]].service, "event": str(row["ce_id"])},
        )
        for row in rows
    ]


async def _followed(
    connection: Connection, service: str, tenant_id: UUID, said: Sequence[Moment]
) -> list[Moment]:
    by_version = {
        (moment.about["topic"], version["epoch"], version["n"]): moment
        for moment in said
        if (version := moment.about.get("version"))
    }
    found = [
        by_version.get((row["topic"], row["epoch"], row["n"]))
        for row in await connection.fetch(_FOLLOWED, tenant_id)
    ]
    return [
        Moment(
            moment.at,
            service,
            f"has followed {moment.what.removeprefix('said ')}, soon after",
            {"of": moment.service, "event": moment.about["event"]},
        )
        for moment in found
        if moment
    ]
