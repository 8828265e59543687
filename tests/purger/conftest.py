"""A migrated database of purger, a clock that tests move, and what purger says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from chassis.database import Pool, open_pool
from chassis.epochs import ensure_epoch
from chassis.problems import answer_with_problems
from chassis.service import Running
from chassis.staff.access import let_staff_in
from chassis.staff.door import Door
from chassis.unit_of_work import Units
from contracts.ledger import LedgerEntry, LedgerHead, verify_chain
from contracts.messages import Message
from contracts.purges import (
    PurgeRequested,
    PurgeStarted,
    PurgeState,
)
from contracts.registry import by_ce_type
from contracts.tenants import TenantState
from devstack.postgres import Roles
from services.purger import handlers
from services.purger.context import Context
from services.purger.data_map import DATA_MAP
from services.purger.domain.dates import Retention
from services.purger.jobs import Sweeps
from services.purger.ledger_key import LedgerKey
from services.purger.routes import brake
from services.purger.routes.board import board_router
from services.purger.routes.pages import Pages
from services.purger.routes.privacy import router as privacy_router
from services.purger.routes.receipts import receipts_router
from services.purger.store import ledger as store
from tests.purger.builders import LEFT_AT, a_tenant, acceptance, answer
from tests.support.stack import Migrated

M = TypeVar("M", bound=Message)

CLUSTER = "cluster-one"
SILENCE = timedelta(minutes=1)


class CrashError(Exception):
    """The process dies here."""


class TwoClocks:
    """Business and wall time that a test moves together or apart."""

    def __init__(self, start: datetime) -> None:
        self._now = self._wall = start

    def now(self) -> datetime:
        return self._now

    def wall(self) -> datetime:
        return self._wall

    def advance(self, by: timedelta) -> None:
        self._now += by
        self._wall += by

    def set(self, to: datetime) -> None:
        self.advance(to - self._now)

    def jump(self, by: timedelta) -> None:
        self._now += by


@dataclass
class Purger:
    """Purger's handlers and jobs on a real database, without Kafka."""

    roles: Roles
    runtime: Pool
    clock: TwoClocks
    units: Units[Context]
    keys: list[LedgerKey]

    @property
    def sweeps(self) -> Sweeps:
        return Sweeps(self.units, CLUSTER)

    async def hear(self, *messages: Message, then: Exception | None = None) -> None:
        """Handle messages in one transaction, as the consumer does with a batch."""
        async with self.units.begin() as uow:
            for message in messages:
                await handlers.handlers.by_model[type(message)].function(message, uow)
            if then is not None:
                await uow.outbox.flush(uow.connection)
                raise then

    async def hear_together(self, *messages: Message) -> None:
        """Handle messages of one kind at once, as the consumer does where a handler takes many."""
        handler = handlers.handlers.by_model[type(messages[0])]
        assert handler.together is not None
        async with self.units.begin() as uow:
            await handler.together(messages, uow)

    async def said(self, model: type[M]) -> list[M]:
        """List what was said so far, of one model, in order; tombstones are left out."""
        rows = await self.runtime.fetch(
            "SELECT type, payload FROM outbox WHERE payload IS NOT NULL ORDER BY position"
        )
        return [
            model.decode(row["payload"])
            for row in rows
            if (known := by_ce_type(row["type"])) and known.model is model
        ]

    async def tombstones(self) -> int:
        count: int = await self.runtime.fetchval(
            "SELECT count(*) FROM outbox WHERE payload IS NULL"
        )
        return count

    async def state(self) -> PurgeState:
        """What was last said of purges."""
        return (await self.said(PurgeState))[-1]

    async def ledger(self) -> list[LedgerEntry]:
        """The whole ledger, verified."""
        async with self.units.begin() as uow:
            entries = await store.ledger_entries(uow.connection, after=0, limit=100_000)
            end = await store.ledger_end(uow.connection)
        key = self.units.context.ledger_key()
        head = LedgerHead(number=end.number, hash=end.hash, cluster_id=CLUSTER, at=self.clock.now())
        verify_chain(entries, key.public_keys, head=head)
        return entries

    async def everything(self) -> str:
        """A picture of all rows but the outbox, to see that nothing has changed."""
        tables = [table.name for table in DATA_MAP.tables]
        picture = {
            name: [
                str(tuple(row))
                for row in await self.runtime.fetch(f"SELECT * FROM {name} ORDER BY 1, 2")
            ]
            for name in tables
        }
        return json.dumps(picture, indent=1)

    # -- short cuts to a place in a purge's life -------------------------------------------------

    async def ask(self, tenant: TenantState | None = None) -> PurgeRequested:
        """Let a tenant leave, and time pass until its purge is asked for."""
        tenant = tenant or a_tenant(left_at=LEFT_AT)
        await self.hear(tenant)
        start_at = (await self.state()).plans[0].start_at
        self.clock.set(max(start_at, self.clock.now()))
        await self.sweeps.ask_for_due_purges()
        return (await self.said(PurgeRequested))[-1]

    async def begin(self, tenant: TenantState | None = None) -> list[PurgeStarted]:
        """The same, and the installer accepts; return the orders of wave 1."""
        asked = await self.ask(tenant)
        before = len(await self.said(PurgeStarted))
        await self.hear(acceptance(asked, self.clock.now()))
        return (await self.said(PurgeStarted))[before:]

    async def finish_wave_one(self, tenant: TenantState | None = None) -> list[PurgeStarted]:
        """The same, and the owners answer; return what was ordered then."""
        orders = await self.begin(tenant)
        before = len(await self.said(PurgeStarted))
        for order in orders:
            await self.hear(answer(order, self.clock.now()))
        return (await self.said(PurgeStarted))[before:]


@pytest.fixture(scope="session")
def ledger_key() -> LedgerKey:
    return LedgerKey(Ed25519PrivateKey.generate())


@pytest.fixture
async def purger(emptied: Migrated, ledger_key: LedgerKey) -> AsyncIterator[Purger]:
    async with purger_on(await emptied(DATA_MAP), ledger_key) as running:
        yield running


@pytest.fixture
async def other_purger(migrated: Migrated, ledger_key: LedgerKey) -> AsyncIterator[Purger]:
    """One on a database of its own, whose schema may be changed."""
    async with purger_on(await migrated(DATA_MAP), ledger_key) as running:
        yield running


@asynccontextmanager
async def purger_on(roles: Roles, ledger_key: LedgerKey) -> AsyncIterator[Purger]:
    clock = TwoClocks(LEFT_AT)
    async with await open_pool(roles.runtime_url, name="runtime") as runtime:
        async with (
            await open_pool(roles.worker_url, name="worker", max_size=1) as worker,
            worker.acquire() as connection,
        ):
            await ensure_epoch(connection, wall=clock.wall())
        keys = [ledger_key]
        context = Context(Retention(), lambda: keys[-1], SILENCE)
        units = Units("purger", runtime, clock, context, lambda: None)
        yield Purger(roles, runtime, clock, units, keys)


@pytest.fixture
async def woken() -> list[str]:
    return []


@pytest.fixture
async def client(purger: Purger, woken: list[str]) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    answer_with_problems(app)
    pages = Pages()
    for router in (receipts_router(pages, public_url="http://purger"), pages.router()):
        app.include_router(router)
    door = Door("purger", "http://purger", None)
    let_staff_in(app, door, (brake.router, board_router(pages), privacy_router))
    resources: Any = None
    app.state.running = Running(resources, purger.units, purger.units.context, woken.append)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://purger") as client:
        yield client
