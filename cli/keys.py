"""`keepword keys`: changes key-encryption keys, and destroys old ones when that harms nobody."""

import asyncio
import json
import os
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias, assert_never

import asyncpg
from rich.console import Console

from chassis.database import connect
from chassis.keys import BadKeysFile, KeyEncryptionKeys
from cli.databases import clock_of
from cli.running import FAILED, MISUSED
from contracts.topics import SERVICES
from devstack.private_files import write_private
from devstack.provider import ROLE_VARIABLES

FILE_VARIABLE: Final = "KEEPWORD_{}_KEY_ENCRYPTION_KEYS_FILE"
BACKUPS_VARIABLE: Final = "KEEPWORD_BACKUP_RETENTION_DAYS"
_KEY_BYTES: Final = 32
_BACKUPS_KEPT_DAYS: Final = 14


# -- the rule ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InUse:
    """Keys of tenants lie under it still; the service's job wraps them anew within the hour."""

    tenants: int


@dataclass(frozen=True, slots=True)
class NotedUnused:
    """Nothing lies under it from now on, and copies of before run out from now on."""


@dataclass(frozen=True, slots=True)
class InBackups:
    """Copies of the database may still need it, until then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Destroy:
    """Nobody needs it any more, and who holds an old copy must not have it."""


Retirement: TypeAlias = InUse | NotedUnused | InBackups | Destroy


def decide_retirement(
    *, tenants: int, unused_since: datetime | None, backups_kept: timedelta, now: datetime
) -> Retirement:
    """Say what becomes of an old key-encryption key.

    It goes when no copy is left that was taken while something lay under it.
    Destroyed earlier, a restore would serve nobody; kept longer, an old copy
    would still tell of tenants that were erased.
    """
    if tenants:
        return InUse(tenants)
    if unused_since is None:
        return NotedUnused()
    if now - unused_since <= backups_kept:
        return InBackups(unused_since + backups_kept)
    return Destroy()


# -- the commands -----------------------------------------------------------------------------


def run_rotate(service: str, *, dry_run: bool) -> int:
    """Make a new current key in a service's file; the old one stays for what lies under it."""
    console = Console()
    path = _keys_file(service, console)
    if path is None:
        return MISUSED
    try:
        content = _read(path)
    except BadKeysFile as bad:
        console.print(f"[red]{path.name} {bad}[/]")
        return FAILED
    now = clock_of(os.environ).now()
    name = _new_name(content["keys"], now)
    if not dry_run:
        content["keys"][name] = urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        content["current"] = name
        content.setdefault("made_at", {})[name] = now.astimezone(UTC).isoformat()
        _write(path, content)
    console.print(
        f"{'Would make' if dry_run else 'Made'} {name} the current key of {service}."
        " Its job wraps the tenants' keys anew within the hour; then `keepword keys retire`."
    )
    return 0


def run_retire(service: str, *, dry_run: bool) -> int:
    """Destroy a service's old keys that nobody needs any more, and say why others stay."""
    console = Console()
    path = _keys_file(service, console)
    variable = ROLE_VARIABLES["worker_url"].format(service.upper())
    url = os.environ.get(variable)
    if path is None:
        return MISUSED
    if not url:
        console.print(f"Set {variable} to the address of the database with its worker's role.")
        return MISUSED
    backups_kept = timedelta(days=int(os.environ.get(BACKUPS_VARIABLE, _BACKUPS_KEPT_DAYS)))
    try:
        content = _read(path)
        counts = asyncio.run(_tenants_by_key(url))
    except BadKeysFile as bad:
        console.print(f"[red]{path.name} {bad}[/]")
        return FAILED
    except (asyncpg.PostgresError, OSError) as failure:
        # Its message may repeat the address with the password in it.
        console.print(f"[red]{service}: {type(failure).__name__}.[/] Does the database run?")
        return FAILED
    now = clock_of(os.environ).now()
    for name in [each for each in content["keys"] if each != content["current"]]:
        noted = content.setdefault("unused_since", {}).get(name)
        decision = decide_retirement(
            tenants=counts.get(name, 0),
            unused_since=datetime.fromisoformat(noted) if noted else None,
            backups_kept=backups_kept,
            now=now,
        )
        console.print(_carry_out(decision, name, content, now=now))
    if dry_run:
        console.print("Nothing was changed.")
    else:
        _write(path, content)
    return 0


def _carry_out(decision: Retirement, name: str, content: dict[str, Any], *, now: datetime) -> str:
    match decision:
        case InUse(tenants):
            # A restore may have brought back what had been wrapped anew.
            content["unused_since"].pop(name, None)
            return f"{name} stays: the keys of {tenants} tenants lie under it."
        case NotedUnused():
            content["unused_since"][name] = now.astimezone(UTC).isoformat()
            return f"{name} is unused from now on: it goes when the copies of today are gone."
        case InBackups(until):
            return f"{name} stays until {until:%Y-%m-%d %H:%M}: copies may need it."
        case Destroy():
            del content["keys"][name], content["unused_since"][name]
            content.get("made_at", {}).pop(name, None)
            return f"{name} is destroyed: what older copies hold encrypted cannot be read."
        case other:
            assert_never(other)


async def _tenants_by_key(url: str) -> dict[str, int]:
    connection = await connect(url, name="keepword keys")
    try:
        rows = await connection.fetch(
            "SELECT kek_id, count(*) AS tenants FROM tenant_keys GROUP BY kek_id"
        )
        return {row["kek_id"]: row["tenants"] for row in rows}
    finally:
        await connection.close()


def _keys_file(service: str, console: Console) -> Path | None:
    if service not in SERVICES:
        console.print(f"No such service: {service}. There are {', '.join(SERVICES)}.")
        return None
    variable = FILE_VARIABLE.format(service.upper())
    named = os.environ.get(variable)
    if not named:
        console.print(f"Set {variable} to the file with the service's key-encryption keys.")
        return None
    return Path(named)


def _read(path: Path) -> dict[str, Any]:
    KeyEncryptionKeys.load(path)  # refuses what a service would refuse
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    write_private(path, json.dumps(content, indent=1).encode())


def _new_name(known: dict[str, str], now: datetime) -> str:
    month = f"{now:%Y-%m}"
    names = (month, *(f"{month}-{number}" for number in range(2, len(known) + 2)))
    return next(name for name in names if name not in known)
