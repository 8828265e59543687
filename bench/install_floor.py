"""Measures how many signed installs a second the installer makes durable, against bare inserts.

The installer is a process of its own with all that it has: signatures, sealed secrets, its relay.
Against it stand transactions of asyncpg that insert two of the four rows it writes, under other
names, into a database of the same making.
"""

import asyncio
import base64
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.figures import Benchmark, Better, Round
from bench.install_load import Load, send_from_process, write_requests
from bench.records import record_of
from bench.stack import Stack, worker_pool
from chassis.outbox import Outbox
from chassis.shutdown import HttpServer
from connect.lifecycle import EventType
from contracts.ledger import GENESIS, LedgerHead
from devstack.atlassian import Atlassian, Site, create_app, new_atlassian
from devstack.postgres import Roles
from devstack.processes import free_port

_APP = "com.example.app"
_PUBLIC_URL = "https://installer.example.com"
_CONNECTIONS = 32
_INSTALLS = 4_000
_WARM_UP = 1_000
_ROUNDS = 5
_READY_WITHIN_SECONDS = 60
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
    await _say_that_the_ledger_is_empty(stack)
    roles = await stack.make_installer_database("_floor")
    bare = await stack.make_installer_database("_floor_bare")
    async with (
        new_atlassian() as atlassian,
        _key_host(atlassian) as key_host,
        _installer(stack, roles, key_host) as port,
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
            async with asyncio.timeout(_READY_WITHIN_SECONDS):
                while not await worker.fetchval(_ALL_SENT):
                    await asyncio.sleep(0.05)
        return load

    def _request(self) -> bytes:
        hook = self.atlassian.hook(
            Site.named(f"site-{uuid4().hex}"),
            EventType.INSTALLED,
            app_key=_APP,
            audience=f"{_PUBLIC_URL}/connect/{_APP}",
            path="/lifecycle/installed",
            lifetime_seconds=_TOKEN_SECONDS,
        )
        headers = {
            "Host": "installer.example.com",
            "Content-Length": str(len(hook.content)),
            **hook.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = f"POST /connect/{_APP}{hook.path} HTTP/1.1\r\n"
        return f"{start}{lines}\r\n".encode() + hook.content


_SAID = "SELECT count(*) FROM outbox"
_ALL_SENT = """
    SELECT (SELECT max(position) FROM outbox) = (SELECT max(position) FROM relay_cursor)
"""


async def _say_that_the_ledger_is_empty(stack: Stack) -> None:
    """Say what purger would; the installer opens its doors to nobody before it has heard it."""
    now = datetime.now(UTC)
    outbox = Outbox("purger", now, now)
    cluster_id = await stack.access.cluster_id()
    outbox.add(LedgerHead(number=0, hash=GENESIS, cluster_id=cluster_id, at=now))
    head = record_of(outbox.rows[0])
    async with stack.access.producer() as producer:
        await producer.send_and_wait(head.topic, head.payload, key=head.key, headers=head.headers)


@asynccontextmanager
async def _key_host(atlassian: Atlassian) -> AsyncIterator[str]:
    """Serve Atlassian's public key; the installer asks for it once."""
    server = HttpServer(
        create_app(atlassian, "http://127.0.0.1:1", [_APP]), host="127.0.0.1", port=0
    )
    task = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{server.port}/install-keys"
    finally:
        await server.stop()
        await task


@asynccontextmanager
async def _installer(stack: Stack, roles: Roles, key_host: str) -> AsyncIterator[int]:
    """Run the installer as it is run in earnest, and give its port once its doors are open.

    Raises RuntimeError with the end of its log when they do not open.
    """
    port = free_port()
    path = stack.folder / "installer.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.installer"),
            env=os.environ | _environment(stack, roles, key_host, port),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        if not await _opens(process, port):
            said = path.read_text("utf-8", errors="replace")[-2_000:]
            raise RuntimeError(f"the installer does not open its doors\n{said}")
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _opens(process: asyncio.subprocess.Process, port: int) -> bool:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    async with httpx2.AsyncClient() as http:
        while process.returncode is None and time.monotonic() < deadline:
            try:
                answer = await http.get(f"http://127.0.0.1:{port}/readyz")
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code == httpx2.codes.OK:
                return True
            await asyncio.sleep(0.1)
    return False


def _environment(stack: Stack, roles: Roles, key_host: str, port: int) -> Mapping[str, str]:
    keys = stack.folder / "keys.json"
    random = [base64.urlsafe_b64encode(os.urandom(32)).decode() for _ in range(2)]
    keys.write_text(
        json.dumps({"current": "a", "keys": {"a": random[0]}, "blind_index": random[1]}), "utf-8"
    )
    session_key = stack.folder / "session.pem"
    session_key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    settings = {
        "DATABASE_URL": roles.runtime_url,
        "WORKER_DATABASE_URL": roles.worker_url,
        "ERASER_DATABASE_URL": roles.eraser_url,
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka.bootstrap_servers,
        "HTTP_PORT": str(port),
        "PUBLIC_URL": _PUBLIC_URL,
        "KEY_ENCRYPTION_KEYS_FILE": str(keys),
        "APPS": json.dumps([{"key": _APP, "name": "Example"}]),
        "INSTALL_KEYS_URL": key_host,
        "SESSION_KEY_FILE": str(session_key),
    }
    return {f"KEEPWORD_{name}": value for name, value in settings.items()}


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
