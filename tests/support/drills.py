"""A stack for drills: its Kafka can be lost, its databases restored, and runbooks are followed on it."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2
import pytest

from chassis.broker import KafkaAccess
from chassis.own_topics import pages_of
from contracts.ledger import LedgerEntry
from contracts.topics import ALL_TOPICS, PURGER_LEDGER, SERVICES
from devstack.groups import forget_consumers
from devstack.journey import Journey
from devstack.kafka import RunningKafka, create_topics, start_kafka
from devstack.postgres import Roles, binary, provision, start_postgres
from devstack.programs import ROOT
from devstack.provider import KAFKA_VARIABLE, ROLE_VARIABLES
from devstack.stack import LocalStack, start_local_stack
from tests.support.journey import without_given_servers
from tests.support.runbooks import follow

RUNBOOKS = ROOT / "docs" / "runbooks"


async def follow_runbook(block: str, url: str, **variables: str) -> None:
    """Run the commands of a restore as a person would, at the database of this URL."""
    parts = urlsplit(url)
    where = {
        "PGHOST": str(parts.hostname),
        "PGPORT": str(parts.port),
        "PGUSER": unquote(str(parts.username)),
        "PGPASSWORD": unquote(str(parts.password)),
        "PGDATABASE": parts.path.removeprefix("/"),
    }
    tools = (binary("pg_dump").parent,)
    await follow(RUNBOOKS / "restore.md", block, where | variables, tools=tools)


@dataclass
class Drill:
    """A stack whose Kafka can be lost, and whose databases can be restored."""

    stack: LocalStack
    kafka: RunningKafka
    folder: Path
    http: httpx2.AsyncClient
    clusters: ExitStack = field(default_factory=ExitStack)

    def customer(self, site: str) -> Journey:
        # Who is killed with a row in its hands leaves it claimed for two minutes.
        return Journey(self.stack, self.http, site, patience_seconds=240.0)

    async def dump(self, service: str) -> Path:
        path = self.folder / f"{service}-{secrets.token_hex(4)}.dump"
        url = self.stack.databases[service].backup_url
        await follow_runbook("backup", url, DUMP=str(path))
        return path

    async def restore(self, dumps: Mapping[str, Path]) -> None:
        """Lose these services' databases, and restore them into a fresh cluster."""
        for service in dumps:
            self.stack.kill(service)
        roles, superuser_urls = await self.fresh_databases(*dumps)
        for service, path in dumps.items():
            owner_variable = ROLE_VARIABLES["owner_url"].format(service.upper())
            await follow_runbook(
                "restore",
                superuser_urls[service],
                DUMP=str(path),
                SERVICE=service,
                **{owner_variable: roles[service].owner_url},
            )
            self.stack.move_database(service, roles[service])
        await self.start(*dumps)

    async def fresh_databases(
        self, *services: str
    ) -> tuple[Mapping[str, Roles], Mapping[str, str]]:
        """Make empty databases in a cluster of their own; the second is how its superuser gets in."""
        folder = self.folder / f"cluster-{secrets.token_hex(4)}"
        fresh = start_postgres(folder)
        self.clusters.callback(fresh.kill)
        roles = await provision(fresh.superuser_url(), services, folder=folder)
        return roles, {service: fresh.superuser_url(service) for service in services}

    def environment(self) -> dict[str, str]:
        """What an engineer sets to work on the stack."""
        named = {
            variable.format(service.upper()): str(getattr(roles, kind))
            for service, roles in self.stack.databases.items()
            for kind, variable in ROLE_VARIABLES.items()
        }
        clock = str(self.stack.folder / "clock-offset")
        return named | {
            "COLUMNS": "200",
            KAFKA_VARIABLE: self.kafka.bootstrap_servers,
            "KEEPWORD_CLOCK_OFFSET_FILE": clock,
        }

    async def lose_kafka(self) -> None:
        """Lose the cluster with all topics, and restart everybody on a new one."""
        for service in SERVICES:
            self.stack.kill(service)
        self.empty_kafka()
        await create_topics(ALL_TOPICS, **self.kafka.client_options())
        await self.start(*SERVICES)

    def empty_kafka(self) -> None:
        """Let there be another cluster, without a topic."""
        self.kafka.kill()
        shutil.rmtree(self.folder / "kafka" / "data")
        self.kafka.restart()

    async def start(self, *services: str) -> None:
        await forget_consumers(services, **self.kafka.client_options())
        await asyncio.gather(*(self.stack.start(service) for service in services))

    async def published(self) -> list[LedgerEntry]:
        """The entries of the ledger's topic, as they stand there."""
        access = KafkaAccess(self.kafka.bootstrap_servers, "drill")
        entries = []
        async with aclosing(pages_of(access, PURGER_LEDGER)) as pages:
            async for _, page in pages:
                for record in page:
                    headers = dict(record.headers)
                    if record.value and b"ledger-head" not in headers["ce_type"]:
                        entries.append(LedgerEntry.decode(record.value))
        return entries


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningKafka, Path]]:
    folder = tmp_path_factory.mktemp("drill")
    running = start_kafka(folder / "kafka")
    yield running, folder
    running.kill()


@pytest.fixture(scope="module")
async def drill(own_kafka: tuple[RunningKafka, Path]) -> AsyncIterator[Drill]:
    kafka, folder = own_kafka
    environment = {
        **without_given_servers(),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
    }
    async with (
        await start_local_stack(folder / "stack", environment=environment) as stack,
        httpx2.AsyncClient() as http,
    ):
        running = Drill(stack, kafka, folder, http)
        with running.clusters:
            yield running
