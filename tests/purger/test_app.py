"""Purger starts, reports ready, carries a purge over real Kafka, drains and stops."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest
from aiokafka import ConsumerRecord
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.broker import KafkaAccess
from chassis.identifiers import uuid7
from contracts.envelope import Envelope, to_headers
from contracts.ledger import LedgerEntry, LedgerHead
from contracts.messages import Message
from contracts.purges import PurgeRequested, PurgeStarted, PurgeState
from contracts.registry import ce_type
from contracts.topics import (
    ALL_TOPICS,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    PURGER_COMMANDS,
    PURGER_LEDGER,
    PURGER_PURGES,
    Topic,
)
from devstack.kafka import RunningKafka, create_topics, start_kafka
from devstack.processes import free_port
from services.purger.app import build
from services.purger.ledger_key import LedgerKey
from services.purger.settings import PurgerSettings
from tests.purger.builders import DAY, a_tenant, acceptance
from tests.purger.conftest import Purger
from tests.support.topics import read_until

M = TypeVar("M", bound=Message)

# A purge starts 151.5 to 156 days after its clock; 160.5 days after it the first is late.
DUE_AND_NOT_LATE = 158 * DAY


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[RunningKafka]:
    """A broker whose topics nobody else writes to."""
    kafka = start_kafka(tmp_path / "kafka")
    yield kafka
    kafka.stop()


def settings_of(
    purger: Purger, kafka: RunningKafka, folder: Path, key: LedgerKey
) -> PurgerSettings:
    ledger_key = folder / "ledger.pem"
    ledger_key.write_bytes(
        key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    keys = folder / "keys.json"
    some = urlsafe_b64encode(b"k" * 32).decode()
    keys.write_text(json.dumps({"current": "1", "keys": {"1": some}, "blind_index": some}))
    keys.chmod(0o600)
    return PurgerSettings(
        database_url=purger.roles.runtime_url,
        worker_database_url=purger.roles.worker_url,
        eraser_database_url=purger.roles.eraser_url,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        http_port=free_port(),
        public_url="http://127.0.0.1",
        key_encryption_keys_file=keys,
        ledger_key_file=ledger_key,
        sweep_seconds=1,
    )


@asynccontextmanager
async def started(settings: PurgerSettings) -> AsyncIterator[httpx2.AsyncClient]:
    service = build(settings)
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop=stop))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}") as client:
        try:
            yield client
        finally:
            stop.set()
            await asyncio.wait_for(task, 30)


async def until_ready(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def until_done(client: httpx2.AsyncClient, *jobs: str) -> None:
    """A job that is written, tested and never scheduled is what others found out about too late."""
    wanted = [f'keepword_job_runs_total{{job="{job}",outcome="completed"}}' for job in jobs]
    async with asyncio.timeout(30):
        while True:
            figures = (await client.get("/metrics")).text
            if all(each in figures for each in wanted):
                return
            await asyncio.sleep(0.05)


async def say(access: KafkaAccess, topic: Topic, type_name: str, message: Message) -> None:
    key = str(message.tenant_id) if hasattr(message, "tenant_id") else ""
    envelope = Envelope(
        id=uuid7(datetime.now(UTC)),
        source="/keepword/installer",
        type=ce_type(type_name),
        time=datetime.now(UTC),
        partitionkey=key,
    )
    async with access.producer() as producer:
        await producer.send_and_wait(
            topic.name, message.encode(), key=key.encode(), headers=to_headers(envelope)
        )


def body(record: ConsumerRecord, model: type[M]) -> M:
    return model.decode(record.value)


async def test_a_purge_goes_from_the_topic_to_the_ledger_and_a_second_start_finds_it(
    purger: Purger, own_kafka: RunningKafka, tmp_path: Path, ledger_key: LedgerKey
) -> None:
    access = KafkaAccess(own_kafka.bootstrap_servers, "test")
    await create_topics(ALL_TOPICS, **access.client_options())
    settings = settings_of(purger, own_kafka, tmp_path, ledger_key)
    tenant = a_tenant(
        left_at=datetime.now(UTC) - DUE_AND_NOT_LATE, created_at=datetime(2020, 1, 1, tzinfo=UTC)
    )

    async with started(settings) as client:
        await until_ready(client)
        await until_done(client, "escalate", "count purges", "note forecast", "check ledger")
        assert (await client.get("/readyz")).json()["checks"]["sweep"] == {"state": "ok"}
        (head,) = await read_until(access, PURGER_LEDGER.name, 1)
        said = body(head, LedgerHead)
        assert (said.number, said.cluster_id) == (0, await access.cluster_id())

        await say(access, INSTALLER_TENANTS, "tenant-uninstalled", tenant)
        (command,) = await read_until(access, PURGER_COMMANDS.name, 1)
        asked = body(command, PurgeRequested)
        assert asked.tenant_version == tenant.version
        await say(
            access, INSTALLER_ERASURES, "purge-accepted", acceptance(asked, datetime.now(UTC))
        )
        orders = await read_until(access, PURGER_COMMANDS.name, 4)
        assert len({order.partition for order in orders}) == 1
        assert {body(order, PurgeStarted).owner for order in orders[1:]} == {
            "installer",
            "config",
            "notifier",
        }
        _, entry = await read_until(access, PURGER_LEDGER.name, 2)
        assert [body(entry, LedgerEntry)] == await purger.ledger()
        states = await read_until(access, PURGER_PURGES.name, 3, tombstones=False)
        versions = [body(state, PurgeState).version for state in states]
        assert versions == sorted(versions)
        for path in ("/staff/brake", "/staff/board"):
            assert (await client.get(path)).status_code == 404
        for what in ("wishes", "holds"):
            path = f"/staff/tenants/{uuid7(datetime.now(UTC))}/{what}"
            assert (await client.post(path, json={})).status_code == 404
        figures = (await client.get("/metrics")).text
        assert "keepword_held_purges_overdue 0.0" in figures
        assert (await client.get("/ledger/public-key")).text == ledger_key.public_pem

    async with started(settings) as client:
        await until_ready(client)
        records = await read_until(access, PURGER_LEDGER.name, 3)
        last = body(records[-1], LedgerHead)
        assert last.number == 1
