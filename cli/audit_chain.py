"""`keepword audit`: whether what staff did still stands in a service's audit as it was written."""

from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from rich.console import Console
from rich.markup import escape

from chassis.audit import AuditBroken, verify
from chassis.clock import Clock
from chassis.database import Connection
from cli.databases import run_on
from cli.statuses import DIFFERS, MISUSED


def run_verify(service: str, copy: Path | None, key: Path | None) -> int:
    """Walk a service's audit, and compare its end with a copy, and its beginning with a checkpoint."""
    try:
        keys = [OKPKey.import_key(key.read_bytes())] if key else None
    except (OSError, ValueError, JoseError):
        Console(stderr=True).print(f"[red]{key} is no Ed25519 key in PEM.[/]", soft_wrap=True)
        return MISUSED

    async def walk(connection: Connection, _: Clock, console: Console) -> int:
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                number = await verify(connection, copy=copy, keys=keys)
        except AuditBroken as broken:
            console.print(f"[red]The audit is broken:[/] {escape(str(broken))}.", soft_wrap=True)
            return DIFFERS
        console.print(f"The audit is whole, up to entry {number}.")
        return 0

    return run_on(service, walk)
