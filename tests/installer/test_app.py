"""The installer as a process: its settings, its start on a real broker, a tenant's way through it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from aiokafka import AIOKafkaProducer
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.broker import KafkaAccess
from chassis.egress import Egress
from chassis.settings import BadSettings
from connect.hosts import ATLASSIAN_DOMAINS
from connect.install_keys import PRODUCTION as INSTALL_KEYS
from connect.key_sets import FORGE_PRODUCTION as FORGE_KEYS
from connect.marketplace import PRODUCTION as MARKETPLACE
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.envelope import Envelope, from_headers, to_headers
from contracts.ledger import GENESIS, LedgerHead
from contracts.messages import Message
from contracts.purges import PurgeAccepted, PurgeRequested
from contracts.registry import by_name
from contracts.tenants import TenantState
from contracts.topics import (
    ALL_TOPICS,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    PURGER_COMMANDS,
    PURGER_LEDGER,
)
from devstack.atlassian import Site
from devstack.kafka import RunningKafka, create_topics, start_kafka
from devstack.processes import free_port
from services.installer.app import build, main
from services.installer.settings import App, InstallerSettings
from tests.installer.conftest import APP, AtlassianAtWork, Database, MakeSettings
from tests.support.topics import read_until


def test_bad_settings_are_named_and_end_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEEPWORD_APPS", '[{"key": "not a key", "name": "Example"}]')
    monkeypatch.setenv("KEEPWORD_INSTALL_KEYS_URL", "http://keys.example.com")
    assert main() == 2
    complained = capsys.readouterr().err
    for complaint in (
        "KEEPWORD_APPS: ",
        "KEEPWORD_INSTALL_KEYS_URL: give an https address",
        "KEEPWORD_SESSION_KEY_FILE: is not set",
    ):
        assert complaint in complained


@pytest.mark.parametrize(
    "changed",
    [
        {"apps": ()},
        {"apps": (App(key=APP, name="One"), App(key=APP, name="Two"))},
        {"development": False, "development_site_hosts": frozenset({"localhost:2990"})},
        {"development_site_hosts": frozenset({"http://localhost"})},
        {"public_url": f"https://{'a' * 60}.example.com/{'b' * 120}"},
    ],
)
async def test_settings_that_cannot_work_are_refused(
    make_settings: MakeSettings, changed: dict[str, object]
) -> None:
    with pytest.raises(ValueError):
        make_settings(**changed)


async def test_a_session_key_of_another_kind_is_refused(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(BadSettings, match="SESSION_KEY_FILE: cannot be read"):
        build(make_settings(session_key_file=path))
    path.write_text("no key")
    with pytest.raises(BadSettings, match="SESSION_KEY_FILE: is not a private key"):
        build(make_settings(session_key_file=path))
    rsa = generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(BadSettings, match="SESSION_KEY_FILE: is not an Ed25519 key"):
        build(make_settings(session_key_file=path))


def test_it_asks_whom_its_apps_need_and_customers_sites_at_atlassian(
    make_settings: MakeSettings,
) -> None:
    production: dict[str, object] = {
        "development": False,
        "install_keys_url": INSTALL_KEYS,
        "forge_keys_url": FORGE_KEYS,
    }
    on_connect_alone = make_settings(**production, apps=(App(key=APP, name="Example"),))
    assert on_connect_alone.egress == Egress.to(INSTALL_KEYS, domains=ATLASSIAN_DOMAINS)
    account = {
        "marketplace_developer_id": "7",
        "marketplace_account": "ada@vendor.example",
        "marketplace_token_file": Path("token"),
    }
    everything = make_settings(**production, **account).egress
    assert everything == Egress.to(INSTALL_KEYS, FORGE_KEYS, MARKETPLACE, domains=ATLASSIAN_DOMAINS)
    laptop = make_settings(development_site_hosts=frozenset({"localhost:2990"})).egress
    assert laptop.names("localhost", 2990)


async def test_the_installation_is_one_step(make_settings: MakeSettings) -> None:
    erases = build(make_settings()).erases
    assert erases is not None
    assert erases.steps == {DataClass.INSTALLATION: "erase-installer"}
    assert erases.key_class is DataClass.INSTALLATION


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningKafka]:
    """A broker of its own, with all our topics and an empty ledger."""
    kafka = start_kafka(tmp_path / "kafka")
    try:
        await create_topics(ALL_TOPICS, bootstrap_servers=kafka.bootstrap_servers)
        yield kafka
    finally:
        kafka.stop()


async def say(
    access: KafkaAccess, topic: str, type_name: str, message: Message, key: str | None = None
) -> None:
    envelope = Envelope(
        id=uuid4(),
        source="/keepword/purger",
        type=by_name(type_name).ce_type,
        time=datetime.now(UTC),
    )
    producer: AIOKafkaProducer
    async with access.producer() as producer:
        await producer.send_and_wait(
            topic,
            message.encode(),
            key=key.encode() if key else None,
            headers=to_headers(envelope),
        )


async def until_ready(url: str, task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(60), httpx2.AsyncClient() as http:
        while not task.done():
            try:
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.02)
    await task


async def test_a_tenant_is_told_of_and_its_purge_accepted(
    broker: RunningKafka,
    database: Database,
    make_settings: MakeSettings,
    atlassian_at_work: AtlassianAtWork,
    site: Site,
) -> None:
    settings: InstallerSettings = make_settings(
        kafka_bootstrap_servers=broker.bootstrap_servers, http_port=free_port()
    )
    access = KafkaAccess(broker.bootstrap_servers, "purger")
    head = LedgerHead(
        number=0, hash=GENESIS, cluster_id=await access.cluster_id(), at=datetime.now(UTC)
    )
    await say(access, PURGER_LEDGER.name, "ledger-head", head)
    url = f"http://127.0.0.1:{settings.http_port}"
    stop = asyncio.Event()
    running = asyncio.create_task(build(settings).run(stop=stop))
    try:
        await until_ready(url, running)
        for call in (atlassian_at_work.atlassian.install, atlassian_at_work.atlassian.uninstall):
            assert (await call(site, url, APP)).status_code == 204
        records = await read_until(access, INSTALLER_TENANTS.name, 2, tombstones=False)
        installed, left = (TenantState.decode(record.value) for record in records)
        assert {record.key.decode() for record in records} == {str(left.tenant_id)}
        assert from_headers(records[0].headers).type == "keepword.tenant-installed.v1"
        assert left.version > installed.version
        request = PurgeRequested(
            purge_id=uuid4(),
            step="accept",
            tenant_id=left.tenant_id,
            tenant_version=left.version,
            classes=TENANT_CLASSES,
        )
        await say(access, PURGER_COMMANDS.name, "purge-requested", request, key=str(left.tenant_id))
        (answer,) = await read_until(access, INSTALLER_ERASURES.name, 1)
        accepted = PurgeAccepted.decode(answer.value)
        assert (accepted.purge_id, accepted.tenant_id) == (request.purge_id, left.tenant_id)
        assert await database.status(left.tenant_id) == "purging"
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
