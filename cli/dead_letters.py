"""`keepword dead-letters`: what services gave up, and a person's word on it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.markup import escape

from chassis.clock import Clock
from chassis.database import Connection
from chassis.dead_letters import acts
from chassis.dead_letters.acts import NotPossible, Opened, Shown, Word
from chassis.dead_letters.written import State
from cli.databases import database_variable, named_urls, rehearsed, run_on
from cli.rows import show_rows
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES

_SHOWN: Final = 500
_PATIENCE_SECONDS: Final = 15.0
_LOOK_EVERY_SECONDS: Final = 0.1

_GROUP_COLUMNS: Final = ("service", "group", "type", "reason", "oldest", "states")
_LETTER_COLUMNS: Final = ("letter", "type", "since", "state", "tries", "reason")

Act = Callable[[Connection, datetime], Awaitable[Sequence[Shown]]]


def run_list(services: Sequence[str], *, group: str | None) -> int:
    """Show the dead letters of services by their causes, or those of one cause."""
    console = Console()
    if not _are_services(services, console):
        return MISUSED
    named = services or list(named_urls(os.environ))
    if not named:
        names = ", ".join(map(database_variable, SERVICES))
        console.print(
            f"No database is named. Set one of {names}; in a service's own pod give its name.",
            soft_wrap=True,
        )
        return MISUSED
    return max(run_on(service, _list(service, group)) for service in named)


def run_show(service: str, letter_id: UUID, *, body_only: bool) -> int:
    """Show one letter with all that is known of it, or its body alone."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        found = await acts.opened(connection, letter_id)
        if found is None:
            console.print("There is no such dead letter.")
            return FAILED
        if body_only:
            print(found.text)  # noqa: T201 - Rich would wrap it
        else:
            _tell(console, found)
        return 0

    return _on(service, show)


def run_edit(
    service: str, letter_id: UUID, file: Path, *, by: str, reason: str, dry_run: bool
) -> int:
    """Keep a mended body as a letter's next version."""
    try:
        body = file.read_bytes()
    except OSError as error:
        Console().print(f"The file cannot be read: {type(error).__name__}.")
        return MISUSED

    async def edit(connection: Connection, now: datetime) -> Sequence[Shown]:
        await acts.edit(connection, letter_id, body, word=Word(by, reason), now=now)
        return list((await acts.states_of(connection, [letter_id])).values())

    return _act(service, edit, "It can be read, and is kept as the next version.", dry_run=dry_run)


def run_redrive(service: str, which: str, *, by: str, reason: str, dry_run: bool) -> int:
    """Have a letter or a group tried again, and say what becomes of it."""

    async def redrive(connection: Connection, now: datetime) -> Sequence[Shown]:
        return await acts.redrive(connection, _chosen(which), word=Word(by, reason), now=now)

    return _act(
        service, redrive, "To be tried again.", dry_run=dry_run, afterwards=_wait_for_the_service
    )


def run_discard(service: str, which: str, *, by: str, reason: str, dry_run: bool) -> int:
    """Put a letter or a group aside."""

    async def discard(connection: Connection, now: datetime) -> Sequence[Shown]:
        return await acts.discard(connection, _chosen(which), word=Word(by, reason), now=now)

    return _act(service, discard, "Put aside; what waited behind goes on.", dry_run=dry_run)


def _list(service: str, group: str | None) -> Callable[..., Awaitable[int]]:
    async def show(connection: Connection, _: Clock, console: Console) -> int:
        if group is not None:
            found = await acts.letters(connection, group, limit=_SHOWN)
            show_rows(console, _LETTER_COLUMNS, [_row(service, each) for each in found])
            return 0
        rows = [
            {
                "service": service,
                "group": each.fingerprint,
                "kind": each.kind,
                "type": each.type,
                "handler": each.handler,
                "reason": each.reason,
                "oldest": each.oldest_at,
                "states": each.counts,
            }
            for each in await acts.groups(connection, limit=_SHOWN)
        ]
        show_rows(console, _GROUP_COLUMNS, rows)
        if console.is_terminal and not rows:
            console.print(f"{service} has given nothing up.")
        return 0

    return show


def _act(
    service: str,
    act: Act,
    done: str,
    *,
    dry_run: bool,
    afterwards: Callable[[Connection, Console, Sequence[Shown]], Awaitable[int]] | None = None,
) -> int:
    """Do what a person wants in one transaction, which a dry run takes back."""

    async def story(connection: Connection, clock: Clock, console: Console) -> int:
        try:
            async with rehearsed(connection, dry_run=dry_run):
                about = await act(connection, clock.now())
        except NotPossible as refused:
            console.print(str(refused), soft_wrap=True)
            return FAILED
        show_rows(console, _LETTER_COLUMNS, [_row(service, each) for each in about])
        if console.is_terminal:
            console.print("Nothing was changed." if dry_run else done)
        if dry_run or afterwards is None:
            return 0
        return await afterwards(connection, console, about)

    return _on(service, story)


async def _wait_for_the_service(
    connection: Connection, console: Console, wanted: Sequence[Shown]
) -> int:
    ids = [each.dead_letter_id for each in wanted]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        now = list((await acts.states_of(connection, ids)).values())
        waiting = [each for each in now if each.state is State.REDRIVING]
        if not waiting or time.monotonic() > deadline:
            break
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    failed = [each for each in now if each.state is State.OPEN]
    for each in failed:
        console.print(f"{each.dead_letter_id} failed again: {escape(each.reason)}", soft_wrap=True)
    if waiting:
        console.print(
            f"Not tried yet: {len(waiting)}. The service tries them as soon as it runs.",
            soft_wrap=True,
        )
    if console.is_terminal:
        console.print(f"Settled: {len(now) - len(waiting) - len(failed)} of {len(ids)}.")
    return FAILED if failed or waiting else 0


def _on(service: str, story: Callable[..., Awaitable[int]]) -> int:
    if not _are_services([service], Console()):
        return MISUSED
    return run_on(service, story)


def _are_services(names: Sequence[str], console: Console) -> bool:
    strangers = [name for name in names if name not in SERVICES]
    if strangers:
        console.print(f"There is no service {escape(strangers[0])}. Say {', '.join(SERVICES)}.")
    return not strangers


def _chosen(which: str) -> UUID | str:
    try:
        return UUID(which)
    except ValueError:
        return which


def _row(service: str, letter: Shown) -> dict[str, Any]:
    return {
        "service": service,
        "letter": letter.dead_letter_id,
        "group": letter.fingerprint,
        "kind": letter.kind,
        "type": letter.type,
        "since": letter.first_failed_at,
        "state": letter.state,
        "step": letter.step,
        "purge": letter.purge_id,
        "tenant": letter.tenant_id,
        "tries": letter.attempts,
        "reason": letter.reason,
        "outcome": letter.outcome,
        "version": letter.version,
    }


def _tell(console: Console, found: Opened) -> None:
    letter = found.letter
    for name, value in (
        ("group", letter.fingerprint),
        ("what", f"{letter.kind}, {letter.type or 'unknown type'}"),
        ("from", f"{letter.topic}, partition {letter.partition}, offset {letter.offset}"),
        ("given up by", f"{letter.handler} after {letter.attempts} attempts"),
        ("why", letter.reason),
        ("tenant", letter.tenant_id),
        ("purge", letter.purge_id),
        ("step", letter.step),
        ("event id", letter.ce_id),
        ("since", f"{letter.first_failed_at:%Y-%m-%d %H:%M:%S}"),
        ("state", letter.state if letter.outcome is None else f"{letter.state}: {letter.outcome}"),
        ("version", f"{letter.version}{'' if letter.version == 1 else ', edited'}"),
    ):
        if value is not None:
            console.print(f"{name:<12} {escape(str(value))}", soft_wrap=True, highlight=False)
    for done in found.acts:
        console.print(
            f"{done.act:<12} {done.at:%Y-%m-%d %H:%M} by {escape(done.by)}: {escape(done.reason)}",
            soft_wrap=True,
            highlight=False,
        )
    console.print("")
    print(found.text)  # noqa: T201 - Rich would wrap it
