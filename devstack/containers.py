"""Kafka and PostgreSQL in containers, for a machine with a Docker engine."""

from collections.abc import Iterator
from contextlib import contextmanager

from docker.errors import DockerException  # type: ignore[import-untyped] # publishes no types
from testcontainers.community.kafka import KafkaContainer
from testcontainers.community.postgres import PostgresContainer


class NoDockerError(Exception):
    """No Docker engine answers."""


@contextmanager
def kafka_container() -> Iterator[str]:
    """Run one broker; give its bootstrap servers, and forget it in the end."""
    with _docker():
        container = KafkaContainer().with_kraft()
        container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        container.start()
    try:
        yield str(container.get_bootstrap_server())
    finally:
        container.stop()


@contextmanager
def postgres_container() -> Iterator[str]:
    """Run one server; give the URL of its superuser, and forget it in the end."""
    with _docker():
        container = PostgresContainer("postgres:18", driver=None)
        container.start()
    try:
        yield str(container.get_connection_url())
    finally:
        container.stop()


@contextmanager
def _docker() -> Iterator[None]:
    try:
        yield
    except DockerException as error:
        raise NoDockerError(
            "containers need a Docker engine, and none answers: leave them out to do without"
        ) from error
