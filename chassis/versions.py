"""Knows which migrations a database has had, and whether the code that runs can live with them.

Apart from the migrations themselves, so that a service does not load what only they need.
"""

from importlib import import_module
from pathlib import Path

import asyncpg

from chassis.database import Connection

_PLUMBING = Path(__file__).parent / "migrations"


class DatabaseTooNewError(Exception):
    """A newer release left the database in a shape that this one cannot use; the message says which."""


def migrations_of(service: str) -> Path:
    """Return the folder with a service's own migrations."""
    return Path(str(import_module(f"services.{service}").__file__)).parent / "migrations"


def folders_of(service: str, own: Path | None = None) -> dict[str, Path]:
    """Say in which folder the migrations of each of a database's two version tables are."""
    return {
        "chassis_migrations": _PLUMBING,
        f"{service}_migrations": own or migrations_of(service),
    }


async def behind(
    connection: Connection, service: str, *, own: Path | None = None
) -> dict[str, str | None]:
    """Say which version tables of a database are older than this code, and where they stand.

    A newer database is well, because every migration works with the code before it. One that works
    only with code that knows a certain earlier one says so by ``needs``; raises
    ``DatabaseTooNewError`` where this code does not know that one.
    """
    found = {}
    for table, folder in folders_of(service, own).items():
        version = await _version_in(connection, table)
        known = _revisions(folder)
        if version is None or (version in known and version != known[-1]):
            found[table] = version
        elif version not in known:
            needed = await connection.fetchval(
                "SELECT obj_description(to_regclass($1), 'pg_class')", table
            )
            if needed is not None and needed not in known:
                raise DatabaseTooNewError(
                    f"{table} is at {version} and needs code that knows {needed}, while this one"
                    f" ends at {known[-1]}"
                )
    return found


async def is_newer(connection: Connection, service: str, *, own: Path | None = None) -> bool:
    """Whether a database has had a migration that this code does not know."""
    for table, folder in folders_of(service, own).items():
        version = await _version_in(connection, table)
        if version is not None and version not in _revisions(folder):
            return True
    return False


async def _version_in(connection: Connection, table: str) -> str | None:
    try:
        if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
            return None
        version: str | None = await connection.fetchval(f"SELECT version_num FROM {table}")  # noqa: S608 - one of two names of ours
    except asyncpg.InsufficientPrivilegeError:
        # Grants are the last thing that a migration does.
        return None
    return version


def _revisions(folder: Path) -> list[str]:
    """List the revisions in a folder, the last one last: each file begins with its own."""
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))
