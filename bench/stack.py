"""The servers that a benchmark runs on: Kafka and PostgreSQL of its own, forgotten in the end."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chassis.broker import KafkaAccess
from chassis.clock import SystemClock
from chassis.data_map import DataMap
from chassis.database import Pool, open_pool
from chassis.epochs import ensure_epoch
from chassis.metrics import Metrics
from chassis.migrations import migrate
from chassis.relay import Relay
from contracts.topics import ALL_TOPICS
from devstack.kafka import RunningKafka, create_topics, start_kafka
from devstack.postgres import Roles, RunningPostgres, provision, start_postgres
from devstack.provider import KAFKA_VARIABLE, ROLE_VARIABLES


@dataclass(frozen=True, slots=True)
class Stack:
    """A broker and a database server that serve nobody else."""

    folder: Path
    kafka: RunningKafka
    postgres: RunningPostgres

    @property
    def access(self) -> KafkaAccess:
        """The broker, as a service reaches it."""
        return KafkaAccess(self.kafka.bootstrap_servers, "keepword-bench")

    async def make_topics(self) -> None:
        """Create the topics of all services, where they are missing."""
        await create_topics(ALL_TOPICS, **self.access.client_options())

    async def make_database(self, data_map: DataMap, suffix: str) -> Roles:
        """Create an empty database as a service has it, with the partitions of the days to come."""
        service = data_map.service
        made = await provision(
            self.postgres.superuser_url(), [service], folder=self.folder, suffix=suffix
        )
        roles = made[service]
        await migrate(roles.owner_url, data_map)
        async with worker_pool(roles) as worker, worker.acquire() as connection:
            wall = datetime.now(UTC)
            await connection.execute("SELECT outbox_make_partitions($1::date, 8)", wall.date())
            await ensure_epoch(connection, wall=wall)
        return roles

    def environment(self, roles: Mapping[str, Roles]) -> Mapping[str, str]:
        """Name the broker and these databases to a local stack, so that it starts none of its own."""
        given = {
            variable.format(service.upper()): str(getattr(each, kind))
            for service, each in roles.items()
            for kind, variable in ROLE_VARIABLES.items()
        }
        return {**given, KAFKA_VARIABLE: self.kafka.bootstrap_servers}


@contextmanager
def started() -> Iterator[Stack]:
    """Start both servers in a temporary folder; call it on the main thread.

    Raises:
        StartFailedError: one of them did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="keepword-bench-") as name:
        folder = Path(name)
        kafka = start_kafka(folder / "kafka")
        try:
            postgres = start_postgres(folder / "postgres")
            try:
                yield Stack(folder, kafka, postgres)
            finally:
                postgres.stop()
        finally:
            kafka.stop()


@asynccontextmanager
async def worker_pool(roles: Roles) -> AsyncIterator[Pool]:
    """Open a small pool of the role that runs jobs."""
    async with await open_pool(roles.worker_url, name="bench", max_size=2) as pool:
        yield pool


@asynccontextmanager
async def relaying(access: KafkaAccess, roles: Roles, metrics: Metrics) -> AsyncIterator[Relay]:
    """Run a relay in this process, as a service does, which is stopped in the end."""
    relay = Relay(
        database_url=roles.worker_url,
        kafka=access,
        clock=SystemClock(),
        metrics=metrics,
        restate=_nothing_to_restate,
    )
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await task


async def _nothing_to_restate() -> None:
    """Do nothing: the database is new, and nothing was said before."""
