"""Measures how fast one large tenant is erased, against the bare DELETE of the same rows.

Both sides erase a tenant of the same size from the same tables, among others, in turn. Ours does all
that an erasure is at full speed: it counts, destroys the key, erases in bounded statements, looks
again with a role that sees all rows, and says so. The peer is one DELETE a table, in the same order.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import asyncpg

from bench.content import (
    CLASSES,
    ROWS_A_THING,
    ConfigAtWork,
    add_tenants,
    config_at_work,
    ids_of,
    settle,
)
from bench.figures import Benchmark, Better, Round
from bench.stack import Stack
from chassis.data_map import erasure_order
from services.config.data_map import DATA_MAP

ROWS: Final = 1_000_000
ROUNDS: Final = 3
_OTHERS: Final = 100
_THINGS_OF_ANOTHER: Final = 100

_Erase = Callable[[ConfigAtWork, UUID], Awaitable[None]]


async def measure(stack: Stack, *, rows: int = ROWS, rounds: int = ROUNDS) -> list[Round]:
    """Fill a database with two tenants a round and some others, and erase the two in turn.

    Raises:
        RuntimeError: one of them was not erased.
    """
    found = []
    async with config_at_work(stack, "_erase") as config:
        await add_tenants(config.superuser_url, _OTHERS, _THINGS_OF_ANOTHER)
        known = set(await ids_of(config.superuser_url))
        for number in range(rounds):
            await add_tenants(config.superuser_url, 2, round(rows / ROWS_A_THING))
            first, second = set(await ids_of(config.superuser_url)) - known
            await settle(config.superuser_url)
            sides = {"ours": first, "peer": second}
            speeds = {}
            for side in sorted(sides, reverse=bool(number % 2)):
                erase = _ours if side == "ours" else _bare
                speeds[side] = await _speed(config, sides[side], erase)
                await settle(config.superuser_url)
            sys.stderr.write(f"erase-tenant: {speeds['ours']:,.0f}, bare {speeds['peer']:,.0f}\n")
            known |= {first, second}
            found.append(Round(speeds["ours"], speeds["peer"]))
    return found


async def _ours(config: ConfigAtWork, tenant_id: UUID) -> None:
    await config.order_erasure(tenant_id)
    if await config.eraser_job(at_full_speed=True).run() != 1:
        raise RuntimeError("it was not erased")


async def _bare(config: ConfigAtWork, tenant_id: UUID) -> None:
    connection = await asyncpg.connect(config.roles.eraser_url)
    try:
        for table in await erasure_order(connection, DATA_MAP.tables_of(CLASSES)):
            await connection.execute(
                f"DELETE FROM {table.name} WHERE tenant_id = $1",  # noqa: S608 - names come from the data map
                tenant_id,
            )
    finally:
        await connection.close()


async def _speed(config: ConfigAtWork, tenant_id: UUID, erase: _Erase) -> float:
    """Erase a tenant; return rows a second."""
    rows = await _count(config, tenant_id)
    began_at = time.monotonic()
    await erase(config, tenant_id)
    seconds = time.monotonic() - began_at
    if await _count(config, tenant_id):
        raise RuntimeError("it was not erased")
    return rows / seconds


async def _count(config: ConfigAtWork, tenant_id: UUID) -> int:
    tables = " UNION ALL ".join(
        f"SELECT count(*) AS rows FROM {table.name} WHERE tenant_id = $1"  # noqa: S608 - names come from the data map
        for table in DATA_MAP.tables_of(CLASSES)
    )
    connection = await asyncpg.connect(config.superuser_url)
    try:
        number = await connection.fetchval(f"SELECT sum(rows) FROM ({tables}) AS t", tenant_id)  # noqa: S608 - likewise
    finally:
        await connection.close()
    return int(number)


BENCHMARK: Final = Benchmark(
    name="erase-tenant",
    question="How fast is a tenant of 1,000,000 rows erased, with all that an erasure is?",
    ours="an erasure at full speed",
    peer="bare DELETE of the same rows",
    unit="/s",
    goal=0.5,
    better=Better.HIGHER,
    measure=measure,
)
