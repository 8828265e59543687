"""Runs a command on a service's database, as the environment names it, and says what went wrong."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console

from chassis.clock import Clock, OffsetClock, SystemClock
from chassis.database import Connection, open_pool
from chassis.unit_of_work import UnitOfWork, Units
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES

LONGEST_NAME: Final = 80

POD_VARIABLE: Final = "KEEPWORD_DATABASE_URL"
_CLOCK_VARIABLE: Final = "KEEPWORD_CLOCK_OFFSET_FILE"

Story = Callable[[Connection, Clock, Console], Awaitable[int]]
UnitsStory = Callable[[Units[Any], Console], Awaitable[int]]


def database_variable(service: str) -> str:
    """Return the variable that names a service's database on any machine."""
    return f"KEEPWORD_{service.upper()}_DATABASE_URL"


def database_url(service: str, environment: Mapping[str, str]) -> str | None:
    """Read where a service's database is: on any machine, or in the service's own pod."""
    names = (database_variable(service), POD_VARIABLE)
    return next((url for name in names if (url := environment.get(name))), None)


def named_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Read where the services' databases are, of all that are named for any machine."""
    named = {service: environment.get(database_variable(service)) for service in SERVICES}
    return {service: url for service, url in named.items() if url}


def run_on(service: str, story: Story) -> int:
    """Tell a story on a service's database; return the exit status, advice where it fails."""
    return run_units_on(service, _on_a_connection(story))


def run_units_on(service: str, story: UnitsStory) -> int:
    """The same in units of work; what is said in them the service's own relay publishes."""
    console = Console()
    url = database_url(service, os.environ)
    if url is None:
        console.print(
            f"Set {database_variable(service)} to the address of the {service}'s database. In the"
            f" {service}'s own pod {POD_VARIABLE} is it already.",
            soft_wrap=True,
        )
        return MISUSED
    try:
        return asyncio.run(_tell(service, story, url, console))
    except asyncpg.UndefinedTableError:
        console.print(f"[red]This is not the {service}'s database[/], or it is not migrated.")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as failure:
        console.print(f"[red]{type(failure).__name__}.[/] {advice(service)}", soft_wrap=True)
    return FAILED


def run_by_somebody(service: str, by: str, story: Story) -> int:
    """The same as `run_on` for what a person decides, who has to be named."""
    return run_units_by_somebody(service, by, _on_a_connection(story))


def run_units_by_somebody(service: str, by: str, story: UnitsStory) -> int:
    """The same in units of work."""
    if not 0 < len(by.strip()) <= LONGEST_NAME:
        Console().print("Say with --by who decides this, in a few letters.")
        return MISUSED
    return run_units_on(service, story)


class _TakenBackError(Exception):
    """A rehearsal is over."""


def _take_back_if(dry_run: bool) -> None:
    if dry_run:
        raise _TakenBackError


@asynccontextmanager
async def rehearsed(connection: Connection, *, dry_run: bool) -> AsyncIterator[None]:
    """Do something in one transaction, which a dry run takes back at its end."""
    try:
        async with connection.transaction():
            yield
            _take_back_if(dry_run)
    except _TakenBackError:
        pass


@asynccontextmanager
async def rehearsed_unit(units: Units[Any], *, dry_run: bool) -> AsyncIterator[UnitOfWork[Any]]:
    """The same in a unit of work: a dry run says nothing either."""
    try:
        async with units.begin() as uow:
            yield uow
            _take_back_if(dry_run)
    except _TakenBackError:
        pass


def advice(service: str) -> str:
    """Say what to look at where a database refuses; its own words may repeat the password."""
    return f"Does the URL name the {service}'s database, and a role that may enter it?"


def clock_of(environment: Mapping[str, str]) -> Clock:
    """Read the clock that the services go by."""
    moved = environment.get(_CLOCK_VARIABLE)
    return OffsetClock(Path(moved)) if moved else SystemClock()


def shown(moment: datetime) -> str:
    """Write a time for a person."""
    return f"{moment:%Y-%m-%d %H:%M}"


def _on_a_connection(story: Story) -> UnitsStory:
    async def told(units: Units[Any], console: Console) -> int:
        async with units.pool.acquire() as connection:
            return await story(connection, units.clock, console)

    return told


async def _tell(service: str, story: UnitsStory, url: str, console: Console) -> int:
    async with await open_pool(url, name="keepword", max_size=1) as pool:
        units: Units[Any] = Units(service, pool, clock_of(os.environ), None, lambda: None)
        return await story(units, console)
