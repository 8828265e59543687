"""Runs a command on a service's database, as the environment names it, and says what went wrong."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import asyncpg
from rich.console import Console

from chassis.clock import Clock, OffsetClock, SystemClock
from chassis.database import Connection, connect
from cli.running import FAILED, MISUSED

LONGEST_NAME: Final = 80

_POD_VARIABLE: Final = "KEEPWORD_DATABASE_URL"
_CLOCK_VARIABLE: Final = "KEEPWORD_CLOCK_OFFSET_FILE"

Story = Callable[[Connection, Clock, Console], Awaitable[int]]


def database_variable(service: str) -> str:
    """Return the variable that names a service's database on any machine."""
    return f"KEEPWORD_{service.upper()}_DATABASE_URL"


def database_url(service: str, environment: Mapping[str, str]) -> str | None:
    """Read where a service's database is: on any machine, or in the service's own pod."""
    names = (database_variable(service), _POD_VARIABLE)
    return next((url for name in names if (url := environment.get(name))), None)


def run_on(service: str, story: Story) -> int:
    """Tell a story on a service's database; return the exit status, advice where it fails."""
    console = Console()
    url = database_url(service, os.environ)
    if url is None:
        console.print(
            f"Set {database_variable(service)} to the address of the {service}'s database. In the"
            f" {service}'s own pod {_POD_VARIABLE} is it already.",
            soft_wrap=True,
        )
        return MISUSED
    try:
        return asyncio.run(_tell(story, url, console))
    except asyncpg.UndefinedTableError:
        console.print(f"[red]This is not the {service}'s database[/], or it is not migrated.")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as failure:
        console.print(f"[red]{type(failure).__name__}.[/] {advice(service)}", soft_wrap=True)
    return FAILED


def run_by_somebody(service: str, by: str, story: Story) -> int:
    """The same for what a person decides, who has to be named."""
    if not 0 < len(by.strip()) <= LONGEST_NAME:
        Console().print("Say with --by who decides this, in a few letters.")
        return MISUSED
    return run_on(service, story)


def advice(service: str) -> str:
    """Say what to look at where a database refuses; its own words may repeat the password."""
    return f"Does the URL name the {service}'s database, and a role that may enter it?"


def clock_of(environment: Mapping[str, str]) -> Clock:
    """Read the clock that the services go by."""
    moved = environment.get(_CLOCK_VARIABLE)
    return OffsetClock(Path(moved)) if moved else SystemClock()


async def _tell(story: Story, url: str, console: Console) -> int:
    connection = await connect(url, name="keepword")
    try:
        return await story(connection, clock_of(os.environ), console)
    finally:
        await connection.close()
