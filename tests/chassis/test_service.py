"""A service starts in any order, opens its doors late, and stops cleanly."""

import asyncio
import json
import shutil
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import asyncpg
import httpx2
import pytest
from fastapi import APIRouter, Request
from structlog.testing import capture_logs

from chassis.broker import KafkaAccess
from chassis.epochs import behind_since, ensure_epoch
from chassis.handlers import Handlers
from chassis.service import Erases, Running, Service, running
from chassis.settings import ServiceSettings
from chassis.shutdown import CannotStart, PartFailed, main
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from contracts.envelope import to_headers
from contracts.ledger import GENESIS, LedgerHead
from contracts.tenants import TenantState
from contracts.topics import ALL_TOPICS, INSTALLER_TENANTS, PURGER_LEDGER
from devstack.kafka import RunningKafka, create_topics, start_kafka
from devstack.processes import free_port
from tests.support.bus import an_envelope
from tests.support.chassis import SAMPLE_MAP, SAMPLE_MIGRATIONS, Sample, a_tenant


class SampleSettings(ServiceSettings):
    """What the sample service reads from its environment."""

    service: ClassVar[str] = "config"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    key = urlsafe_b64encode(b"k" * 32).decode()
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"current": "1", "keys": {"1": key}, "blind_index": key}))
    path.chmod(0o600)
    return path


def settings_of(sample: Sample, kafka: RunningKafka, keys_file: Path) -> SampleSettings:
    return SampleSettings(
        database_url=sample.roles.runtime_url,
        worker_database_url=sample.roles.worker_url,
        eraser_database_url=sample.roles.eraser_url,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        http_port=free_port(),
        public_url="http://127.0.0.1",
        key_encryption_keys_file=keys_file,
    )


router = APIRouter()


@router.get("/tenants")
async def tenants(request: Request) -> dict[str, str]:
    return {"service": running(request).units.service}


async def no_restate(units: Units[None]) -> None:
    """Say nothing again."""


def a_service(settings: SampleSettings, handlers: Handlers[None] | None = None) -> Service[None]:
    return Service(
        settings=settings,
        data_map=SAMPLE_MAP,
        handlers=handlers or Handlers("config"),
        topics=(INSTALLER_TENANTS,),
        context=lambda _: None,
        restate=no_restate,
        routers=[router],
        erases=Erases({DataClass.CONTENT: "erase-sample"}, DataClass.CONTENT),
        migrations=SAMPLE_MIGRATIONS,
    )


@asynccontextmanager
async def started(service: Service[None]) -> AsyncIterator[httpx2.AsyncClient]:
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop=stop))
    url = f"http://127.0.0.1:{service.settings.http_port}"
    async with httpx2.AsyncClient(base_url=url) as client:
        try:
            yield client
        finally:
            stop.set()
            await asyncio.wait_for(task, 30)


async def until(
    client: httpx2.AsyncClient, path: str, status: int, *, seconds: float = 30
) -> httpx2.Response:
    async with asyncio.timeout(seconds):
        while True:
            try:
                response = await client.get(path)
                if response.status_code == status:
                    return response
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def say_head(access: KafkaAccess) -> None:
    head = LedgerHead(
        number=0, hash=GENESIS, cluster_id=await access.cluster_id(), at=datetime.now(UTC)
    )
    async with access.producer() as producer:
        await producer.send_and_wait(
            PURGER_LEDGER.name, head.encode(), headers=to_headers(an_envelope("ledger-head"))
        )


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[RunningKafka]:
    kafka = start_kafka(tmp_path / "kafka")
    yield kafka
    if kafka.alive:
        kafka.stop()


async def test_without_kafka_it_lives_waits_and_then_opens_its_doors(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    """With the framework's own start the web server goes on for ever without a consumer."""
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    own_kafka.stop()
    async with started(a_service(settings_of(sample, own_kafka, keys_file))) as client:
        await until(client, "/livez", 200)
        waiting = await until(client, "/readyz", 503)
        assert "doors" in waiting.json()["checks"]
        closed = await client.get("/tenants")
        assert closed.status_code == 503
        assert closed.headers["content-type"] == "application/problem+json"
        assert closed.headers["retry-after"] == "2"
        await asyncio.to_thread(own_kafka.restart)
        await say_head(access)
        await until(client, "/readyz", 200)
        assert (await client.get("/tenants")).json() == {"service": "config"}


async def test_doors_stay_closed_until_a_ledger_head_of_this_cluster_is_applied(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    async with started(a_service(settings_of(sample, own_kafka, keys_file))) as client:
        await until(client, "/livez", 200)

        async def reads_ledger() -> bool:
            return bool(await sample.worker.fetchval("SELECT count(*) FROM positions"))

        async with asyncio.timeout(20):
            while not await reads_ledger():
                await asyncio.sleep(0.05)
        assert (await client.get("/readyz")).status_code == 503
        await say_head(access)
        await until(client, "/readyz", 200)


async def test_two_replicas_are_both_ready_where_a_topic_has_one_partition(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    await say_head(access)
    one, other = (a_service(settings_of(sample, own_kafka, keys_file)) for _ in range(2))
    async with started(one) as first:
        await until(first, "/readyz", 200)
        async with started(other) as second:
            await until(second, "/readyz", 200)
            await until(first, "/readyz", 200)


async def test_messages_that_cannot_be_sent_take_no_replica_out_of_service(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.service._RELAY_IS_STUCK_AFTER_SECONDS", -1.0)
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    await say_head(access)
    async with started(a_service(settings_of(sample, own_kafka, keys_file))) as client:
        ready = await until(client, "/readyz", 200)
        assert ready.json()["checks"]["relay"]["state"] == "warning"


async def test_a_stop_lets_the_handler_in_hand_finish_and_its_answer_go_out(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    await say_head(access)
    entered, finished = asyncio.Event(), asyncio.Event()
    handlers: Handlers[None] = Handlers("config")

    @handlers.follows(TenantState)
    async def slow(message: TenantState, uow: UnitOfWork[None]) -> None:
        entered.set()
        await asyncio.sleep(1)
        finished.set()

    state = a_tenant()
    async with started(a_service(settings_of(sample, own_kafka, keys_file), handlers)) as client:
        await until(client, "/readyz", 200)
        metrics = (await client.get("/metrics")).text
        assert "keepword_outbox_unsent" in metrics
        async with access.producer() as producer:
            await producer.send_and_wait(
                INSTALLER_TENANTS.name,
                state.encode(),
                key=str(state.tenant_id).encode(),
                headers=to_headers(an_envelope("tenant-installed")),
            )
        await asyncio.wait_for(entered.wait(), 20)
    assert finished.is_set()
    done = await sample.worker.fetchval(
        "SELECT count(*) FROM followed_states WHERE tenant_id = $1", state.tenant_id
    )
    assert done == 1


async def test_a_restored_database_takes_over_before_the_ledger_and_once(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    await say_head(access)
    calls: list[int] = []

    async def take_over(this: Running[None], kafka: KafkaAccess) -> None:
        calls.append(await this.units.pool.fetchval("SELECT count(*) FROM ledger_reader"))

    settings = settings_of(sample, own_kafka, keys_file)
    async with started(replace(a_service(settings), take_over=take_over)) as client:
        await until(client, "/readyz", 200)
    assert calls == []
    await sample.worker.execute("DELETE FROM ledger_reader")
    await sample.worker.execute("DELETE FROM positions")
    async with sample.worker.acquire() as connection:
        await ensure_epoch(connection, wall=datetime.now(UTC), force=True)
    for _ in range(2):
        async with started(replace(a_service(settings), take_over=take_over)) as client:
            await until(client, "/readyz", 200)
            async with asyncio.timeout(20):
                while await behind_since_in(sample):
                    await asyncio.sleep(0.05)
    assert calls == [0]


async def behind_since_in(sample: Sample) -> datetime | None:
    async with sample.worker.acquire() as connection:
        return await behind_since(connection)


async def test_what_cannot_be_taken_over_ends_the_service(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    async def take_over(this: Running[None], kafka: KafkaAccess) -> None:
        raise RuntimeError("the ledger is forked")

    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    async with sample.worker.acquire() as connection:
        await ensure_epoch(connection, wall=datetime.now(UTC), force=True)
    service = replace(a_service(settings_of(sample, own_kafka, keys_file)), take_over=take_over)
    with pytest.raises(PartFailed, match="RuntimeError"):
        await asyncio.wait_for(service.run(), 30)


def without_kafka(sample: Sample, keys_file: Path, **others: object) -> SampleSettings:
    """Settings of a service that does not come as far as Kafka."""
    given = {
        "database_url": sample.roles.runtime_url,
        "worker_database_url": sample.roles.worker_url,
        "eraser_database_url": sample.roles.eraser_url,
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "http_port": 0,
        "public_url": "http://127.0.0.1",
        "key_encryption_keys_file": keys_file,
    }
    return SampleSettings.model_validate(given | others)


async def refusal_of(service: Service[None]) -> str:
    with pytest.raises(CannotStart) as refused:
        await asyncio.wait_for(service.run(), 30)
    reason = str(refused.value)
    assert "\n" not in reason
    return reason


async def test_a_wrong_password_of_the_database_is_said_in_one_line(
    sample: Sample, keys_file: Path
) -> None:
    role, _, rest = sample.roles.worker_url.partition("//")[2].partition(":")
    wrong = f"postgresql://{role}:geheim@{rest.partition('@')[2]}"
    settings = without_kafka(sample, keys_file, worker_database_url=wrong)
    reason = await refusal_of(a_service(settings))
    assert reason.startswith("KEEPWORD_WORKER_DATABASE_URL: the server refuses its role")
    assert "geheim" not in reason


async def test_a_file_of_keys_that_is_missing_is_said_in_one_line(
    sample: Sample, tmp_path: Path
) -> None:
    reason = await refusal_of(a_service(without_kafka(sample, tmp_path / "none.json")))
    assert reason == "KEEPWORD_KEY_ENCRYPTION_KEYS_FILE: cannot be read: No such file or directory"


async def test_a_database_that_nobody_migrates_is_said_in_one_line(
    sample: Sample, keys_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.service._MIGRATED_WITHIN_SECONDS", 0.0)
    newer = tmp_path / "migrations"
    shutil.copytree(SAMPLE_MIGRATIONS, newer)
    shutil.copy(newer / "0001_notes.py", newer / "0002_more.py")
    service = replace(a_service(without_kafka(sample, keys_file)), migrations=newer)
    reason = await refusal_of(service)
    assert "older than this release: run `keepword migrate sample`" in reason


async def test_a_database_of_a_release_that_cannot_be_gone_back_from_is_said_in_one_line(
    sample: Sample, keys_file: Path
) -> None:
    owner = await asyncpg.connect(sample.roles.owner_url)
    try:
        await owner.execute("UPDATE sample_migrations SET version_num = '0009'")
        await owner.execute("COMMENT ON TABLE sample_migrations IS '0007'")
    finally:
        await owner.close()
    reason = await refusal_of(a_service(without_kafka(sample, keys_file)))
    assert "sample_migrations is at 0009 and needs code that knows 0007" in reason
    assert reason.endswith("start the newer release again")


def test_what_cannot_start_ends_with_the_status_of_settings_that_cannot_work() -> None:
    async def program() -> None:
        raise CannotStart("KEEPWORD_SOMETHING: mend it")

    with capture_logs() as logged:
        assert main(program) == 2
    assert logged == [
        {
            "event": "cannot start",
            "reason": "KEEPWORD_SOMETHING: mend it",
            "log_level": "critical",
        }
    ]


async def test_an_entry_of_the_ledger_that_cannot_be_applied_ends_the_service(
    sample: Sample, own_kafka: RunningKafka, keys_file: Path
) -> None:
    access = KafkaAccess(own_kafka.bootstrap_servers, "sample")
    await create_topics(ALL_TOPICS, **access.client_options())
    await say_head(access)
    settings = settings_of(sample, own_kafka, keys_file)
    task = asyncio.create_task(a_service(settings).run())
    url = f"http://127.0.0.1:{settings.http_port}"
    async with httpx2.AsyncClient(base_url=url) as client:
        await until(client, "/readyz", 200)
        async with access.producer() as producer:
            await producer.send_and_wait(
                PURGER_LEDGER.name, b"{}", headers=to_headers(an_envelope("tenant-erased"))
            )
        with pytest.raises(PartFailed, match="LedgerBrokenError"):
            await asyncio.wait_for(task, 60)
    # And it does not start again.
    with pytest.raises(PartFailed, match="LedgerBrokenError"):
        await asyncio.wait_for(a_service(settings).run(), 60)
