"""`keepword migrate`: databases to their present shape, by their owners' URLs."""

import asyncio
import os
from collections.abc import Mapping, Sequence

import asyncpg
from rich.console import Console

from chassis.migrations import migrate_all
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES
from devstack.provider import ROLE_VARIABLES

_VARIABLE = ROLE_VARIABLES["owner_url"]


def run_migrate(services: Sequence[str]) -> int:
    """Migrate the named services' databases, or all whose owner's URL is set."""
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
            asyncio.run(migrate_all({service: url}))
        except (asyncpg.PostgresError, OSError) as failure:
            # Its message may repeat the address with the password in it.
            console.print(
                f"[red]{service}: {type(failure).__name__}.[/] Does the URL name a database that"
                " runs, and the role that owns it?"
            )
            return FAILED
        console.print(f"{service} is up to date")
    return 0


def owner_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Read the owners' URLs that the environment gives, by service."""
    given = {service: environment.get(_VARIABLE.format(service.upper())) for service in SERVICES}
    return {service: url for service, url in given.items() if url}
