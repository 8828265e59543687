"""Holds one transaction together: the state it changes, what it says, and the time it works at."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeAlias, TypeVar
from uuid import UUID

from chassis.clock import Clock
from chassis.database import Connection, Pool
from chassis.metrics import Metrics
from chassis.outbox import Outbox
from contracts.classes import DataClass

C = TypeVar("C")

WayIn: TypeAlias = Literal["consumer", "route", "job", "import"]
"""By which way a write comes in that the guard may have to refuse."""


@dataclass(slots=True)
class UnitOfWork(Generic[C]):
    """One transaction of a service.

    ``context`` is what a service's handlers need besides (its settings, its keys).
    """

    connection: Connection
    outbox: Outbox
    context: C
    now: datetime
    wall: datetime
    metrics: Metrics

    async def lock_tenants(
        self, tenant_ids: Iterable[UUID], *, exclusively: Iterable[UUID] = ()
    ) -> None:
        """Keep erasures of these tenants out until the transaction ends, of some every writer.

        Locks are taken in one order, so that two batches cannot wait for each other.
        """
        await self.connection.execute(
            """
            SELECT CASE WHEN alone THEN pg_advisory_xact_lock(lock)
                        ELSE pg_advisory_xact_lock_shared(lock) END
              FROM (SELECT hashtextextended(tenant::text, 1) AS lock, bool_or(alone) AS alone
                      FROM (SELECT tenant, false FROM unnest($1::uuid[]) AS tenant
                            UNION ALL
                            SELECT tenant, true FROM unnest($2::uuid[]) AS tenant)
                           AS wanted(tenant, alone)
                     GROUP BY lock
                     ORDER BY lock) AS locks
            """,
            list(tenant_ids),
            list(exclusively),
        )

    async def lock_tenant_exclusively(self, tenant_id: UUID) -> None:
        """Keep every other writer of this tenant out until the transaction ends."""
        await self.connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 1))", tenant_id
        )

    async def erased_classes(self, tenant_ids: Iterable[UUID]) -> dict[UUID, frozenset[DataClass]]:
        """Say which classes of these tenants are erased or about to be; call it under the lock.

        It must be a statement of its own: one that locks and looks in the same snapshot does
        not see a guard that was set while it waited for the lock.
        """
        rows = await self.connection.fetch(
            """
            SELECT tenant_id, array_agg(data_class) AS classes
              FROM erased_tenants
             WHERE tenant_id = ANY($1::uuid[])
             GROUP BY tenant_id
            """,
            list(tenant_ids),
        )
        return {row["tenant_id"]: frozenset(map(DataClass, row["classes"])) for row in rows}

    def count_suppressed(self, where: WayIn, data_class: DataClass, writes: int = 1) -> None:
        """Count writes that were refused because of the guard, or of the state that announces it."""
        self.metrics.writes_suppressed_total.labels(where, data_class.value).inc(writes)

    async def act_for(self, *tenant_ids: UUID) -> None:
        """Let row-level security show these tenants' rows, and no others, until the end.

        Several at once are for tables whose policy takes a list; another refuses.
        """
        await self.connection.execute(
            "SELECT set_config('app.tenant', array_to_string($1::uuid[], ','), true)",
            tenant_ids,
        )

    async def epoch(self) -> int:
        """Return the present epoch, the first part of every version that is made here."""
        number: int = await self.connection.fetchval("SELECT max(epoch) FROM relay_epochs")
        return number


@dataclass(frozen=True, slots=True)
class Units(Generic[C]):
    """Begins units of work for one service."""

    service: str
    pool: Pool
    clock: Clock
    context: C
    wake_relay: Callable[[], None]
    metrics: Metrics = field(default_factory=Metrics)

    @asynccontextmanager
    async def begin(
        self, *, causation: UUID | None = None, correlation: str | None = None
    ) -> AsyncIterator[UnitOfWork[C]]:
        """Open a transaction; at its end all is committed together with what was said, or nothing.

        The relay is woken after the commit.
        """
        now, wall = self.clock.now(), self.clock.wall()
        outbox = Outbox(self.service, now, wall, causation, correlation)
        async with self.pool.acquire() as connection, connection.transaction():
            yield UnitOfWork(connection, outbox, self.context, now, wall, self.metrics)
            spoke = await outbox.flush(connection)
        if spoke:
            self.wake_relay()
