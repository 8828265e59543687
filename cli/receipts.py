"""`keepword receipts verify`: is a receipt genuine, and what does it say?"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import httpx2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.audit import (
    NotVerified,
    check_checkpoints,
    check_entries,
    check_receipt,
    entries_of,
    fetch_ledger,
    fetch_public_key,
    fetch_receipt,
    public_keys_of,
    read_checkpoints_of,
)
from cli.running import FAILED, MISUSED
from contracts.ledger import LedgerEntry
from devstack.stack import known_endpoints, state_folder
from services.purger.checkpoints import Checkpoint


def run_verify(
    code: str | None,
    *,
    file: Path | None,
    public_key: Path | None,
    purger_url: str | None,
    state: Path | None,
    checkpoints: Path | None = None,
) -> int:
    """Verify a receipt by its code or from a file; 0 when it is genuine."""
    console = Console()
    if (code is None) == (file is None):
        console.print("Give either the receipt's CODE, or --file with --public-key.")
        return MISUSED
    try:
        if file is not None:
            if public_key is None:
                console.print("A file is checked with --public-key, and nothing is fetched.")
                return MISUSED
            return _verify_file(console, file, public_key)
        url = purger_url or _running_purger(state)
        if code is None or url is None:
            console.print("No stack is running. Name purger's address with --purger.")
            return MISUSED
        pem = public_key.read_bytes() if public_key else None
        noted = read_checkpoints_of(checkpoints) if checkpoints else []
        return asyncio.run(_verify_code(console, code, url.rstrip("/"), pem, noted))
    except NotVerified as reason:
        console.print(
            f"[red]Not verified:[/] {escape(str(reason))}", highlight=False, soft_wrap=True
        )
    except httpx2.HTTPError as away:
        console.print(f"[red]Purger does not answer[/] ({type(away).__name__}). Is it running?")
    except OSError as unreadable:
        console.print(
            f"[red]{escape(str(unreadable.filename))}: {unreadable.strerror}[/]",
            highlight=False,
            soft_wrap=True,
        )
    return FAILED


def _running_purger(state: Path | None) -> str | None:
    endpoints = known_endpoints(state or state_folder(os.environ))
    return None if endpoints is None else endpoints.purger


def _verify_file(console: Console, file: Path, public_key: Path) -> int:
    entries = entries_of(file.read_text(encoding="utf-8"))
    check_entries(entries, public_keys_of(public_key.read_bytes()))
    _show(console, entries)
    console.print(
        "[green]Verified:[/] each entry is signed with a key of this file and was not changed."
    )
    return 0


async def _verify_code(
    console: Console, code: str, url: str, pem: bytes | None, noted: Sequence[Checkpoint]
) -> int:
    async with httpx2.AsyncClient() as http:
        entries = await fetch_receipt(http, url, code)
        ledger = await fetch_ledger(http, url)
        pem = pem or await fetch_public_key(http, url)
    keys = public_keys_of(pem)
    check_receipt(entries, ledger, keys)
    check_checkpoints(ledger, noted, keys)
    _show(console, entries)
    console.print(
        "[green]Verified:[/] signed, unchanged, and in the unbroken chain of all"
        f" {len(ledger.entries)} entries of the ledger."
        + (f" All {len(noted)} checkpoints stand in it." if noted else "")
    )
    return 0


def _show(console: Console, entries: Sequence[LedgerEntry]) -> None:
    table = Table("entry", "stage", "step", "owner", "erased", "when")
    for entry in entries:
        if entry.receipt is None:
            table.add_row(str(entry.number), entry.kind, "", "", ", ".join(entry.classes), "")
            continue
        for step in entry.receipt.steps:
            counts = ", ".join(f"{count} {name}" for name, count in step.counts.items())
            when = f"{step.erased_at:%Y-%m-%d %H:%M} UTC" if step.erased_at else "open"
            table.add_row(
                str(entry.number), entry.receipt.stage, step.step, step.owner, counts, when
            )
    console.print(table)
