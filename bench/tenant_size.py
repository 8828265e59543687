"""Measures what a large tenant among many feels of that: its reads and writes on an almost empty database.

Two databases, one with 2,000 tenants of which one keeps 50,000 things, one with a single small
tenant. The same requests go to both in turn, one after another, so that what else the machine does
meets both.
"""

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import UUID, uuid4

import httpx2

from bench.content import ConfigAtWork, add_tenants, config_at_work, ids_of, settle
from bench.figures import Benchmark, Better, Round, percentile
from bench.stack import Stack

TENANTS: Final = 2_000
THINGS: Final = 50_000
THINGS_OF_OTHERS: Final = 100
ROUNDS: Final = 3
TURNS: Final = 200

_SMALL: Final = 100


async def measure(
    stack: Stack,
    *,
    tenants: int = TENANTS,
    things: int = THINGS,
    rounds: int = ROUNDS,
    turns: int = TURNS,
) -> list[Round]:
    """Send so many turns of requests to either tenant in each round.

    Raises:
        RuntimeError: a request was not answered as it should be.
    """
    async with AsyncExitStack() as both:
        large = await both.enter_async_context(config_at_work(stack, "_large"))
        small = await both.enter_async_context(config_at_work(stack, "_small"))
        await add_tenants(large.superuser_url, tenants - 1, THINGS_OF_OTHERS)
        others = set(await ids_of(large.superuser_url))
        await add_tenants(large.superuser_url, 1, things)
        [one] = set(await ids_of(large.superuser_url)) - others
        await add_tenants(small.superuser_url, 1, _SMALL)
        [another] = await ids_of(small.superuser_url)
        for config in (large, small):
            await settle(config.superuser_url)
        sides = [await _Side.of(large, one), await _Side.of(small, another)]
        found = []
        for number in range(rounds + 1):
            measured = await _round(sides, turns)
            if number:  # the first one warms up
                found.append(measured)
                sys.stderr.write(f"tenant-size: p99 {measured.ours:.1f}, {measured.peer:.1f} ms\n")
        return found


class _Side:
    """One of the two tenants, and what is asked of it."""

    def __init__(self, config: ConfigAtWork, tenant_id: UUID, middle: str, ids: list[str]) -> None:
        self._config = config
        self._tenant_id = tenant_id
        self._middle = middle
        self._ids = ids

    @classmethod
    async def of(cls, config: ConfigAtWork, tenant_id: UUID) -> "_Side":
        """Find a place far down in the list, and some things from all over it."""
        async with config.client(tenant_id) as client:
            cursor, ids = None, list[str]()
            while True:
                params: dict[str, Any] = {"limit": 10} | ({"cursor": cursor} if cursor else {})
                page = (await client.get("/api/v1/queries", params=params)).json()
                ids += [item["id"] for item in page["items"]]
                cursor = page["next"] or cursor
                if page["next"] is None or len(ids) > _SMALL:
                    return cls(config, tenant_id, str(cursor), ids)

    async def turn(self, client: httpx2.AsyncClient, number: int) -> AsyncIterator[float]:
        """Read and write as an editor does; give how long each request took, in milliseconds."""
        own = f"/api/v1/queries/{self._ids[number % len(self._ids)]}"
        requests: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/api/v1/queries?limit=20", {}),
            ("GET", f"/api/v1/queries?limit=20&cursor={self._middle}", {}),
            ("GET", "/api/v1/queries?limit=20&sort=name", {}),
            ("GET", own, {}),
            ("GET", f"{own}/pipeline", {}),
            ("GET", f"{own}/versions", {}),
        ]
        for method, address, options in requests:
            seconds, _ = await _timed(client, method, address, **options)
            yield seconds
        body = {"name": str(uuid4()), "text": f"rows.slice({number})"}
        seconds, made = await _timed(client, "POST", "/api/v1/converters", json=body)
        yield seconds
        address = f"/api/v1/converters/{made.json()['id']}"
        for method, options in (
            ("PUT", {"json": body | {"text": "rows"}, "headers": {"if-match": '"1"'}}),
            ("DELETE", {"headers": {"if-match": '"2"'}}),
        ):
            seconds, _ = await _timed(client, method, address, **options)
            yield seconds

    def client(self) -> Any:
        """A client with a session."""
        return self._config.client(self._tenant_id)


async def _timed(
    client: httpx2.AsyncClient, method: str, address: str, **options: Any
) -> tuple[float, httpx2.Response]:
    began_at = time.monotonic()
    answer = await client.request(method, address, **options)
    milliseconds = (time.monotonic() - began_at) * 1000
    if not answer.is_success:
        raise RuntimeError(f"{method} {address} was answered with {answer.status_code}")
    return milliseconds, answer


async def _round(sides: Sequence[_Side], turns: int) -> Round:
    taken: list[list[float]] = [[], []]
    async with sides[0].client() as large, sides[1].client() as small:
        clients = [large, small]
        for number in range(turns):
            # Neither is always the first.
            for which in (0, 1) if number % 2 else (1, 0):
                taken[which] += [each async for each in sides[which].turn(clients[which], number)]
    return Round(
        percentile(taken[0], 99),
        percentile(taken[1], 99),
        {"large_ms": taken[0], "small_ms": taken[1]},
    )


BENCHMARK: Final = Benchmark(
    name="tenant-size",
    question="What do reads and writes of a tenant with 50,000 things among 2,000 tenants cost?",
    ours="p99 of a tenant with 50,000 things",
    peer="p99 of a small one on an almost empty database",
    unit=" ms",
    goal=1.3,
    better=Better.LOWER,
    measure=measure,
)
