"""`keepword migrate`: databases to their present shape, by their owners' URLs."""

import asyncio
import os
from collections.abc import Mapping, Sequence

import asyncpg
from rich.console import Console

from chassis.database import connect
from chassis.migrations import migrate_all, newest_versions
from chassis.versions import DatabaseTooNewError
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES
from devstack.provider import ROLE_VARIABLES

_VARIABLE = ROLE_VARIABLES["owner_url"]


def run_migrate(services: Sequence[str], *, dry_run: bool) -> int:
    """Migrate the named services' databases, or all whose owner's URL is set; or show from where."""
    console = Console()
    if unknown := [service for service in services if service not in SERVICES]:
        console.print(f"No such service: {', '.join(unknown)}. There are {', '.join(SERVICES)}.")
        return MISUSED
    urls = owner_urls(os.environ)
    if missing := [service for service in services if service not in urls]:
        names = ", ".join(_VARIABLE.format(service.upper()) for service in missing)
        console.print(f"Set {names} to the address of the database with its owner's role.")
        return MISUSED
    wanted = {service: urls[service] for service in services or urls}
    if not wanted:
        names = ", ".join(_VARIABLE.format(service.upper()) for service in SERVICES)
        console.print(f"No database is named. Set one of {names}.")
        return MISUSED
    for service, url in wanted.items():
        try:
            if dry_run:
                asyncio.run(_show(service, url, console))
                continue
            asyncio.run(migrate_all({service: url}))
        except (asyncpg.PostgresError, OSError) as failure:
            # Its message may repeat the address with the password in it.
            console.print(
                f"[red]{service}: {type(failure).__name__}.[/] Does the URL name a database that"
                " runs, and the role that owns it?"
            )
            return FAILED
        except DatabaseTooNewError as newer:
            console.print(f"[red]{service} is of a newer release[/]: {newer}.", soft_wrap=True)
            return FAILED
        console.print(f"{service} is up to date")
    return 0


async def _show(service: str, url: str, console: Console) -> None:
    connection = await connect(url, name="keepword migrate")
    try:
        for table, newest in newest_versions(service).items():
            there = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table)
            known = await connection.fetchval(f"SELECT version_num FROM {table}") if there else None  # noqa: S608 - one of two names of ours
            word = "is there" if known == newest else f"would follow {known or 'nothing'}"
            console.print(f"{service}, {table}: {newest} {word}", highlight=False)
    finally:
        await connection.close()


def owner_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Read the owners' URLs that the environment gives, by service."""
    given = {service: environment.get(_VARIABLE.format(service.upper())) for service in SERVICES}
    return {service: url for service, url in given.items() if url}
