"""Reaches the installer's database for commands that a person decides by."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console

from chassis.clock import Clock, OffsetClock, SystemClock
from chassis.database import open_pool
from chassis.unit_of_work import Units
from cli.running import FAILED, MISUSED

DATABASE_VARIABLES: Final = ("KEEPWORD_INSTALLER_DATABASE_URL", "KEEPWORD_DATABASE_URL")
"""Where the installer's database is: on any machine, and in the installer's own pod."""

_CLOCK_VARIABLE: Final = "KEEPWORD_CLOCK_OFFSET_FILE"
_LONGEST_NAME: Final = 80

Story = Callable[[Units[Any], Console], Awaitable[int]]


def tell(story: Story, *, name: str) -> int:
    """Run a story on the installer's database; return the exit status.

    ``name`` is by whom the database sees itself used. What is said in a
    transaction the installer's own relay publishes.
    """
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
        return asyncio.run(_tell(story, url, name, console))
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


def tell_by_somebody(by: str, story: Story, *, name: str) -> int:
    """Run a story that somebody answers for by name."""
    if not 0 < len(by.strip()) <= _LONGEST_NAME:
        Console().print("Say with --by who decides this, in a few letters.")
        return MISUSED
    return tell(story, name=name)


def database_url(environment: Mapping[str, str]) -> str | None:
    """Read where the installer's database is."""
    return next((url for name in DATABASE_VARIABLES if (url := environment.get(name))), None)


def shown(moment: datetime) -> str:
    """Write a time for a person."""
    return f"{moment:%Y-%m-%d %H:%M}"


async def _tell(story: Story, url: str, name: str, console: Console) -> int:
    async with await open_pool(url, name=name, max_size=1) as pool:
        units: Units[Any] = Units("installer", pool, _clock(os.environ), None, lambda: None)
        return await story(units, console)


def _clock(environment: Mapping[str, str]) -> Clock:
    moved = environment.get(_CLOCK_VARIABLE)
    return OffsetClock(Path(moved)) if moved else SystemClock()
