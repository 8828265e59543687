"""The benchmarks of customers' content, with sizes that are over in a moment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from bench import erase_tenant, neighbours, tenant_size
from bench.stack import Stack, worker_pool
from chassis import erasure
from chassis.data_map import DataMap
from chassis.epochs import ensure_epoch
from devstack.postgres import Roles, RunningPostgres
from tests.config.builders import NOW
from tests.support.stack import Migrated


@dataclass(frozen=True)
class NoKafka:
    """Nothing here speaks to it."""

    bootstrap_servers: str = "127.0.0.1:1"


@dataclass(frozen=True)
class SharedStack:
    """The session's PostgreSQL in the place of one that a benchmark starts."""

    folder: Path
    postgres: RunningPostgres
    migrated: Migrated
    kafka: NoKafka = NoKafka()

    async def make_database(self, data_map: DataMap, _: str) -> Roles:
        roles = await self.migrated(data_map)
        async with worker_pool(roles) as worker, worker.acquire() as connection:
            await ensure_epoch(connection, wall=NOW)
            await connection.execute("SELECT outbox_make_partitions($1::date, 8)", NOW.date())
        return roles


@pytest.fixture
def stack(
    tmp_path: Path,
    postgres: RunningPostgres,
    migrated: Migrated,
    monkeypatch: pytest.MonkeyPatch,
) -> Stack:
    async def leave_it(_: str) -> None:
        """A checkpoint would write what all other tests have done."""

    for benchmark in (erase_tenant, neighbours, tenant_size):
        monkeypatch.setattr(benchmark, "settle", leave_it)
    shared: Any = SharedStack(tmp_path, postgres, migrated)
    return cast("Stack", shared)


async def test_a_tenant_is_erased_by_both_sides(stack: Stack) -> None:
    rounds = await erase_tenant.measure(stack, rows=1_000, rounds=2)
    assert [each.ours > 0 < each.peer for each in rounds] == [True, True]


async def test_reads_are_timed_while_an_erasure_goes_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_ROWS_A_STATEMENT", 1)
    monkeypatch.setattr(neighbours, "_WARM_UP_SECONDS", 0.1)
    [only] = await neighbours.measure(stack, rows=3_400, rounds=1, seconds=0.5)
    assert {len(each) for each in only.samples.values()} == {100}


async def test_reads_and_writes_of_either_tenant_are_timed(stack: Stack) -> None:
    [only] = await tenant_size.measure(stack, tenants=3, things=200, rounds=1, turns=2)
    assert [len(each) for each in only.samples.values()] == [2 * 9, 2 * 9]
