"""Measures what other tenants feel of the erasure of a large one, at the pace that erasures keep.

Another tenant's reads come 200 times a second, whether the last one was answered or not, and each is
timed from when it was due. They and the erasure share one process, one database and this machine, as
they do in the service.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx2

from bench.content import ROWS_A_THING, add_tenants, config_at_work, ids_of, settle
from bench.figures import Benchmark, Better, Round, percentile
from bench.stack import Stack

ROWS: Final = 1_000_000
ROUNDS: Final = 3
SECONDS: Final = 15.0
READS_A_SECOND: Final = 200

_THINGS_OF_NEIGHBOURS: Final = 1_000
_NEIGHBOURS: Final = 20
_WARM_UP_SECONDS: Final = 2.0


async def measure(
    stack: Stack, *, rows: int = ROWS, rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[Round]:
    """Read for so many seconds while nothing is erased, and for as many while a tenant is.

    Raises:
        RuntimeError: a read failed, or the erasure was over before it had been read beside it.
    """
    found = []
    async with config_at_work(stack, "_neighbours") as config:
        await add_tenants(config.superuser_url, _NEIGHBOURS, _THINGS_OF_NEIGHBOURS)
        neighbour, *_ = known = await ids_of(config.superuser_url)
        for _ in range(rounds):
            await add_tenants(config.superuser_url, 1, round(rows / ROWS_A_THING))
            [leaving] = set(await ids_of(config.superuser_url)) - set(known)
            await settle(config.superuser_url)
            async with config.client(neighbour) as client:
                addresses = await _addresses(client)
            read = config.reader(neighbour)
            await _read(read, addresses, _WARM_UP_SECONDS)
            idle = await _read(read, addresses, seconds)
            await config.order_erasure(leaving)
            erasing = asyncio.create_task(config.eraser_job().run())
            beside = await _read(read, addresses, seconds)
            if erasing.done():
                raise RuntimeError("the erasure was over too soon: let it have more rows")
            erasing.cancel()
            await asyncio.wait([erasing])
            known.append(leaving)
            sys.stderr.write(
                f"neighbours: idle p99 {percentile(idle, 99):.1f} ms,"
                f" beside an erasure {percentile(beside, 99):.1f} ms\n"
            )
            found.append(
                Round(
                    percentile(beside, 99),
                    percentile(idle, 99),
                    {"idle_ms": idle, "beside_ms": beside},
                )
            )
    return found


async def _addresses(client: httpx2.AsyncClient) -> list[str]:
    """What a page of the app reads: a list, and things one by one."""
    items = (await client.get("/api/v1/queries", params={"limit": 50})).json()["items"]
    return ["/api/v1/queries?limit=20", *(f"/api/v1/queries/{item['id']}" for item in items[:9])]


async def _read(
    get: Callable[[str], Awaitable[int]], addresses: list[str], seconds: float
) -> list[float]:
    """Read at the given pace; return how long each took from when it was due, in milliseconds."""
    taken: list[float] = []

    async def read(address: str, due_at: float) -> None:
        status = await get(address)
        taken.append((time.monotonic() - due_at) * 1000)
        if status != httpx2.codes.OK:
            raise RuntimeError(f"a read was answered with {status}")

    began_at = time.monotonic()
    async with asyncio.TaskGroup() as reads:
        for number in range(round(seconds * READS_A_SECOND)):
            due_at = began_at + number / READS_A_SECOND
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            reads.create_task(read(addresses[number % len(addresses)], due_at))
    return taken


BENCHMARK: Final = Benchmark(
    name="neighbours",
    question="What do other tenants' reads feel of the erasure of a tenant of 1,000,000 rows?",
    ours="p99 of 200 reads a second beside it",
    peer="p99 of the same while nothing is erased",
    unit=" ms",
    goal=2.0,
    better=Better.LOWER,
    measure=measure,
)
