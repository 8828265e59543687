"""A migrated database of the installer, its whole HTTP edge on a port, and Atlassian calling it."""

import asyncio
import base64
import io
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from starlette.types import ASGIApp

from chassis import logs
from chassis.clock import ManualClock
from chassis.data_map import DataMap
from chassis.database import Pool, open_pool
from chassis.epochs import ensure_epoch
from chassis.erasure import EraserJob
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.metrics import Metrics
from chassis.migrations import migrate
from chassis.problems import BodyLimit, HttpEdge
from chassis.service import Resources, Running, build_app
from chassis.shutdown import HttpServer
from chassis.unit_of_work import Units
from connect.lifecycle import EventType
from contracts.classes import DataClass
from contracts.envelope import Envelope, from_headers
from contracts.registry import by_ce_type
from contracts.tenants import TenantState
from devstack.atlassian import Atlassian, Hook, Site, create_app, forge_app_id
from devstack.postgres import Roles
from services.installer.app import build
from services.installer.data_map import DATA_MAP
from services.installer.door import Door
from services.installer.settings import App, InstallerSettings
from tests.support.stack import Databases

APP = "com.example.app"
OTHER_APP = "com.example.other"
PUBLIC_URL = "https://installer.example.com"
START = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    """One row of the outbox, read again."""

    type: str
    tenant_id: UUID
    message: Any
    data_class: str
    envelope: Envelope

    @property
    def state(self) -> TenantState:
        assert isinstance(self.message, TenantState)
        return self.message


@dataclass(frozen=True)
class Database:
    """A migrated database with its pools and keys; everything in it is of one test."""

    roles: Roles
    runtime: Pool
    worker: Pool
    eraser: Pool
    owner: "asyncpg.Connection[asyncpg.Record]"
    keys: TenantKeys
    keys_file: Path

    def units(self, clock: ManualClock, wake: Callable[[], None] = lambda: None) -> Units[Door]:
        return Units("installer", self.runtime, clock, Door(self.keys), wake)

    def eraser_job(self, units: Units[Door]) -> EraserJob[Door]:
        return EraserJob(
            units=units,
            worker=self.worker,
            eraser=self.eraser,
            data_map=DATA_MAP,
            key_class=DataClass.INSTALLATION,
        )

    async def said(self, tenant_id: UUID | None = None) -> list[Said]:
        rows = await self.owner.fetch(
            "SELECT type, tenant_id, headers, payload, data_class FROM outbox"
            " WHERE $1::uuid IS NULL OR tenant_id = $1 ORDER BY xid, position",
            tenant_id,
        )
        return [_said(row) for row in rows]

    async def forget_said(self) -> None:
        """As if the relay had sent everything and the days were over."""
        await self.owner.execute("TRUNCATE outbox")

    async def counts(self) -> dict[str, int]:
        tables = ("tenants", "installations", "tenant_keys", "outbox", "accepted_purges")
        return {name: await self.owner.fetchval(f"SELECT count(*) FROM {name}") for name in tables}

    async def tenants(self, client_key: str) -> list[UUID]:
        rows = await self.owner.fetch(
            "SELECT tenant_id FROM installations WHERE client_key = $1 ORDER BY live, tenant_id",
            client_key,
        )
        return [row["tenant_id"] for row in rows]

    async def stored(self, tenant_id: UUID) -> Mapping[str, Any]:
        row = await self.owner.fetchrow(
            "SELECT * FROM installations WHERE tenant_id = $1", tenant_id
        )
        assert row is not None
        return dict(row)

    async def status(self, tenant_id: UUID) -> str | None:
        found: str | None = await self.owner.fetchval(
            "SELECT status FROM tenants WHERE tenant_id = $1", tenant_id
        )
        return found

    async def secret(self, tenant_id: UUID) -> str:
        sealed = (await self.stored(tenant_id))["shared_secret"]
        async with self.runtime.acquire() as connection:
            return (await self.keys.open(connection, tenant_id, "shared-secret", sealed)).decode()


def _said(row: "asyncpg.Record") -> Said:
    headers = json.loads(row["headers"])
    envelope = from_headers([(name, value.encode()) for name, value in headers])
    known = by_ce_type(row["type"])
    assert known is not None
    message = known.model.decode(row["payload"]) if row["payload"] is not None else None
    return Said(known.name, row["tenant_id"], message, row["data_class"], envelope)


def _write_keys(path: Path) -> Path:
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    other = base64.urlsafe_b64encode(os.urandom(32)).decode()
    path.write_text(json.dumps({"current": "a", "keys": {"a": key}, "blind_index": other}))
    return path


@asynccontextmanager
async def _database(roles: Roles, data_map: DataMap, keys_file: Path) -> AsyncIterator[Database]:
    await migrate(roles.owner_url, data_map)
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(await open_pool(url, name=name))
            for name, url in (
                ("runtime", roles.runtime_url),
                ("worker", roles.worker_url),
                ("eraser", roles.eraser_url),
            )
        ]
        owner = await asyncpg.connect(roles.owner_url)
        stack.push_async_callback(owner.close)
        keys = TenantKeys("installer", KeyEncryptionKeys.load(keys_file))
        yield Database(roles, pools[0], pools[1], pools[2], owner, keys, keys_file)


@pytest.fixture(scope="session")
async def shared_database(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    roles = (await databases("installer"))["installer"]
    keys_file = _write_keys(tmp_path_factory.mktemp("keys") / "keys.json")
    async with _database(roles, DATA_MAP, keys_file) as database:
        yield database


@pytest.fixture
async def database(shared_database: Database) -> Database:
    """An empty database; the epoch is the clock's start."""
    await shared_database.owner.execute(
        "TRUNCATE tenants, tenant_keys, outbox, erased_tenants, erasures, ledger_reader,"
        " relay_cursor, relay_epochs, access_holds, purged_licences, licence_reports CASCADE"
    )
    async with shared_database.worker.acquire() as connection:
        await ensure_epoch(connection, wall=START)
    return shared_database


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def units(database: Database, clock: ManualClock) -> Units[Door]:
    return database.units(clock)


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a free port.

    Its end is not waited for: uvicorn takes a fifth of a second for it, of each of 600 tests.
    """
    server = HttpServer(app, host="127.0.0.1", port=0)
    running = asyncio.create_task(server.run())
    _SERVED.add(running)
    running.add_done_callback(_SERVED.discard)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        ending = asyncio.create_task(server.stop())
        _SERVED.add(ending)
        ending.add_done_callback(_SERVED.discard)


_SERVED: set["asyncio.Task[None]"] = set()


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


@dataclass(frozen=True)
class AtlassianAtWork:
    """The stand-in and where its key host listens."""

    atlassian: Atlassian
    url: str


@pytest.fixture(scope="session")
async def atlassian_at_work(http: httpx2.AsyncClient) -> AsyncIterator[AtlassianAtWork]:
    atlassian = Atlassian(http)
    async with serving(create_app(atlassian, "http://127.0.0.1:1", [APP])) as url:
        yield AtlassianAtWork(atlassian, url)


@pytest.fixture(scope="session")
def session_key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("session") / "key.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


MakeSettings = Callable[..., InstallerSettings]


@pytest.fixture
def make_settings(
    database: Database, atlassian_at_work: AtlassianAtWork, session_key_file: Path
) -> MakeSettings:
    def make(**changed: Any) -> InstallerSettings:
        given: dict[str, Any] = {
            "database_url": database.roles.runtime_url,
            "worker_database_url": database.roles.worker_url,
            "eraser_database_url": database.roles.eraser_url,
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "http_port": 0,
            "public_url": PUBLIC_URL,
            "apps": (
                App(key=APP, name="Example", forge_app_id=forge_app_id(APP)),
                App(key=OTHER_APP, name="Other"),
            ),
            "install_keys_url": f"{atlassian_at_work.url}/install-keys",
            "forge_keys_url": f"{atlassian_at_work.url}/forge/.well-known/jwks.json",
            "session_key_file": session_key_file,
            "key_encryption_keys_file": database.keys_file,
            "development": True,
        }
        return InstallerSettings(**(given | changed))

    return make


@dataclass(frozen=True)
class Installer:
    """The installer's HTTP edge as it runs, without Kafka behind it, and who calls it."""

    url: str
    http: httpx2.AsyncClient
    atlassian: Atlassian
    running: Running[Door]
    database: Database

    async def install(self, site: Site, app: str = APP) -> httpx2.Response:
        return await self.atlassian.install(site, self.url, app)

    async def uninstall(self, site: Site, app: str = APP) -> httpx2.Response:
        return await self.atlassian.uninstall(site, self.url, app)

    def hook(self, site: Site, event: EventType, app: str = APP, **options: Any) -> Hook:
        return self.atlassian.hook(
            site,
            event,
            app_key=app,
            audience=f"{PUBLIC_URL}/connect/{app}",
            path=f"/lifecycle/{event}",
            **options,
        )

    async def send(self, hook: Hook, app: str = APP, **changed: Any) -> httpx2.Response:
        return await self.http.post(
            f"{self.url}/connect/{app}{hook.path}",
            **({"content": hook.content, "headers": dict(hook.headers)} | changed),
        )

    def figure(self, name: str, **labels: str) -> float:
        """How far a counter of this process has come."""
        found = self.running.resources.metrics.registry.get_sample_value(f"keepword_{name}", labels)
        return found or 0.0

    async def installed(self, site: Site) -> UUID:
        """Install a site and return its tenant."""
        answer = await self.install(site)
        assert answer.status_code == 204
        return (await self.database.tenants(site.client_key))[-1]


StartInstaller = Callable[[InstallerSettings], Awaitable[Installer]]


@pytest.fixture
async def start_installer(
    database: Database,
    clock: ManualClock,
    http: httpx2.AsyncClient,
    atlassian_at_work: AtlassianAtWork,
) -> AsyncIterator[StartInstaller]:
    async with AsyncExitStack() as stack:

        async def start(settings: InstallerSettings) -> Installer:
            service = build(settings)
            resources = Resources(
                settings=settings,
                clock=clock,
                metrics=service.metrics,
                tenant_keys=database.keys,
                runtime=database.runtime,
                worker=database.worker,
                cluster_id="none",
            )
            context = service.context(resources)
            units = Units("installer", database.runtime, clock, context, lambda: None)
            running = Running(resources, units, context, lambda _: None)
            doors = asyncio.Event()
            doors.set()
            app = build_app(service, doors)
            app.state.running = running
            edge = HttpEdge(BodyLimit(app, most_bytes=256 * 1024), Metrics())
            url = await stack.enter_async_context(serving(edge))
            return Installer(url, http, atlassian_at_work.atlassian, running, database)

        yield start


@pytest.fixture
async def installer(start_installer: StartInstaller, make_settings: MakeSettings) -> Installer:
    return await start_installer(make_settings())


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, by our loggers and by others'."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("installer", "debug", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def site() -> Site:
    return replace(Site.named("acme"), service_entitlement_number="SEN-12345678")
