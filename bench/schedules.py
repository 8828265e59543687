"""Measures what a sweep for due purges costs with a million schedules, against one with a thousand.

A sweep is the job as purger runs it: brake, count, claim, questions and new states in the outbox. In
both tables as many purges are due, and all others are due in the months to come.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from bench.figures import Benchmark, Better, Round
from bench.stack import Stack
from chassis.clock import ManualClock
from chassis.database import Pool, open_pool
from chassis.unit_of_work import Units
from contracts.classes import TENANT_CLASSES
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from devstack.key_files import ensure_signing_key
from services.purger.context import Context
from services.purger.data_map import DATA_MAP
from services.purger.domain.dates import Retention
from services.purger.jobs import Sweeps
from services.purger.ledger_key import LedgerKey

MANY: Final = 1_000_000
FEW: Final = 1_000

# Fewer than the brake looks at: it has to stay out of this.
_DUE: Final = 8
_SWEEPS: Final = 40
_WARM_UP: Final = 10
_ROUNDS: Final = 7
_MILLISECONDS: Final = 1_000.0


async def measure(stack: Stack) -> list[Round]:
    """Sweep both tables in turn; RuntimeError where a sweep does not take what is due."""
    async with _purger(stack, FEW) as few, _purger(stack, MANY) as many:
        for each in (few, many):
            await each.sweep(_WARM_UP)
        return [
            Round(ours=await many.sweep(_SWEEPS), peer=await few.sweep(_SWEEPS))
            for _ in range(_ROUNDS)
        ]


@dataclass(frozen=True, slots=True)
class _Purger:
    """Purger's sweep on a table of so many schedules."""

    sweeps: Sweeps
    pool: Pool

    async def sweep(self, times: int) -> float:
        """Give the milliseconds that a sweep takes, each with the same number of due purges."""
        seconds = 0.0
        for _ in range(times):
            await self.pool.execute(_MAKE_DUE, self.sweeps.units.clock.now(), _DUE)
            began_at = time.perf_counter()
            asked = await self.sweeps.ask_for_due_purges()
            seconds += time.perf_counter() - began_at
            if asked != _DUE:
                raise RuntimeError(f"{asked} purges were asked for, and {_DUE} are due")
        return seconds / times * _MILLISECONDS


# As if nobody had been asked in the last day: those asked before are planned again, far away.
_MAKE_DUE: Final = """
    WITH asked AS (
        UPDATE purges
           SET phase = 'planned', start_at = erase_by, asked_at = NULL, ask_again_at = NULL
         WHERE asked_at IS NOT NULL
        RETURNING purge_id),
    due AS (
        SELECT purge_id FROM purges
         WHERE phase = 'planned' AND start_at > $1
         ORDER BY start_at LIMIT $2)
    UPDATE purges SET start_at = $1 FROM due WHERE purges.purge_id = due.purge_id
"""


@asynccontextmanager
async def _purger(stack: Stack, schedules: int) -> AsyncIterator[_Purger]:
    roles = await stack.make_database(DATA_MAP, f"_{schedules}")
    now = datetime.now(UTC)
    await _fill(roles.owner_url, schedules, now=now)
    key = LedgerKey.load(ensure_signing_key(stack.folder / "ledger.pem"))
    context = Context(
        retention=Retention(),
        ledger_key=lambda: key,
        silence=timedelta(days=1),
    )
    async with await open_pool(roles.runtime_url, name="bench schedules") as pool:
        units = Units("purger", pool, ManualClock(now), context, lambda: None)
        yield _Purger(Sweeps(units, "none"), pool)


async def _fill(url: str, schedules: int, *, now: datetime) -> None:
    """Let so many tenants have left, with purges that are due in the coming six months."""
    state = _state(now).model_dump(mode="json")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            """
            INSERT INTO tenants (tenant_id, epoch, n, state)
            SELECT md5(i::text)::uuid, 1, 1, $2::text::jsonb
              FROM generate_series(1, $1::integer) AS i
            """,
            schedules,
            json.dumps(state),
        )
        await connection.execute(
            """
            INSERT INTO purges (purge_id, tenant_id, scope, clock, clock_started_at, rule_version,
                deadline, erase_by, start_at, phase, changed_at)
            SELECT md5('purge' || i)::uuid, md5(i::text)::uuid, 'everything', 'uninstalled', $2, 1,
                   $2::timestamptz + interval '210 days', $2::timestamptz + interval '196 days',
                   $2::timestamptz + interval '1 day'
                       + interval '180 days' * (i::float8 / $1::integer),
                   'planned', $2
              FROM generate_series(1, $1::integer) AS i
            """,
            schedules,
            now,
        )
        await connection.execute(
            """
            INSERT INTO purge_states (tenant_id, epoch, n)
            SELECT md5(i::text)::uuid, 1, 1 FROM generate_series(1, $1::integer) AS i
            """,
            schedules,
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _state(now: datetime) -> TenantState:
    return TenantState(
        tenant_id=UUID(int=1),
        version=Version(epoch=1, n=1),
        status=TenantStatus.UNINSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.CONNECT,
        addon_key="com.example.app",
        product_type="jira",
        created_at=now,
        departure=Departure(at=now, how=DepartureKind.UNINSTALLED),
        subscription=Subscription(status=SubscriptionStatus.NONE),
        licence_numbers=(),
    )


BENCHMARK: Final = Benchmark(
    name="schedules",
    question="What does a sweep for due purges cost with a million schedules?",
    ours="a sweep, 1,000,000 schedules",
    peer="a sweep, 1,000 schedules",
    unit=" ms",
    goal=1.2,
    better=Better.LOWER,
    measure=measure,
)
