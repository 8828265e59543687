"""Knows where the services' databases and Kafka are, and says so that a person can act when they are not."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import asyncpg
from aiokafka.errors import KafkaError
from rich.console import Console

from chassis.broker import KafkaAccess
from chassis.database import Connection, connect, open_pool
from chassis.unit_of_work import Units
from cli.databases import (
    POD_VARIABLE,
    advice,
    clock_of,
    database_url,
    database_variable,
    named_urls,
)
from cli.running import FAILED, INTERRUPTED, MISUSED
from cli.topics import kafka_access
from contracts.topics import SERVICES
from devstack.provider import KAFKA_VARIABLE
from devstack.stack import known_environment, state_folder

Environment: TypeAlias = Mapping[str, str]

_CLIENT: Final = "keepword-events"


class Misunderstood(Exception):  # noqa: N818 - names what is so
    """The command line makes no sense; the message says what would."""


def environment() -> Environment:
    """Give the environment, or that of the `keepword up` which runs here, where it names nothing."""
    named = (POD_VARIABLE, *map(database_variable, SERVICES))
    if kafka_access(os.environ, _CLIENT) is not None or any(os.environ.get(name) for name in named):
        return os.environ
    return known_environment(state_folder(os.environ)) or os.environ


def kafka_of(environment: Environment) -> KafkaAccess:
    """Read how Kafka is reached; raises ``Misunderstood`` where it is not said."""
    access = kafka_access(environment, _CLIENT)
    if access is None:
        raise Misunderstood(
            f"No Kafka is named. Set {KAFKA_VARIABLE}, or in a pod what its service has."
        )
    return access


def outbox_url(service: str, environment: Environment) -> str:
    """Read where a service's database is; raises ``Misunderstood`` where it is not said."""
    url = database_url(service, environment)
    if url is None:
        raise Misunderstood(
            f"Set {database_variable(service)} to the address of the {service}'s database, with"
            f" its runtime role. In the {service}'s own pod {POD_VARIABLE} is it already."
        )
    return url


def outboxes(services: Sequence[str], environment: Environment) -> dict[str, str]:
    """Read where these services' databases are, or without names all that are said."""
    for service in services:
        known_service(service)
    if services:
        return {service: outbox_url(service, environment) for service in services}
    found = named_urls(environment)
    if not found:
        names = ", ".join(map(database_variable, SERVICES))
        raise Misunderstood(
            f"No database is named. Set one or more of {names}; in a service's own pod add"
            " --service with its name. Or look into Kafka with --from topic."
        )
    return found


def known_service(name: str) -> str:
    """Return the name of a service; raises ``Misunderstood`` for another."""
    if name not in SERVICES:
        raise Misunderstood(f"No such service: {name}. There are {', '.join(SERVICES)}.")
    return name


class Away(Exception):  # noqa: N818 - names what is so
    """Something does not answer, or refuses; the message says what, and what to look at."""


@asynccontextmanager
async def connected(service: str, environment: Environment) -> AsyncIterator[Connection]:
    """Connect to a service's database; raises ``Away`` for what goes wrong there."""
    with _telling_of(service):
        connection = await connect(outbox_url(service, environment), name="keepword events")
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def working(service: str, environment: Environment) -> AsyncIterator[Units[Any]]:
    """Begin units of work of a service; what is said in them its own relay publishes."""
    with _telling_of(service):
        url = outbox_url(service, environment)
        async with await open_pool(url, name="keepword events", max_size=2) as pool:
            yield Units(service, pool, clock_of(environment), None, lambda: None)


@contextmanager
def _telling_of(service: str) -> Any:
    try:
        yield
    except asyncpg.UndefinedTableError:
        raise Away(f"This is not the {service}'s database, or it is not migrated.") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as failure:
        # Its own words may repeat the password.
        raise Away(f"{service}: {type(failure).__name__}. {advice(service)}") from None


def run(story: Callable[[], Awaitable[int]], *, when_stopped: int = INTERRUPTED) -> int:
    """Tell a story to its end; return the exit status, with a word to a person where it fails."""

    async def told() -> int:
        return await story()

    try:
        return asyncio.run(told())
    except Misunderstood as misunderstood:
        complain(str(misunderstood))
        return MISUSED
    except Away as away:
        complain(str(away))
    except KafkaError as failure:
        complain(
            f"Kafka: {type(failure).__name__}. Is it running, and are its address, user name and"
            " password right?"
        )
    except KeyboardInterrupt:
        return when_stopped
    return FAILED


def complain(text: str) -> None:
    """Say what is wrong on the standard error."""
    Console(stderr=True).print(text, soft_wrap=True, markup=False, highlight=False)
