"""A migrated config with its doors open, but neither Kafka nor network."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
from fastapi import FastAPI
from starlette.types import ASGIApp

from chassis.clock import ManualClock
from chassis.database import Pool, open_pool
from chassis.epochs import ensure_epoch
from chassis.erasure import EraserJob, ErasureOrder, accept_erasure
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.service import Resources, Running, Service, build_app, edge_of
from chassis.sessions import Sessions
from chassis.tokens import PublishedKeys
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus
from devstack.postgres import Roles
from services.config.app import build
from services.config.context import AUDIENCE, Context, Limits
from services.config.data_map import DATA_MAP
from services.config.domain.access import Tenant
from services.config.moves import ready_to_erase
from services.config.settings import ConfigSettings
from services.config.store import tenants
from tests.support.sessions import ISSUER, JWKS_URL, Installer

PATH = "/api/v1/datasources"
EXPORT_JWKS_URL = "http://notifier.test/.well-known/jwks.json"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def keys_file(folder: Path) -> Path:
    """Write a file of key-encryption keys."""

    def key() -> str:
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()

    path = folder / "keks.json"
    told = {"current": "2026-11", "keys": {"2026-11": key()}, "blind_index": key()}
    path.write_text(json.dumps(told), "utf-8")
    return path


def settings_for(roles: Roles, keks: Path, **others: Any) -> ConfigSettings:
    """Settings of a config that needs no Kafka yet."""
    given: dict[str, Any] = {
        "database_url": roles.runtime_url,
        "worker_database_url": roles.worker_url,
        "eraser_database_url": roles.eraser_url,
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "http_port": 0,
        "public_url": "http://127.0.0.1",
        "key_encryption_keys_file": keks,
        "session_jwks_url": JWKS_URL,
        "session_issuer": ISSUER,
    }
    return ConfigSettings(**(given | others))


@dataclass(frozen=True)
class Config:
    """All of config, with a clock that stands still and an installer that signs."""

    roles: Roles
    runtime: Pool
    worker: Pool
    eraser: Pool
    clock: ManualClock
    keys: TenantKeys
    units: Units[Context]
    installer: Installer
    notifier: Installer
    service: Service[Context]
    fastapi: FastAPI
    app: ASGIApp

    def eraser_job(self) -> EraserJob[Context]:
        return EraserJob(
            units=self.units,
            worker=self.worker,
            eraser=self.eraser,
            data_map=DATA_MAP,
            key_class=DataClass.CONTENT,
            ready=ready_to_erase,
        )

    def limit(self, limits: Limits) -> None:
        """Let tenants keep no more than this."""
        self.change(limits=limits)

    def change(self, **parts: Any) -> None:
        """Let routes find these parts in the context."""
        context = replace(self.units.context, **parts)
        running: Running[Context] = self.fastapi.state.running
        self.fastapi.state.running = replace(
            running, units=replace(self.units, context=context), context=context
        )

    async def erase(self) -> int:
        """Let the eraser run once those that had to wait have rested."""
        self.clock.advance(timedelta(seconds=3))
        return await self.eraser_job().run()

    async def tenant(
        self,
        *,
        status: TenantStatus = TenantStatus.INSTALLED,
        platform: Platform = Platform.CONNECT,
        content: ClassState = ClassState.LIVE,
    ) -> UUID:
        """Know of a new tenant."""
        tenant_id = uuid4()
        await self.know(Tenant(tenant_id, status, platform, content))
        return tenant_id

    async def know(self, tenant: Tenant) -> None:
        async with self.units.begin() as uow:
            await tenants.remember_tenants(uow.connection, [tenant])

    async def order_erasure(self, tenant_id: UUID) -> ErasureOrder:
        """Accept an erasure, as the command does."""
        order = an_order(tenant_id)
        async with self.units.begin() as uow:
            await accept_erasure(uow, order)
        return order

    @asynccontextmanager
    async def client(
        self, tenant_id: UUID | None = None, *, administers: bool = True
    ) -> AsyncIterator[httpx2.AsyncClient]:
        """An HTTP client, with a session of the tenant if one is named."""
        headers = {}
        if tenant_id is not None:
            token = self.installer.token(tenant_id, self.clock.wall(), administers=administers)
            headers["authorization"] = f"Bearer {token}"
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://config.test", headers=headers
        ) as client:
            yield client

    async def create(self, tenant_id: UUID, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Let the tenant create a thing."""
        async with self.client(tenant_id) as client:
            answer = await client.post(f"/api/v1/{plural}", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def rows(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """What things are stored of a tenant, by a role that sees all."""
        rows = await self.eraser.fetch(
            "SELECT * FROM things WHERE tenant_id = $1 ORDER BY thing_id", tenant_id
        )
        return [dict(row) for row in rows]


def an_order(tenant_id: UUID, *, ledger_number: int = 7) -> ErasureOrder:
    """The order that purger gives config in wave 1."""
    return ErasureOrder(
        purge_id=uuid4(),
        step="erase-config",
        tenant_id=tenant_id,
        classes=(DataClass.CONTENT, DataClass.ERRORS),
        ledger_number=ledger_number,
    )


def a_datasource(**others: Any) -> dict[str, Any]:
    """A datasource as a customer writes it."""
    given = {
        "name": "Sales",
        "kind": "sql",
        "url": "postgresql://db.customer.test/sales",
        "options": {"schema": "public", "timeout_seconds": 10, "read_only": True},
        "username": "reader",
        "credentials": "correct-horse-battery",
    }
    return given | others


def a_converter(**others: Any) -> dict[str, Any]:
    """A converter as a customer writes it."""
    return {"name": "By month", "text": "rows.map(row => row.month)"} | others


def a_template(**others: Any) -> dict[str, Any]:
    """A template as a customer writes it."""
    return {"name": "Plain", "kind": "table", "text": "<table>{{ rows }}</table>"} | others


def a_query(datasource_id: str, **others: Any) -> dict[str, Any]:
    """A query as a customer writes it, of the datasource above."""
    given = {
        "name": "Sales of a region",
        "tags": ["finance", "monthly"],
        "kind": "sql",
        "text": "SELECT month, sum FROM sales WHERE region = :region",
        "parameters": [{"name": "region", "default": "EMEA", "allowed": ["EMEA", "APAC"]}],
        "datasource_id": datasource_id,
        "spaces": ["SALES"],
    }
    return given | others


@asynccontextmanager
async def config_of(roles: Roles, folder: Path, **settings: Any) -> AsyncIterator[Config]:
    """Open a migrated database, and put a config on it."""
    path = keys_file(folder)
    clock = ManualClock(NOW)
    installer = Installer.new()
    service = build(settings_for(roles, path, **settings))
    async with (
        await open_pool(roles.runtime_url, name="runtime") as runtime,
        await open_pool(roles.worker_url, name="worker") as worker,
        await open_pool(roles.eraser_url, name="eraser") as eraser,
    ):
        async with worker.acquire() as connection:
            await ensure_epoch(connection, wall=NOW)
        keys = TenantKeys("config", KeyEncryptionKeys.load(path))
        session_keys = PublishedKeys(JWKS_URL, installer.client)
        notifier = Installer.new("notifier")
        context = Context(
            keys,
            Sessions(session_keys, ISSUER, AUDIENCE),
            export_keys=PublishedKeys(EXPORT_JWKS_URL, notifier.client),
        )
        units = Units("config", runtime, clock, context, lambda: None)
        resources = Resources(
            service.settings, clock, service.metrics, runtime, worker, "cluster", keys
        )
        open_doors = asyncio.Event()
        open_doors.set()
        app = build_app(service, open_doors)
        app.state.running = Running(resources, units, context, lambda _: None)
        edge = edge_of(service, app, open_doors)
        yield Config(
            roles,
            runtime,
            worker,
            eraser,
            clock,
            keys,
            units,
            installer,
            notifier,
            service,
            app,
            edge,
        )
