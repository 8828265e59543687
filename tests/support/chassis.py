"""A sample service for tests of the chassis: a migrated database, topics, units of work."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.broker import KafkaAccess
from chassis.clock import Clock, SystemClock
from chassis.data_map import DataMap, Table
from chassis.database import Pool, open_pool
from chassis.epochs import ensure_epoch
from chassis.metrics import Metrics
from chassis.relay import Relay
from chassis.unit_of_work import Units
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.tenants import (
    ClassState,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from devstack.kafka import RunningKafka
from devstack.postgres import Roles
from tests.support.stack import Migrated

SAMPLE_MAP = DataMap(
    "sample",
    tables=(
        Table(
            name="notes",
            data_class=DataClass.CONTENT,
            promise="P2",
            purpose="what tenants note",
            retention="until the purge",
            tenant_column="tenant_id",
            columns={"tenant_id": "whose", "note_id": "names it", "text": "what was noted"},
        ),
    ),
)

SAMPLE_MIGRATIONS = Path(__file__).parent / "sample" / "migrations"


def suppressed(units: Units[Any]) -> dict[tuple[str, str], float]:
    """How many writes the guard refused, by the way in and the class; what is zero is left out."""
    [figure] = units.metrics.writes_suppressed_total.collect()
    return {
        (sample.labels["where"], sample.labels["class"]): sample.value
        for sample in figure.samples
        if sample.value
    }


async def no_restate() -> None:
    """Say nothing again."""


@dataclass(frozen=True)
class Sample:
    """A migrated database of the sample service, with its pools."""

    roles: Roles
    runtime: Pool
    worker: Pool
    eraser: Pool
    clock: Clock

    def units(self, wake: Callable[[], None] = lambda: None) -> Units[None]:
        """Units of work as the service ``config`` would have them."""
        return Units("installer", self.runtime, self.clock, None, wake)

    def relay(self, kafka: KafkaAccess, **options: Any) -> Relay:
        """A relay on this database."""
        given: dict[str, Any] = {
            "database_url": self.roles.worker_url,
            "kafka": kafka,
            "clock": self.clock,
            "metrics": Metrics(),
            "restate": no_restate,
        }
        return Relay(**(given | options))

    def at(self, clock: Clock) -> "Sample":
        """The same at another clock."""
        return replace(self, clock=clock)


@asynccontextmanager
async def sample_of(roles: Roles) -> AsyncIterator[Sample]:
    """Open the pools of a sample database and its first epoch."""
    async with (
        await open_pool(roles.runtime_url, name="runtime") as runtime,
        await open_pool(roles.worker_url, name="worker") as worker,
        await open_pool(roles.eraser_url, name="eraser") as eraser,
    ):
        async with worker.acquire() as connection:
            await ensure_epoch(connection, wall=datetime.now(UTC))
        yield Sample(roles, runtime, worker, eraser, SystemClock())


@pytest.fixture
async def sample(migrated: Migrated) -> AsyncIterator[Sample]:
    """A fresh database of the sample service."""
    roles = await migrated(SAMPLE_MAP, own=SAMPLE_MIGRATIONS)
    async with sample_of(roles) as opened:
        yield opened


@pytest.fixture(scope="session")
def access(kafka: RunningKafka) -> KafkaAccess:
    """The session's broker, as a service reaches it."""
    return KafkaAccess(kafka.bootstrap_servers, "sample")


def a_tenant(*, n: int = 1, epoch: int = 1, tenant_id: UUID | None = None) -> TenantState:
    """The state of an installed tenant."""
    return TenantState(
        tenant_id=tenant_id or uuid4(),
        version=Version(epoch=epoch, n=n),
        status=TenantStatus.INSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.CONNECT,
        addon_key="com.example.app",
        product_type="jira",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        subscription=Subscription(status=SubscriptionStatus.NONE),
        licence_numbers=(),
    )
