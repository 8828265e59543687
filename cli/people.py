"""`keepword people`: requests that staff have to answer, and answering them for an address."""

import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.clock import Clock
from chassis.database import Connection
from chassis.keys import BadKeysFile, KeyEncryptionKeys, TenantKeys
from chassis.unit_of_work import UnitOfWork, Units
from cli.databases import run_on, run_units_on
from cli.privacy import CONTROLLER_FILE
from cli.record import load_controller
from cli.running import FAILED, MISUSED
from devstack.private_files import write_private
from services.notifier import requests
from services.notifier.domain.requests import (
    Answerer,
    Kept,
    PersonRequest,
    RequestKind,
    address_in,
    wants_answer,
)
from services.notifier.letters.exports import as_json, as_pdf
from services.notifier.store import requests as store

_SHOWN: Final = 500
_KEYS_VARIABLES: Final = (
    "KEEPWORD_NOTIFIER_KEY_ENCRYPTION_KEYS_FILE",
    "KEEPWORD_KEY_ENCRYPTION_KEYS_FILE",
)
_BY_STAFF: Final = frozenset({Answerer.PRIVACY, Answerer.SUPPORT})
_TAKEN: Final = frozenset({RequestKind.ACCESS, RequestKind.ERASURE})


class _Refused(Exception):  # noqa: N818 - reads as the fact it states
    """Something cannot be done, for the reason that is its message."""


def run_requests() -> int:
    """Show the requests that wait for our staff."""

    async def show(connection: Connection, clock: Clock, console: Console) -> int:
        waiting = await store.open_requests(connection, limit=_SHOWN)
        today = clock.now().date()
        table = Table("reference", "kind", "noted", "due", "")
        for each in waiting:
            late = "overdue" if each.due_on < today else ""
            table.add_row(
                each.reference, each.kind, f"{each.received_at:%Y-%m-%d}", str(each.due_on), late
            )
        if waiting:
            console.print(table)
        more = " or more" if len(waiting) == _SHOWN else ""
        console.print(f"Open requests: {len(waiting)}{more}.")
        return 0

    return run_on("notifier", show)


def run_note(kind: str, *, received_on: datetime | None) -> int:
    """Record a request that came another way than by the page."""
    if kind not in _TAKEN:
        Console().print(
            "Note access or erasure. For a correction or an objection send the person to the page"
            " /privacy/request: it is theirs to say what is right.",
            soft_wrap=True,
        )
        return MISUSED

    async def note(units: Units[Any], index: bytes, console: Console, _: TenantKeys) -> int:
        day = received_on.date() if received_on else None
        if day is not None and day > units.clock.now().date():
            raise _Refused("That day has not come yet.")
        async with units.begin() as uow:
            noted = await requests.note(uow, index, RequestKind(kind), received_on=day)
        console.print(f"Noted as {noted.reference}. It is due on {noted.due_on}.", soft_wrap=True)
        return 0

    return _run_for_an_address(note)


def run_find() -> int:
    """Show how much is kept of a person, without a name or an address."""

    async def find(units: Units[Any], index: bytes, console: Console, _: TenantKeys) -> int:
        async with units.begin() as uow:
            kept = await store.kept_of(uow.connection, index)
        _show(console, kept)
        return 0

    return _run_for_an_address(find)


def run_export(folder: Path, *, by: str, request_id: UUID | None, controller: Path | None) -> int:
    """Answer a request for access: write the copy as JSON and as PDF for its person alone."""
    try:
        told = load_controller(controller or CONTROLLER_FILE)
    except (ValueError, OSError):
        Console().print(
            "Who answers for the data cannot be read. Look at the file of --controller."
        )
        return MISUSED
    if not folder.is_dir():
        Console().print("Name a folder that is there, for two files.")
        return MISUSED

    async def export(units: Units[Any], index: bytes, console: Console, keys: TenantKeys) -> int:
        async with units.begin() as uow:
            request = await _request_for(uow, RequestKind.ACCESS, index, request_id)
            made = requests.export(
                await requests.kept_of(uow, keys, index),
                request.reference,
                told.name,
                told.contact,
                told.data_location,
                now=uow.now,
            )
            for ending, copy in (("json", as_json(made)), ("pdf", as_pdf(made))):
                path = folder / f"{request.reference}.{ending}"
                write_private(path, copy)
                console.print(escape(str(path)), soft_wrap=True)
            await store.note_answer(uow.connection, request.request_id, Answerer(by), now=uow.now)
        _show(console, made.kept)
        console.print("Give it to nobody but the person, and remove the files then.")
        return 0

    return _run_for_an_address(export, by=by)


def run_erase(*, by: str, request_id: UUID | None, dry_run: bool) -> int:
    """Answer a request for erasure: forget a person in every tenant."""

    async def erase(units: Units[Any], index: bytes, console: Console, _: TenantKeys) -> int:
        async with units.begin() as uow:
            if dry_run:
                if request_id is not None:
                    await _request_for(uow, RequestKind.ERASURE, index, request_id)
                _show(console, await store.kept_of(uow.connection, index))
                console.print(
                    "Contacts and messages would go; the rest stays, by keyed hash. Nothing was"
                    " changed.",
                    soft_wrap=True,
                )
                return 0
            request = await _request_for(uow, RequestKind.ERASURE, index, request_id)
        forgotten = await requests.forget_person(units, index)
        async with units.begin() as uow:
            await store.note_answer(uow.connection, request.request_id, Answerer(by), now=uow.now)
        console.print(f"Contacts erased: {forgotten}. Reference {request.reference}.")
        return 0

    return _run_for_an_address(erase, by=by)


async def _request_for(
    uow: UnitOfWork[Any], kind: RequestKind, index: bytes, request_id: UUID | None
) -> PersonRequest:
    """Find the request that is answered, or note one that is answered at once."""
    if request_id is None:
        return await requests.note(uow, index, kind, received_on=None)
    found = await store.lock_request(uow.connection, request_id)
    if found is None or found.address_index != index or not wants_answer(found, kind):
        raise _Refused(f"There is no open request of this reference and address for {kind}.")
    return found


_ForAnAddress = Callable[[Units[Any], bytes, Console, TenantKeys], Any]


def _run_for_an_address(story: _ForAnAddress, *, by: str | None = None) -> int:
    """Read the address where nobody else sees it: from standard input, never from the command line."""
    console = Console()
    if by is not None and by not in _BY_STAFF:
        console.print(f"Say with --by in which role: {', '.join(sorted(_BY_STAFF))}.")
        return MISUSED
    keys = _keys(os.environ)
    if keys is None:
        console.print(
            f"Set {_KEYS_VARIABLES[0]} to the file with notifier's key-encryption keys.",
            soft_wrap=True,
        )
        return MISUSED
    typed = typer.prompt("Address", err=True) if sys.stdin.isatty() else sys.stdin.readline(1000)
    address = address_in(typed)
    if address is None:
        console.print("Give one address on standard input. What was given is none.")
        return MISUSED

    async def told(units: Units[Any], console: Console) -> int:
        try:
            done: int = await story(units, requests.index_of(keys, address), console, keys)
        except _Refused as refused:
            console.print(str(refused), soft_wrap=True)
            return FAILED
        return done

    return run_units_on("notifier", told)


def _keys(environment: Mapping[str, str]) -> TenantKeys | None:
    named = next(filter(None, map(environment.get, _KEYS_VARIABLES)), None)
    if named is None:
        return None
    try:
        return TenantKeys("notifier", KeyEncryptionKeys.load(Path(named)))
    except BadKeysFile:
        return None


def _show(console: Console, kept: Kept) -> None:
    told = ", ".join(f"{sort} {number}" for sort, number in kept.counts.items())
    console.print(f"Kept: {told}.", soft_wrap=True)
