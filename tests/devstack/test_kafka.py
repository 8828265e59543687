import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from contracts.topics import ALL_TOPICS, Acl, acls
from devstack.jars import classes_of, ensure_jars
from devstack.kafka import (
    KafkaSetupError,
    RunningKafka,
    Security,
    create_topics,
    grant,
    start_kafka,
)
from devstack.processes import StartFailedError


@dataclass(frozen=True)
class ATopic:
    name: str
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


async def write(
    kafka: RunningKafka, topic: str, *values: bytes | None, user: str | None = None
) -> None:
    async with AIOKafkaProducer(**kafka.client_options(user), enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"k")


async def read(kafka: RunningKafka, topic: str) -> list[bytes | None]:
    """Everything the topic holds now."""
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        **kafka.client_options(), auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        values = []
        while await consumer.position(partition) < end:
            batch = await consumer.getmany(timeout_ms=100)
            values += [record.value for records in batch.values() for record in records]
        return values


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    users = {service: f"{service}-password" for service in ("installer", "purger", "config")}
    # Another address than the usual one: its certificate has to name that.
    running = start_kafka(
        tmp_path_factory.mktemp("secured"), host="127.0.0.2", secured=Security(users)
    )
    yield running
    running.stop()


async def test_a_restart_and_a_kill_keep_port_topics_and_records(tmp_path: Path) -> None:
    kafka = start_kafka(tmp_path)
    address = kafka.bootstrap_servers
    await create_topics([ATopic("kept")], **kafka.client_options())
    await write(kafka, "kept", b"first")

    kafka.restart()
    await write(kafka, "kept", b"second")
    kafka.kill()
    assert not kafka.alive
    kafka.restart()

    assert await read(kafka, "kept") == [b"first", b"second"]
    assert kafka.bootstrap_servers == address
    kafka.stop()
    again = start_kafka(tmp_path)
    assert await read(again, "kept") == [b"first", b"second"]
    again.stop()
    assert not again.alive


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(StartFailedError, match=r"num\.network\.threads"):
        start_kafka(tmp_path, properties={"num.network.threads": "none"})


def test_a_broker_reads_what_java_learned_of_it_at_an_earlier_start(kafka: RunningKafka) -> None:
    mapped = Path(f"/proc/{kafka.pid}/maps").read_text(encoding="utf-8")
    assert str(classes_of(ensure_jars())) in mapped


def test_a_broker_starts_too_where_java_could_not_keep_what_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "never-kept.aot"
    monkeypatch.setattr("devstack.kafka.classes_of", lambda _: nowhere)

    def too_busy(broker: RunningKafka) -> None:
        broker.kill()
        raise RuntimeError("kafka did not stop and was killed")

    with monkeypatch.context() as busy:
        busy.setattr(RunningKafka, "stop", too_busy)
        running = start_kafka(tmp_path / "kafka")
    assert running.alive
    assert not nowhere.exists()
    running.stop()


async def test_creating_topics_again_leaves_them_as_they_are(kafka: RunningKafka) -> None:
    await create_topics([ATopic("again", 2)], **kafka.client_options())
    await create_topics([ATopic("again", 3)], **kafka.client_options())

    async with AIOKafkaConsumer("again", **kafka.client_options()) as consumer:
        assert consumer.partitions_for_topic("again") == {0, 1}


async def test_a_refused_topic_is_an_error_and_the_others_are_made(kafka: RunningKafka) -> None:
    impossible = {"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}

    with pytest.raises(KafkaSetupError, match=r"^topics refused: refused: .*compaction") as raised:
        await create_topics(
            [ATopic("refused", config=impossible), ATopic("made")], **kafka.client_options()
        )

    assert "made:" not in str(raised.value)
    await write(kafka, "made", b"value")
    assert await read(kafka, "made") == [b"value"]


async def test_compaction_can_be_forced_within_a_test(kafka: RunningKafka) -> None:
    prompt = {
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
    }
    await create_topics([ATopic("compacted", config=prompt)], **kafka.client_options())
    await write(kafka, "compacted", b"secret", None)

    async with asyncio.timeout(30):
        while b"secret" in await read(kafka, "compacted"):
            # The segment that is written to is never cleaned: each record may open the next.
            await write(kafka, "compacted", None)


async def test_the_contracts_topics_and_permissions_are_accepted(secured: RunningKafka) -> None:
    await create_topics(ALL_TOPICS, **secured.client_options())
    await grant(acls(), **secured.client_options())

    await write(secured, "installer.tenants.v1", b"state", user="installer")
    with pytest.raises(TopicAuthorizationFailedError):
        await write(secured, "purger.purges.v1", b"state", user="installer")


async def test_a_wrong_password_and_no_password_are_refused(secured: RunningKafka) -> None:
    wrong = secured.client_options("installer") | {"sasl_plain_password": "guessed"}
    plain = {"bootstrap_servers": secured.bootstrap_servers}

    for options in (wrong, plain):
        admin = AIOKafkaAdminClient(**options, request_timeout_ms=2000)
        with pytest.raises(KafkaConnectionError):
            await admin.start()
        await admin.close()


async def test_a_user_without_permissions_may_not_even_write(secured: RunningKafka) -> None:
    await create_topics([ATopic("closed")], **secured.client_options())

    with pytest.raises(TopicAuthorizationFailedError):
        await write(secured, "closed", b"value", user="config")
    await grant(
        [Acl("User:config", "TOPIC", "clo", "WRITE", "PREFIXED")], **secured.client_options()
    )
    await write(secured, "closed", b"value", user="config")


async def test_a_secured_broker_is_still_trusted_after_a_restart(secured: RunningKafka) -> None:
    before = secured.client_options()
    secured.restart()

    await create_topics([ATopic("after")], **before)


def test_no_password_is_shown_or_left_for_others_to_read(secured: RunningKafka) -> None:
    folder = secured.ca_file.parent

    for name in ("server.properties", "admin.password", "broker.pem"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert "password" not in (folder / "kafka.log").read_text()
    assert repr(Security({"installer": "hidden"})) == "Security()"
