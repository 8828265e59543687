"""Whoever cannot get at Kafka is told why, and what mends it."""

import asyncio
import contextlib
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from chassis.broker import KafkaAccess
from chassis.logs import redacted_text
from contracts.topics import ALL_TOPICS, INSTALLER_TENANTS, PURGER_LEDGER, acls
from devstack.kafka import RunningKafka, Security, create_topics, grant, start_kafka
from devstack.processes import free_port

PASSWORD = "the-right-one"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    folder = tmp_path_factory.mktemp("secured")
    running = start_kafka(folder, secured=Security({"config": PASSWORD}))
    yield running
    running.stop()


def access_to(kafka: RunningKafka) -> KafkaAccess:
    return KafkaAccess(
        kafka.bootstrap_servers, "sample", "config", PASSWORD, ca_file=str(kafka.ca_file)
    )


async def said_by(waiting: Any) -> MutableMapping[str, Any]:
    """Give the first line of what waits, which is then given up."""
    with capture_logs() as logged:
        task = asyncio.create_task(waiting)
        async with asyncio.timeout(30):
            while not logged and not task.done():
                await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return logged[0]


async def test_who_has_the_right_password_gets_in(secured: RunningKafka) -> None:
    assert await access_to(secured).wait()


async def test_a_wrong_password_is_told_from_a_kafka_that_is_away(secured: RunningKafka) -> None:
    line = await said_by(replace(access_to(secured), password="wrong").wait())
    assert line["log_level"] == "warning"
    assert "refuses the user or the password" in line["hint"]
    assert redacted_text(line["hint"]) == line["hint"], "what it says is itself taken for a secret"
    assert "KEEPWORD_KAFKA_PASSWORD" in line["hint"]
    assert "wrong" not in str(line)


async def test_a_certificate_of_somebody_else_is_told(
    secured: RunningKafka, tmp_path: Path
) -> None:
    line = await said_by(replace(access_to(secured), ca_file=None).wait())
    assert "KEEPWORD_KAFKA_CA_FILE" in line["hint"]


async def test_a_kafka_that_is_away_is_told() -> None:
    line = await said_by(KafkaAccess(f"127.0.0.1:{free_port()}", "sample").wait())
    assert "KEEPWORD_KAFKA_BOOTSTRAP_SERVERS" in line["hint"]


async def test_missing_topics_are_named_and_waited_for(secured: RunningKafka) -> None:
    administrator = secured.client_options()
    await create_topics([PURGER_LEDGER], **administrator)
    access = access_to(secured)
    wanted = {INSTALLER_TENANTS.name}
    line = await said_by(access.wait_for_topics(wanted))
    assert line["topics"] == [INSTALLER_TENANTS.name]
    assert "keepword topics apply" in line["hint"]
    waiting = asyncio.create_task(access.wait_for_topics(wanted))
    await create_topics(ALL_TOPICS, **administrator)
    await grant(acls(), **administrator)
    await asyncio.wait_for(waiting, 30)
