"""Measures how many signed installs a second the installer makes durable, against bare inserts.

The installer is a process of its own with all that it has: signatures, sealed secrets, its relay.
Against it stand transactions of asyncpg that insert two of the four rows it writes, under other
names, into a database of the same making.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from bench.figures import Benchmark, Better, Round
from bench.install_load import Load, send_from_process, write_requests
from bench.installer import APP, PATH, PUBLIC_URL, all_relayed, installer
from bench.key_host import key_host
from bench.stack import Stack, worker_pool
from connect.lifecycle import EventType
from devstack.atlassian import Atlassian, Site, new_atlassian
from devstack.postgres import Roles
from services.installer.data_map import DATA_MAP

_CONNECTIONS = 32
_INSTALLS = 4_000
_WARM_UP = 1_000
_ROUNDS = 5
# As the chassis gives it to a service.
POOL_SIZE = 10
_TOKEN_SECONDS = 3_600

# The two rows without which no install could be told of: whose it is, and that it was said. What the
# installer writes besides (the installation, the tenant's key) counts against it.
_TABLES = ("tenants", "outbox")
# The database gives these by itself.
_GIVEN = {"xid", "position"}

Row = tuple[str, Sequence[Any]]


async def measure(stack: Stack) -> list[Round]:
    """Install distinct tenants over HTTP and insert as many without it, round by round."""
    await stack.make_topics()
    roles = await stack.make_database(DATA_MAP, "_floor")
    bare = await stack.make_database(DATA_MAP, "_floor_bare")
    async with (
        new_atlassian() as atlassian,
        key_host(atlassian) as keys,
        installer(stack, roles, keys) as port,
        _bare_pool(roles) as theirs,
        _bare_pool(bare) as pool,
    ):
        installs = _Installs(stack.folder / "requests", atlassian, roles, port)
        await installs.make(_WARM_UP)
        written = await _one_install_of(theirs)
        await _insert(pool, written, _WARM_UP)
        measured = []
        for _ in range(_ROUNDS):
            load = await installs.make(_INSTALLS)
            seconds = await _insert(pool, written, _INSTALLS)
            measured.append(
                Round(
                    ours=_INSTALLS / load.seconds,
                    peer=_INSTALLS / seconds,
                    samples={"install_ms": load.milliseconds},
                )
            )
        return measured


@dataclass(frozen=True, slots=True)
class _Installs:
    """Makes sites install the app, each once."""

    requests: Path
    atlassian: Atlassian
    roles: Roles
    port: int

    async def make(self, count: int) -> Load:
        """Install at so many new sites; all are stored, and told to Kafka, when this returns.

        Raises RuntimeError for one that was refused or is not there.
        """
        write_requests(self.requests, (self._request() for _ in range(count)))
        async with worker_pool(self.roles) as worker:
            before = await worker.fetchval(_SAID)
            load = await send_from_process(self.requests, port=self.port, connections=_CONNECTIONS)
            if load.statuses != {"204": count} or await worker.fetchval(_SAID) != before + count:
                raise RuntimeError(f"not every install was stored: {load.statuses}")
            await all_relayed(worker)
        return load

    def _request(self) -> bytes:
        hook = self.atlassian.hook(
            Site.named(f"site-{uuid4().hex}"),
            EventType.INSTALLED,
            app_key=APP,
            audience=f"{PUBLIC_URL}{PATH}",
            path="/lifecycle/installed",
            lifetime_seconds=_TOKEN_SECONDS,
        )
        headers = {
            "Host": "installer.example.com",
            "Content-Length": str(len(hook.content)),
            **hook.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = f"POST {PATH}{hook.path} HTTP/1.1\r\n"
        return f"{start}{lines}\r\n".encode() + hook.content


_SAID = "SELECT count(*) FROM outbox"


@asynccontextmanager
async def _bare_pool(roles: Roles) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """Open a pool as large as the installer's, all of it at once, that decodes no JSON."""
    async with asyncpg.create_pool(
        roles.runtime_url, min_size=POOL_SIZE, max_size=POOL_SIZE
    ) as pool:
        yield pool


async def _one_install_of(pool: "asyncpg.Pool[asyncpg.Record]") -> dict[str, dict[str, Any]]:
    """Read the rows of one install, by table."""
    tenant_id = await pool.fetchval("SELECT tenant_id FROM tenants LIMIT 1")
    written = {}
    for table in _TABLES:
        row = await pool.fetchrow(f"SELECT * FROM {table} WHERE tenant_id = $1", tenant_id)  # noqa: S608 - our own names
        assert row is not None
        written[table] = dict(row)
    return written


def _renamed(written: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """Give the statements that insert the same install for a tenant nobody knows."""
    tenant_id, client_key = uuid4(), str(uuid4())
    names = {
        "tenant_id": tenant_id,
        "record_key": str(tenant_id),
        "client_key": client_key,
        "base_url": f"https://{client_key}.atlassian.net",
        "ce_id": uuid4(),
    }
    for table, row in written.items():
        new = {
            column: names.get(column, value)
            for column, value in row.items()
            if column not in _GIVEN
        }
        places = ", ".join(f"${number}" for number in range(1, len(new) + 1))
        yield f"INSERT INTO {table} ({', '.join(new)}) VALUES ({places})", tuple(new.values())  # noqa: S608 - our own names


async def _insert(
    pool: "asyncpg.Pool[asyncpg.Record]", written: Mapping[str, Mapping[str, Any]], count: int
) -> float:
    """Return the seconds in which as many workers as connections insert so many installs."""
    waiting = iter([list(_renamed(written)) for _ in range(count)])
    # What is prepared must not be searched for garbage while it counts.
    gc.collect()
    gc.freeze()

    async def work() -> None:
        for rows in waiting:
            async with pool.acquire() as connection, connection.transaction():
                for statement, arguments in rows:
                    await connection.execute(statement, *arguments)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(_CONNECTIONS):
            workers.create_task(work())
    seconds = time.perf_counter() - began
    gc.unfreeze()
    return seconds


BENCHMARK = Benchmark(
    name="install-floor",
    question="How much of the database's own speed is left for signed installs over HTTP?",
    ours="signed installs over HTTP",
    peer="two of its inserts, bare",
    unit="/s",
    goal=0.40,
    better=Better.HIGHER,
    measure=measure,
)
