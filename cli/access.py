"""`keepword access`: whose sites refuse us, and a person's word on it."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, assert_never
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.clock import Clock, OffsetClock, SystemClock
from chassis.database import Connection, connect
from cli.running import FAILED, MISUSED
from services.installer.domain.access import Leave, Reason, Wait, decide_departure
from services.installer.store import access as store
from services.installer.store.access import Hold, LostTenant

DATABASE_VARIABLES: Final = ("KEEPWORD_INSTALLER_DATABASE_URL", "KEEPWORD_DATABASE_URL")
"""Where the installer's database is: on any machine, and in the installer's own pod."""

_CLOCK_VARIABLE: Final = "KEEPWORD_CLOCK_OFFSET_FILE"
_PAGE: Final = 500
_LONGEST_NAME: Final = 80

_REASONS: Final = {
    Reason.ON_FORGE: "stays: it is installed by Forge",
    Reason.TOO_SOON: "waits for three refusals over three days",
    Reason.HELD: "waits: its app is held",
    Reason.NO_REPORT: "waits for the licence report, or a person",
    Reason.PAID_FOR: "stays: it may be paid for; a person may confirm",
}

_Story = Callable[[Connection, Clock, Console], Awaitable[int]]


def run_list() -> int:
    """Show which apps are held, and which tenants' sites refuse us."""
    return _run(_show_all)


def run_confirm(tenant_id: UUID, *, by: str, dry_run: bool) -> int:
    """Note a person's word that a tenant's site is gone, or show what would follow from it."""

    async def confirm(connection: Connection, clock: Clock, console: Console) -> int:
        lost = await store.lost_tenant(connection, tenant_id)
        if lost is None:
            console.print("No installed tenant of this id has a site that refuses us.")
            return FAILED
        if not dry_run and not await store.confirm_loss(
            connection, tenant_id, by=by, now=clock.now()
        ):
            console.print("The site has just let us in again; nothing was noted.")
            return FAILED
        confirmed = replace(lost, standing=replace(lost.standing, confirmed=True))
        console.print(_tenants([confirmed]))
        console.print("Nothing was noted." if dry_run else f"Noted, by {escape(by)}.")
        return 0

    return _by_somebody(by, confirm)


def run_release(addon_key: str, *, by: str, dry_run: bool) -> int:
    """Let an app's departures go on, or show which would."""

    async def release(connection: Connection, clock: Clock, console: Console) -> int:
        holds = {hold.addon_key for hold in await store.open_holds(connection)}
        if addon_key not in holds or not (
            dry_run or await store.release_hold(connection, addon_key, by=by, now=clock.now())
        ):
            console.print(f"{escape(addon_key)} is not held.")
            return FAILED
        freed = [
            replace(lost, standing=replace(lost.standing, held=False))
            async for lost in _all_lost(connection)
            if lost.addon_key == addon_key
        ]
        leaving = [lost for lost in freed if isinstance(decide_departure(lost.standing), Leave)]
        console.print(_tenants(leaving))
        console.print(
            f"{len(leaving)} of {len(freed)} lost tenants leave when the installer looks next."
        )
        console.print("Nothing was released." if dry_run else f"Released, by {escape(by)}.")
        return 0

    return _by_somebody(by, release)


def database_url(environment: Mapping[str, str]) -> str | None:
    """Read where the installer's database is."""
    return next((url for name in DATABASE_VARIABLES if (url := environment.get(name))), None)


def _by_somebody(by: str, story: _Story) -> int:
    if not 0 < len(by.strip()) <= _LONGEST_NAME:
        Console().print("Say with --by who decides this, in a few letters.")
        return MISUSED
    return _run(story)


def _run(story: _Story) -> int:
    console = Console()
    url = database_url(os.environ)
    if url is None:
        console.print(
            f"Set {DATABASE_VARIABLES[0]} to the address of the installer's database. In the"
            f" installer's own pod {DATABASE_VARIABLES[1]} is it already.",
            soft_wrap=True,
        )
        return MISUSED
    try:
        return asyncio.run(_tell(story, url, console))
    except asyncpg.UndefinedTableError:
        console.print("[red]This is not the installer's database[/], or it is not migrated.")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as failure:
        # Its message may repeat the address with the password in it.
        console.print(
            f"[red]{type(failure).__name__}.[/] Does the URL name the installer's database, and a"
            " role that may enter it?",
            soft_wrap=True,
        )
    return FAILED


async def _tell(story: _Story, url: str, console: Console) -> int:
    connection = await connect(url, name="keepword access")
    try:
        return await story(connection, _clock(os.environ), console)
    finally:
        await connection.close()


async def _show_all(connection: Connection, _: Clock, console: Console) -> int:
    holds = await store.open_holds(connection)
    if holds:
        console.print(_holds(holds))
    lost = [each async for each in _all_lost(connection)]
    if lost:
        console.print(_tenants(lost))
    console.print(
        f"Held apps: {len(holds)}. Installed tenants whose sites refuse us: {len(lost)}.",
        soft_wrap=True,
    )
    return 0


async def _all_lost(connection: Connection) -> AsyncIterator[LostTenant]:
    after: UUID | None = None
    while page := await store.lost_tenants(connection, after=after, limit=_PAGE):
        for lost in page:
            yield lost
        after = page[-1].tenant_id


def _holds(holds: Iterable[Hold]) -> Table:
    table = Table("held app", "since", "lost", "of")
    for hold in holds:
        table.add_row(hold.addon_key, _moment(hold.held_at), str(hold.losses), str(hold.asked))
    return table


def _tenants(tenants: Iterable[LostTenant]) -> Table:
    table = Table("tenant", "app", "losses", "since", "last seen", "subscription", "what follows")
    for lost in tenants:
        standing = lost.standing
        table.add_row(
            str(lost.tenant_id),
            lost.addon_key,
            str(standing.losses),
            _moment(standing.first_lost_at),
            _moment(standing.last_seen_at),
            standing.subscription,
            _what_follows(lost),
        )
    return table


def _what_follows(lost: LostTenant) -> str:
    decision = decide_departure(lost.standing)
    match decision:
        case Leave(at):
            return f"left {_moment(at)}, noted when the installer looks next"
        case Wait(reason):
            return _REASONS[reason]
        case other:
            assert_never(other)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _clock(environment: Mapping[str, str]) -> Clock:
    moved = environment.get(_CLOCK_VARIABLE)
    return OffsetClock(Path(moved)) if moved else SystemClock()
