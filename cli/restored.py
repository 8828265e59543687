"""`keepword restored`: tells a service by hand that its database came back from an older copy."""

import asyncio
import os
from datetime import UTC, datetime

import asyncpg
from rich.console import Console

from chassis.database import connect
from chassis.epochs import DatabaseTooOldError, ensure_epoch
from chassis.relay import LEADER_LOCK
from cli.databases import rehearsed
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES
from devstack.provider import ROLE_VARIABLES


def run_restored(service: str, *, dry_run: bool) -> int:
    """Open an epoch in a service's database unless the service runs on it, or show whether."""
    console = Console()
    if service not in SERVICES:
        console.print(f"No such service: {service}. There are {', '.join(SERVICES)}.")
        return MISUSED
    variable = ROLE_VARIABLES["worker_url"].format(service.upper())
    url = os.environ.get(variable)
    if not url:
        console.print(f"Set {variable} to the address of the database with its worker's role.")
        return MISUSED
    try:
        return asyncio.run(_open_epoch(url, service, console, dry_run=dry_run))
    except DatabaseTooOldError as refused:
        console.print(f"[red]{service}: {refused}[/]")
    except (asyncpg.PostgresError, OSError) as failure:
        # Its message may repeat the address with the password in it.
        console.print(f"[red]{service}: {type(failure).__name__}.[/] Does the database run?")
    return FAILED


async def _open_epoch(url: str, service: str, console: Console, *, dry_run: bool) -> int:
    connection = await connect(url, name="keepword restored")
    try:
        # A relay that leads would go on in the epoch before, and what is said now would wait.
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
            console.print(f"[red]{service} runs on this database.[/] Stop all its replicas first.")
            return FAILED
        async with rehearsed(connection, dry_run=dry_run):
            epoch = await ensure_epoch(connection, wall=datetime.now(UTC), force=True)
    finally:
        await connection.close()
    if dry_run:
        console.print("An epoch would be opened. Nothing was changed.")
        return 0
    console.print(f"Epoch {epoch.number} is open. {service} makes up for the rest when it starts.")
    return 0
