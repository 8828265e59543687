"""Real servers for tests: one Kafka and one PostgreSQL a session, databases for each who asks."""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from chassis.data_map import DataMap
from chassis.migrations import migrate
from devstack.kafka import RunningKafka, start_kafka
from devstack.postgres import ROLE_KINDS, Roles, RunningPostgres, provision, start_postgres

Databases = Callable[..., Awaitable[dict[str, Roles]]]

Migrated = Callable[..., Awaitable[Roles]]

# So that a test can see a record compacted away within seconds.
PROMPT_CLEANER = {"log.cleaner.backoff.ms": "200", "log.initial.task.delay.ms": "500"}


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    """A plain broker that a whole session shares: name your topics and tenants your own."""
    running = start_kafka(tmp_path_factory.mktemp("kafka"), properties=PROMPT_CLEANER)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPostgres]:
    """A server that a whole session shares, without databases of services."""
    running = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield running
    # Its data is for the bin: a clean end would write a hundred databases to the disk first.
    running.kill()


@pytest.fixture(scope="session")
def databases(postgres: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """A function: ``await databases("purger", "config")`` gives a fresh, empty database to each."""
    passwords: Path = tmp_path_factory.mktemp("passwords")
    numbers = itertools.count(1)

    async def fresh(*services: str) -> dict[str, Roles]:
        return await provision(
            postgres.superuser_url(), services, folder=passwords, suffix=f"_{next(numbers)}"
        )

    return fresh


@pytest.fixture(scope="session")
def migrated(postgres: RunningPostgres, databases: Databases) -> Migrated:
    """A function: ``await migrated(DATA_MAP)`` gives a fresh, migrated database of its service.

    It is migrated once in a session and copied from then on, which takes a third of the time.
    """
    moulds: dict[str, Roles] = {}
    numbers = itertools.count(1)

    async def fresh(data_map: DataMap, *, own: Path | None = None) -> Roles:
        service = data_map.service
        if service not in moulds:
            moulds[service] = (await databases(service))[service]
            await migrate(moulds[service].owner_url, data_map, own=own)
        mould = urlsplit(moulds[service].owner_url).path.removeprefix("/")
        copy = f"{mould}_copy_{next(numbers)}"
        connection = await asyncpg.connect(postgres.superuser_url())
        try:
            await connection.execute(
                f'CREATE DATABASE "{copy}" TEMPLATE "{mould}" OWNER "{service}_owner"'
            )
            await connection.execute(
                f'REVOKE ALL ON DATABASE "{copy}" FROM public;'
                f'GRANT CONNECT ON DATABASE "{copy}" TO'
                f" {', '.join(f'{service}_{kind}' for kind in ROLE_KINDS)}"
            )
        finally:
            await connection.close()
        urls = asdict(moulds[service])
        return Roles(**{kind: f"{url.removesuffix(mould)}{copy}" for kind, url in urls.items()})

    return fresh


@pytest.fixture(scope="session")
def emptied(postgres: RunningPostgres, migrated: Migrated) -> Migrated:
    """A function: ``await emptied(DATA_MAP)`` gives one database again and again, as new each time.

    That costs a tenth of a copy. Leave its schema as it is, and let go of what you connected.
    """
    given: dict[str, tuple[Roles, Mapping[str, str]]] = {}

    async def again(data_map: DataMap) -> Roles:
        service = data_map.service
        roles = given[service][0] if service in given else await migrated(data_map)
        database = urlsplit(roles.owner_url).path.removeprefix("/")
        connection = await asyncpg.connect(postgres.superuser_url(database))
        try:
            if service in given:
                await _put_back(connection, given[service][1])
            else:
                given[service] = roles, await _rows_of_migrations(connection)
        finally:
            await connection.close()
        return roles

    return again


async def _rows_of_migrations(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    """Return every table with its rows, such as those of nobody by which a blind role is found."""
    tables = await connection.fetch(
        """
        SELECT c.oid::regclass::text AS name
          FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT c.relispartition AND c.relname NOT LIKE '%_migrations'
        """
    )
    return {
        name: await connection.fetchval(f"SELECT coalesce(json_agg(t), '[]')::text FROM {name} t")
        for (name,) in tables
    }


async def _put_back(
    connection: "asyncpg.Connection[asyncpg.Record]", rows: Mapping[str, str]
) -> None:
    # Neither triggers that keep the ledger nor references ask what happens here.
    await connection.execute("SET session_replication_role = replica")
    async with connection.transaction():
        await connection.execute("".join(f"DELETE FROM {name};" for name in rows))
        for name, told in rows.items():
            if told != "[]":
                await connection.execute(
                    f"INSERT INTO {name} OVERRIDING SYSTEM VALUE"
                    f" SELECT * FROM json_populate_recordset(NULL::{name}, $1::text::json)",
                    told,
                )
        for (name,) in await connection.fetch(
            "SELECT oid::regclass::text FROM pg_class"
            " WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
        ):
            await connection.execute(f"ALTER SEQUENCE {name} RESTART")
