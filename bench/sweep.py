"""Measures what asking 100,000 sites takes: ``python -m bench.sweep`` is the job in its own process.

The database holds tenants as they are after years, with secrets sealed under keys of their own; one
in ten was never asked before. Sites are answered for by this process, which checks nothing: what
is measured is who asks. Half way the job is killed, and another one begins where it was.
"""

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

import asyncpg
import httptools
import uvloop
from prometheus_client import CollectorRegistry

from bench.figures import Benchmark, Better, CannotMeasure, Round
from bench.stack import Stack
from chassis import logs
from chassis.clock import SystemClock
from chassis.database import open_pool
from chassis.egress import Egress
from chassis.identifiers import uuid7
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.unit_of_work import Units
from connect.product import ProductClient
from contracts.classes import TENANT_CLASSES
from services.installer.clients import Sites
from services.installer.data_map import DATA_MAP
from services.installer.door import SECRET, Door
from services.installer.jobs.access import SITES_EACH, AccessFigures, AccessJobs

TENANTS: Final = 100_000
MOST_MEGABYTES: Final = 200
AT_ONCE: Final = 16

_APP: Final = "com.example.app"
_NEW_ONE_IN: Final = 10
_TOGETHER: Final = 5_000
_LEASE_SECONDS: Final = 5
_KIB_A_MEGABYTE: Final = 1_000_000 / 1024
_FAST: Final = 1_000_000.0
_LOOK_EVERY_SECONDS: Final = 0.05

_TENANT_COLUMNS: Final = (
    "tenant_id",
    "version_epoch",
    "version_n",
    "status",
    "classes",
    "platform",
    "addon_key",
    "product_type",
    "created_at",
    "subscription_status",
    "licence_numbers",
)
_INSTALLATION_COLUMNS: Final = (
    "tenant_id",
    "live",
    "addon_key",
    "product_type",
    "client_key",
    "base_url",
    "shared_secret",
)


async def measure(stack: Stack) -> list[Round]:
    """Have all sites asked by a job that is killed half way, and by the one that goes on.

    Raises:
        RuntimeError: a site was not asked, too many were asked twice, or a job failed.
    """
    roles = await stack.make_database(DATA_MAP, "_sweep")
    keys_file = _write_keys(stack.folder / "sweep-keys.json")
    async with _sites() as sites:
        await _fill(roles.owner_url, keys_file, sites.url)
        environment = {
            "SWEEP_DATABASE_URL": roles.runtime_url,
            "SWEEP_KEYS": str(keys_file),
            "SWEEP_SITES": sites.url,
        }
        killed, seconds = await _ask_until(sites, TENANTS // 2, environment)
        rest, more_seconds = await _ask_until(sites, None, environment)
        _check(sites)
    peak = max(killed, rest)
    speed = TENANTS / (seconds + more_seconds)
    sys.stderr.write(f"sweep: {speed:,.0f} tenants/s, {sites.asked_again} asked twice\n")
    samples = {"tenants_per_second": [speed], "asked_twice": [float(sites.asked_again)]}
    return [Round(peak, MOST_MEGABYTES, samples)]


BENCHMARK: Final = Benchmark(
    name="sweep",
    question="How much memory does it take to ask 100,000 customers' sites for access?",
    ours="Keepword: the peak of a job that is killed half way, and of the next",
    peer="the most that it may take",
    unit=" MB",
    goal=1.0,
    better=Better.LOWER,
    measure=measure,
)


# -- the sites -------------------------------------------------------------------------------


class _SitesAnswered:
    """Who was asked for its licence, by number."""

    def __init__(self) -> None:
        self.counts = bytearray(TENANTS)
        self.asked = 0
        self.url = ""

    def ask(self, number: int) -> None:
        self.counts[number] += 1
        self.asked += 1

    @property
    def asked_again(self) -> int:
        return self.asked - sum(1 for count in self.counts if count)


class _Site(asyncio.Protocol):
    """One connection, of some site: ``/sites/<number>`` is the base URL of each."""

    def __init__(self, sites: _SitesAnswered) -> None:
        self._sites = sites
        self._url = b""
        self._request = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes, though it does all that they do.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._request.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Note what is asked for; the parser calls this, in pieces where it came in pieces."""
        self._url += url

    def on_message_complete(self) -> None:
        """Answer; the parser calls this."""
        assert self._transport is not None
        number = int(self._url.split(b"/")[2])
        if self._url.endswith(b"tenant_info"):
            content = b'{"cloudId": "%s"}' % str(UUID(int=number)).encode()
        else:
            self._sites.ask(number)
            content = _LICENCE
        self._transport.write(_HEAD % (number, len(content)) + content)
        self._transport.close()


_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: site=%d\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n"
)
_LICENCE: Final = json.dumps(
    {
        "key": _APP,
        "version": "1.0",
        "state": "ENABLED",
        "host": {"product": "Jira", "contacts": [{"name": "A Person", "email": "a@b.example"}]},
        "license": {"active": True, "type": "COMMERCIAL", "evaluation": False},
    }
).encode()


@asynccontextmanager
async def _sites() -> AsyncIterator[_SitesAnswered]:
    sites = _SitesAnswered()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Site(sites), "127.0.0.1", 0, backlog=1_024
    )
    sites.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/sites"
    try:
        yield sites
    finally:
        server.close()
        await server.wait_closed()


# -- the tenants -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rows:
    """Tenants as rows for COPY, by table; each has a key and a sealed secret of its own."""

    tenants: list[tuple[Any, ...]]
    installations: list[tuple[Any, ...]]
    keys: list[tuple[Any, ...]]
    checks: list[tuple[Any, ...]]
    aliases: list[tuple[Any, ...]]


async def _fill(owner_url: str, keys_file: Path, sites_url: str) -> None:
    keys = TenantKeys("installer", KeyEncryptionKeys.load(keys_file))
    connection = await asyncpg.connect(owner_url)
    try:
        for first in range(0, TENANTS, _TOGETHER):
            rows = _rows(range(first, first + _TOGETHER), keys, sites_url)
            async with connection.transaction():
                await _copy(connection, rows)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def _rows(numbers: range, keys: TenantKeys, sites_url: str) -> _Rows:
    now = datetime.now(UTC)
    made_at, due_at = now - timedelta(days=100), now - timedelta(minutes=1)
    live = json.dumps(dict.fromkeys(TENANT_CLASSES, "live"))
    rows = _Rows([], [], [], [], [])
    for number in numbers:
        tenant_id, key_of = uuid7(now), f"client-{number}"
        key = keys.new_wrapped_key(tenant_id)
        sealed = keys.seal_with(key.plain_key, tenant_id, SECRET, f"ATCO{uuid4().hex}".encode())
        known = number % _NEW_ONE_IN != 0
        status = ("installed", live, "connect", _APP, "jira", made_at)
        rows.tenants.append((tenant_id, 1, 1, *status, "active" if known else "none", []))
        rows.installations.append(
            (tenant_id, True, _APP, "jira", key_of, f"{sites_url}/{number}", sealed)
        )
        rows.keys.append((tenant_id, key.wrapped, key.kek_id, made_at))
        heard_at = due_at if known else None
        rows.checks.append((tenant_id, _APP, due_at, due_at, known or None, heard_at))
        if known:
            rows.aliases.append(
                (tenant_id, "cloud-id", _APP, str(UUID(int=number)), True, False, due_at)
            )
    return rows


async def _copy(connection: "asyncpg.Connection[asyncpg.Record]", rows: _Rows) -> None:
    async def copy(table: str, records: list[tuple[Any, ...]], *columns: str) -> None:
        await connection.copy_records_to_table(table, records=records, columns=columns or None)

    check_columns = ("tenant_id", "addon_key", "due_at", "last_seen_at")
    await copy("tenants", rows.tenants, *_TENANT_COLUMNS)
    await copy("installations", rows.installations, *_INSTALLATION_COLUMNS)
    await copy("tenant_keys", rows.keys)
    await copy("access_checks", rows.checks, *check_columns, "licence_active", "licence_heard_at")
    await copy("aliases", rows.aliases)


def _write_keys(path: Path) -> Path:
    random: Iterator[str] = (base64.urlsafe_b64encode(os.urandom(32)).decode() for _ in "ab")
    written = {"current": "a", "keys": {"a": next(random)}, "blind_index": next(random)}
    path.write_text(json.dumps(written), "utf-8")
    return path


# -- the job ---------------------------------------------------------------------------------


async def _ask_until(
    sites: _SitesAnswered, killed_after: int | None, environment: Mapping[str, str]
) -> tuple[float, float]:
    """Run the job to its end, or until it is killed half way; give its peak and its seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.sweep",
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    began_at = time.monotonic()
    try:
        if killed_after is not None:
            while sites.asked < killed_after and process.returncode is None:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            peak = _peak_megabytes(process.pid)
            process.kill()
            await process.wait()
            return peak, time.monotonic() - began_at
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"the job ended with status {process.returncode}")
        return float(output), time.monotonic() - began_at
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _peak_megabytes(pid: int) -> float:
    """Read the most memory that a process ever had in use, as Linux counts it."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / _KIB_A_MEGABYTE
    raise CannotMeasure("this needs a kernel that tells the most memory a process had in use")


def _check(sites: _SitesAnswered) -> None:
    if not all(sites.counts):
        raise RuntimeError(f"{sites.counts.count(0)} sites were not asked")
    if sites.asked_again > AT_ONCE * SITES_EACH:
        raise RuntimeError(f"{sites.asked_again} sites were asked twice, more than one claim")


async def _work() -> None:
    """Ask all that is due, and what a killed worker had claimed, as the installer does."""
    pool = await open_pool(os.environ["SWEEP_DATABASE_URL"], name="bench sweep")
    keys = TenantKeys("installer", KeyEncryptionKeys.load(Path(os.environ["SWEEP_KEYS"])))
    units = Units("installer", pool, SystemClock(), Door(keys), lambda: None)
    egress = Egress.to(os.environ["SWEEP_SITES"])
    http = egress.client(at_once=AT_ONCE, keeps_connections=False)
    jobs = AccessJobs(
        units=units,
        sites=Sites(ProductClient(http), per_second=_FAST),
        figures=AccessFigures(CollectorRegistry()),
        at_once=AT_ONCE,
        lease=timedelta(seconds=_LEASE_SECONDS),
    )
    await jobs.ask()
    await pool.close()
    sys.stdout.write(f"{_peak_megabytes(os.getpid())}\n")


if __name__ == "__main__":
    logs.configure("bench", "warning")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work())
