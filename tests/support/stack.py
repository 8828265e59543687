"""Real servers for tests: one Kafka and one PostgreSQL a session, databases for each who asks."""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from devstack.kafka import RunningKafka, start_kafka
from devstack.postgres import Roles, RunningPostgres, provision, start_postgres

Databases = Callable[..., Awaitable[dict[str, Roles]]]

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
