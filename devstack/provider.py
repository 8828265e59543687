"""Where Kafka and PostgreSQL come from: given by the environment, containers, or started here."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from devstack.kafka import start_kafka
from devstack.postgres import Roles, provision, start_postgres

KAFKA_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
# The variable without a kind is the one that a service runs on.
ROLE_VARIABLES = {
    "runtime_url": "KEEPWORD_{}_DATABASE_URL",
    "owner_url": "KEEPWORD_{}_OWNER_DATABASE_URL",
    "worker_url": "KEEPWORD_{}_WORKER_DATABASE_URL",
    "eraser_url": "KEEPWORD_{}_ERASER_DATABASE_URL",
    "backup_url": "KEEPWORD_{}_BACKUP_DATABASE_URL",
}


class HalfGivenError(Exception):
    """The environment names a part of a service's database URLs; the message says which miss."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A Kafka and a database for each service, and what has to be stopped in the end."""

    bootstrap_servers: str
    databases: Mapping[str, Roles]
    _started: ExitStack = field(repr=False)

    def stop(self) -> None:
        """Stop what was started, the last one first; what was given runs on."""
        self._started.close()


async def start_stack(
    services: Sequence[str], *, folder: Path, environment: Mapping[str, str], containers: bool
) -> Stack:
    """Return a stack that serves, in the first way that is open for each of its parts.

    A Kafka or a service's database that ``environment`` names is used as it is.
    With ``containers`` the rest comes from the Docker engine of this machine,
    and is forgotten in the end; otherwise it is started in ``folder`` and keeps
    its data there. Call this on the main thread.

    Raises:
        HalfGivenError: some of a service's database URLs are given, not all.
        NoDockerError: containers are wanted and no engine answers.
        StartFailedError: a server did not come up.
    """
    given = {service: given_roles(service, environment) for service in services}
    databases = {service: roles for service, roles in given.items() if roles is not None}
    missing = [service for service in services if service not in databases]
    with ExitStack() as started:
        bootstrap_servers = environment.get(KAFKA_VARIABLE)
        if not bootstrap_servers:
            bootstrap_servers = _some_kafka(started, folder, containers=containers)
        if missing:
            superuser_url = _some_postgres(started, folder, containers=containers)
            databases |= await provision(superuser_url, missing, folder=folder)
        return Stack(bootstrap_servers, databases, started.pop_all())


def given_roles(service: str, environment: Mapping[str, str]) -> Roles | None:
    """Read one service's database URLs, all of them or none.

    Raises:
        HalfGivenError: some are there and some are not.
    """
    names = {role: name.format(service.upper()) for role, name in ROLE_VARIABLES.items()}
    urls = {role: environment.get(name, "") for role, name in names.items()}
    missing = [names[role] for role, url in urls.items() if not url]
    if len(missing) == len(names):
        return None
    if missing:
        raise HalfGivenError(f"{service} has database URLs, but not {', '.join(missing)}")
    return Roles(**urls)


def _some_kafka(started: ExitStack, folder: Path, *, containers: bool) -> str:
    if containers:
        from devstack.containers import kafka_container  # noqa: PLC0415 - half a second to import

        return started.enter_context(kafka_container())
    kafka = start_kafka(folder / "kafka")
    started.callback(kafka.stop)
    return kafka.bootstrap_servers


def _some_postgres(started: ExitStack, folder: Path, *, containers: bool) -> str:
    if containers:
        from devstack.containers import postgres_container  # noqa: PLC0415 - likewise

        return started.enter_context(postgres_container())
    postgres = start_postgres(folder / "postgres")
    started.callback(postgres.stop)
    return postgres.superuser_url()
