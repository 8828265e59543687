from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import asyncpg
import pytest
from docker.errors import DockerException  # type: ignore[import-untyped] # publishes no types

from devstack import containers
from devstack.containers import NoDockerError
from devstack.postgres import RunningPostgres
from devstack.provider import ROLE_VARIABLES, HalfGivenError, given_roles, start_stack

KINDS = ("", "OWNER_", "WORKER_", "ERASER_", "BACKUP_")


def urls_of(service: str) -> dict[str, str]:
    return {f"KEEPWORD_{service}_{kind}DATABASE_URL": f"postgresql://{kind}" for kind in KINDS}


@dataclass
class AContainer:
    """What a container shows of itself, without an engine to run it."""

    answer: str
    engine: bool = True
    running: bool = False
    variables: dict[str, str] = field(default_factory=dict)

    def __call__(self, *_: object, **__: object) -> Self:
        if not self.engine:
            raise DockerException("no socket")
        return self

    def with_kraft(self) -> Self:
        return self

    def with_env(self, name: str, value: str) -> Self:
        self.variables[name] = value
        return self

    def start(self) -> Self:
        self.running = True
        return self

    def stop(self) -> None:
        self.running = False

    def get_bootstrap_server(self) -> str:
        assert self.running
        return self.answer

    def get_connection_url(self) -> str:
        assert self.running
        return self.answer


async def enter(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SELECT current_user"))
    finally:
        await connection.close()


async def test_what_the_environment_gives_is_used_and_nothing_is_started(tmp_path: Path) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "theirs:9092", **urls_of("PURGER")}

    stack = await start_stack(["purger"], folder=tmp_path, environment=given, containers=False)
    stack.stop()

    assert stack.bootstrap_servers == "theirs:9092"
    assert stack.databases["purger"].runtime_url == "postgresql://"
    assert stack.databases["purger"].eraser_url == "postgresql://ERASER_"
    assert not (tmp_path / "kafka").exists()
    assert not (tmp_path / "postgres").exists()


def test_half_a_services_urls_are_an_error_that_names_the_rest() -> None:
    for name in ROLE_VARIABLES.values():
        given = urls_of("PURGER")
        del given[name.format("PURGER")]
        with pytest.raises(HalfGivenError, match=name.format("PURGER")):
            given_roles("purger", given)


async def test_without_anything_given_both_are_started_here(tmp_path: Path) -> None:
    stack = await start_stack(["purger"], folder=tmp_path, environment={}, containers=False)
    try:
        assert await enter(stack.databases["purger"].worker_url) == "purger_worker"
        assert (tmp_path / "kafka" / "data").is_dir()
    finally:
        stack.stop()

    with pytest.raises(OSError, match=r"Connect call failed"):
        await enter(stack.databases["purger"].worker_url)


async def test_a_service_with_a_database_of_its_own_leaves_the_others_to_us(
    tmp_path: Path,
) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "theirs:9092", **urls_of("PURGER")}

    stack = await start_stack(
        ["purger", "config"], folder=tmp_path, environment=given, containers=False
    )
    try:
        assert stack.databases["purger"].runtime_url == "postgresql://"
        assert await enter(stack.databases["config"].runtime_url) == "config_runtime"
    finally:
        stack.stop()


async def test_containers_are_used_when_asked_for_and_stopped_in_the_end(
    postgres: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, database = AContainer("boxed:9092"), AContainer(postgres.superuser_url())
    monkeypatch.setattr(containers, "KafkaContainer", kafka)
    monkeypatch.setattr(containers, "PostgresContainer", database)

    stack = await start_stack(["contained"], folder=tmp_path, environment={}, containers=True)

    assert stack.bootstrap_servers == "boxed:9092"
    assert kafka.variables == {"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false"}
    assert await enter(stack.databases["contained"].owner_url) == "contained_owner"
    stack.stop()
    assert not kafka.running
    assert not database.running


async def test_what_is_given_comes_before_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = AContainer("", engine=False)
    monkeypatch.setattr(containers, "KafkaContainer", absent)
    monkeypatch.setattr(containers, "PostgresContainer", absent)
    given = {"KAFKA_BOOTSTRAP_SERVERS": "theirs:9092", **urls_of("PURGER")}

    stack = await start_stack(["purger"], folder=tmp_path, environment=given, containers=True)

    assert stack.bootstrap_servers == "theirs:9092"
    with pytest.raises(NoDockerError, match="Docker engine"):
        await start_stack(["purger"], folder=tmp_path, environment={}, containers=True)


async def test_when_the_second_does_not_start_the_first_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = AContainer("boxed:9092")
    monkeypatch.setattr(containers, "KafkaContainer", kafka)
    monkeypatch.setattr(containers, "PostgresContainer", AContainer("", engine=False))

    with pytest.raises(NoDockerError):
        await start_stack(["purger"], folder=tmp_path, environment={}, containers=True)

    assert not kafka.running
