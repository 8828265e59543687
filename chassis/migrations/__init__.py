"""Brings a service's database to the present shape: the plumbing first, then the service's own."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import asyncpg
import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chassis.data_map import DataMap, grants_sql
from chassis.versions import behind, folders_of, is_newer

log = structlog.get_logger(__name__)

_LOCK = "SELECT pg_advisory_lock(hashtextextended('keepword migrations', 0))"


def run_sql(migration: str) -> None:
    """Run the ``.sql`` file that stands beside an alembic revision, in the revision's transaction.

    The file may hold many statements, functions included: it goes to the server as it stands
    (through SQLAlchemy's text it would be read for ``:name`` and ``%``, and prepared).
    """
    from alembic import op  # noqa: PLC0415 - alembic puts its context there while it migrates

    sql = Path(migration).with_suffix(".sql").read_text(encoding="utf-8")
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # opens the transaction that the file is to run in
    driver = bind.connection.dbapi_connection
    assert driver is not None
    driver.run_async(lambda connection: connection.execute(sql))


def newest_versions(service: str) -> dict[str, str | None]:
    """Say which migration a database of a service has last, in each of its two version tables."""
    return {
        table: _script(folder).get_current_head() for table, folder in folders_of(service).items()
    }


def _script(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder), version_locations=[str(folder)])


def _upgrade(connection: SyncConnection, folder: Path, version_table: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "os")
    script = _script(folder)

    with EnvironmentContext(
        config,
        script,
        fn=lambda revision, _: script._upgrade_revs("head", revision),  # noqa: SLF001 - what `alembic upgrade head` calls
    ) as environment:
        environment.configure(
            connection=connection, version_table=version_table, transaction_per_migration=True
        )
        with environment.begin_transaction():
            environment.run_migrations()


async def migrate(owner_url: str, data_map: DataMap, *, own: Path | None = None) -> None:
    """Bring one service's database up to date and give its roles what the data map allows.

    ``own`` is the folder with the service's migrations, by default the one in its package. Safe to
    run by several at once (one does it, the others wait) and again at any time. A database of a newer
    release stays as it is, so that going back one release needs no other command; raises
    ``DatabaseTooNewError`` where that release cannot be gone back from.
    """
    service = data_map.service
    engine = create_async_engine(
        owner_url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool
    )
    guard = await asyncpg.connect(owner_url)
    try:
        await guard.execute(_LOCK)
        await behind(guard, service, own=own)
        if await is_newer(guard, service, own=own):
            log.info("database is of a newer release and stays as it is", database_of=service)
            return
        async with engine.connect() as connection:
            for version_table, folder in folders_of(service, own).items():
                await connection.run_sync(_upgrade, folder, version_table)
                # Even to have read its version is a transaction, and alembic commits nothing in one
                # that was there before it.
                await connection.commit()
        async with guard.transaction():
            for version_table, folder in folders_of(service, own).items():
                await guard.execute(_comment(version_table, folder))
            for statement in grants_sql(data_map, service):
                await guard.execute(statement)
    finally:
        await guard.close()
        await engine.dispose()


def _comment(version_table: str, folder: Path) -> str:
    """Leave beside the version what older code has to know to work on: the last ``needs`` of all."""
    told = [getattr(each.module, "needs", None) for each in _script(folder).walk_revisions()]
    needed = max((each for each in told if each is not None), default=None)
    return f"COMMENT ON TABLE {version_table} IS " + (f"'{needed}'" if needed else "NULL")


async def migrate_all(owner_urls: Mapping[str, str]) -> None:
    """Migrate several services' databases, by the URL of each owner.

    One after another: alembic's ``op`` belongs to the whole process.
    """
    for service, url in owner_urls.items():
        await migrate(url, import_module(f"services.{service}.data_map").DATA_MAP)
