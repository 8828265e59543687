"""Measures how long it takes to find what was said about a tenant, in an outbox of 10,000,000 rows.

The rows lie in 150 days, as long as an outbox remembers; 100 of them are about each tenant.
"""

import hashlib
import random
import sys
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from bench.figures import Benchmark, Better, Round, percentile
from bench.records import rows as rows_like
from bench.stack import Stack
from chassis.database import Connection, connect
from chassis.history import Wanted, newest
from devstack.postgres import Roles
from services.installer.data_map import DATA_MAP

ROWS: Final = 10_000_000
DAYS: Final = 150
MOST_MILLISECONDS: Final = 50.0
ROUNDS: Final = 3

_ROWS_A_TENANT: Final = 100
_LOOKUPS: Final = 100
_FOUND_AT_ONCE: Final = 100

# As wide as a tenant's state is, under ids that are as spread as real ones.
_FILL: Final = """
    INSERT INTO outbox (written_at, epoch, topic, kind, record_key, tenant_id, ce_id, type, headers,
                        payload, data_class)
    SELECT $1::timestamptz + n * interval '1 day' / $2, (SELECT max(epoch) FROM relay_epochs),
           'installer.tenants.v1', 'state', tenant, tenant::uuid, gen_random_uuid(),
           'keepword.tenant-updated.v1', $5::text::jsonb, $6, 'installation'
      FROM (SELECT n, md5(((n + $3) % $4)::text) AS tenant
              FROM generate_series(0, $2 - 1) AS n) AS rows
"""


async def measure(stack: Stack, *, rows: int = ROWS) -> list[Round]:
    """Look 100 tenants up as `keepword events find` does; a round is the median of them.

    The connection has read the outbox before: to learn of 150 partitions is paid once for each,
    and said beside the rounds.

    Raises:
        RuntimeError: a lookup found more or fewer messages than there are.
    """
    roles = await stack.make_database(DATA_MAP, "_lookup")
    await _fill(stack, roles, rows)
    tenants = rows // _ROWS_A_TENANT
    chance = random.Random(7)  # noqa: S311 - chooses whom to look up
    rounds = []
    for _ in range(ROUNDS):
        connection = await connect(roles.runtime_url, name="bench")
        try:
            first = await _look_up(connection, _tenant(chance.randrange(tenants)))
            wanted = [_tenant(chance.randrange(tenants)) for _ in range(_LOOKUPS)]
            took = [await _look_up(connection, tenant_id) for tenant_id in wanted]
        finally:
            await connection.close()
        ours = percentile(took, 50)
        rounds.append(Round(ours, MOST_MILLISECONDS, {"each_ms": took, "first_ms": [first]}))
        sys.stderr.write(
            f"lookup: median {ours:.1f} ms, slowest but five {percentile(took, 95):.1f} ms,"
            f" first of a connection {first:.1f} ms\n"
        )
    return rounds


async def _look_up(connection: Connection, tenant_id: UUID) -> float:
    began = time.perf_counter()
    found = await newest(connection, Wanted(tenant_id=tenant_id), limit=_FOUND_AT_ONCE)
    took = (time.perf_counter() - began) * 1000
    if len(found) != _FOUND_AT_ONCE:
        raise RuntimeError(f"{len(found)} messages were found, not {_FOUND_AT_ONCE}")
    return took


def _tenant(number: int) -> UUID:
    # As SQL makes it.
    return UUID(bytes=hashlib.md5(str(number).encode(), usedforsecurity=False).digest())


async def _fill(stack: Stack, roles: Roles, rows: int) -> None:
    name = roles.runtime_url.rpartition("/")[2]
    connection = await asyncpg.connect(stack.postgres.superuser_url(name))
    try:
        await connection.execute("SET synchronous_commit = off")
        [like] = rows_like(1)
        first = datetime.now(UTC).date().toordinal() - DAYS + 1
        days = [datetime.fromordinal(first + n).replace(tzinfo=UTC) for n in range(DAYS)]
        await connection.execute("SELECT outbox_make_partitions($1::date, $2)", days[0], DAYS)
        for nth, day in enumerate(days):
            here = rows * (nth + 1) // DAYS - rows * nth // DAYS
            await connection.execute(
                _FILL,
                day,
                here,
                rows * nth // DAYS,
                rows // _ROWS_A_TENANT,
                like.headers,
                like.payload,
            )
        await connection.execute("VACUUM ANALYZE outbox")
    finally:
        await connection.close()


BENCHMARK: Final = Benchmark(
    name="lookup",
    question="How long until all that was said about a tenant is found among 10,000,000 messages?",
    ours="until it is found, the median",
    peer="the most that it may take",
    unit=" ms",
    goal=1.0,
    better=Better.LOWER,
    measure=measure,
)
