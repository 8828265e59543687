"""Measures how many error reports a second config accepts, scrubs and has on the disk, on one core.

Config is a process of its own, held to one core, with all that it has. Reports come over HTTP as the
SDK sends them, each of a tenant and a fault that were not seen before this round more than a few
times, so that each is stored and none only counted. Afterwards the rows are counted.
"""

import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psutil

from bench.figures import Benchmark, Better, Round
from bench.install_load import Load, send_from_process, write_requests
from bench.installer import say_that_the_ledger_is_empty
from bench.server import serving
from bench.stack import Stack
from chassis.database import open_pool
from chassis.keys import KeyEncryptionKeys, TenantKeys
from devstack.postgres import Roles
from devstack.processes import free_port
from services.config import error_tokens as tokens
from services.config.data_map import DATA_MAP
from services.config.domain import error_envelopes as envelope
from services.config.routes.errors import ENVELOPES
from services.config.store.errors import FIRST_OF_A_WEEK

_GOAL_A_SECOND = 2_000
_REPORTS = 20_000
_WARM_UP = 4_000
_ROUNDS = 3
_MANY_REPORTS = 200_000
_CONNECTIONS = 256
_TENANTS = 200
_PARSED_AT_LEAST_SECONDS = 2.0
_CORE = 0
# As a module it could not be held to a core from its first line on.
_ON_ONE_CORE = (
    f"import os, runpy; os.sched_setaffinity(0, {{{_CORE}}});"
    " runpy.run_module('services.config', run_name='__main__')"
)
_USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/141.0.0.0 Safari/537.36"
)


@dataclass(slots=True)
class Ingest:
    """A config that takes reports, and who sends them."""

    folder: Path
    port: int
    roles: Roles
    process: psutil.Process
    tokens: Sequence[str] = field(repr=False)
    sent: int = 0

    async def send(self, count: int) -> tuple[Load, float]:
        """Send so many new reports; return what came of it and the processor's seconds.

        Raises RuntimeError for one that was refused or is not on the disk.
        """
        path = self.folder / "reports"
        write_requests(path, map(self._request, range(self.sent, self.sent + count)))
        before = _processor_seconds(self.process)
        load = await send_from_process(path, port=self.port, connections=_CONNECTIONS)
        spent = _processor_seconds(self.process) - before
        self.sent += count
        if load.statuses != {"200": count} or await self._on_disk() != (self.sent, self.sent):
            raise RuntimeError(f"not every report was stored: {load.statuses}")
        return load, spent

    def parse(self) -> float:
        """Parse the same envelopes and do nothing with them; return how many a second."""
        bodies = [_envelope(self.tokens[n % _TENANTS], n) for n in range(1_000)]
        parsed, began = 0, time.perf_counter()
        while (seconds := time.perf_counter() - began) < _PARSED_AT_LEAST_SECONDS:
            for body in bodies:
                envelope.event_in(envelope.split(body)[1])
            parsed += len(bodies)
        return parsed / seconds

    def _request(self, number: int) -> bytes:
        body = _envelope(self.tokens[number % _TENANTS], number)
        head = (
            f"POST {ENVELOPES} HTTP/1.1\r\nHost: config.example.com\r\n"
            f"Content-Type: text/plain;charset=UTF-8\r\nUser-Agent: {_USER_AGENT}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _on_disk(self) -> tuple[int, int]:
        async with await open_pool(self.roles.eraser_url, name="bench", max_size=1) as pool:
            row = await pool.fetchrow(
                """
                SELECT (SELECT sum(reports)::bigint FROM error_groups) AS counted,
                       (SELECT count(*) - 1 FROM error_events) AS stored
                """
            )
        assert row is not None
        return row["counted"], row["stored"]


@asynccontextmanager
async def ingesting(stack: Stack, suffix: str) -> AsyncIterator[Ingest]:
    """Run config on a database with tenants, and give what sends to it once its doors are open."""
    await stack.make_topics()
    await say_that_the_ledger_is_empty(stack)
    roles = await stack.make_database(DATA_MAP, suffix)
    folder = stack.folder / f"errors{suffix}"
    folder.mkdir()
    keys_file = _key_file(folder)
    keys = TenantKeys("config", KeyEncryptionKeys.load(keys_file))
    tenants = [uuid4() for _ in range(_TENANTS)]
    await _know(roles, tenants)
    now = datetime.now(UTC)
    port = free_port()
    others = {each.pid for each in psutil.Process().children()}
    async with serving(
        (sys.executable, "-c", _ON_ONE_CORE),
        environment=_environment(stack, roles, keys_file, port),
        log=folder / "config.log",
        ready_url=f"http://127.0.0.1:{port}/readyz",
    ):
        (process,) = (each for each in psutil.Process().children() if each.pid not in others)
        given = [tokens.issue(keys, tenant_id, wall=now) for tenant_id in tenants]
        yield Ingest(folder, port, roles, process, given)


async def measure(stack: Stack) -> list[Round]:
    """Send reports, and parse as many without anything else, round by round."""
    measured = []
    async with ingesting(stack, "_ingest") as ours:
        await ours.send(_WARM_UP)
        for _ in range(_ROUNDS):
            load, spent = await ours.send(_REPORTS)
            rate, parsed = _REPORTS / load.seconds, ours.parse()
            sys.stderr.write(
                f"error-ingest: {rate:,.0f}/s, {_REPORTS / spent:,.0f} a second of the core's own;"
                f" parsing alone {parsed:,.0f}/s, so {rate / parsed:.2f} of that\n"
            )
            samples = {
                "report_ms": load.milliseconds,
                "reports_per_processor_second": [_REPORTS / spent],
                "parsed_per_second": [parsed],
            }
            measured.append(Round(ours=rate, peer=_GOAL_A_SECOND, samples=samples))
    return measured


async def measure_memory(stack: Stack) -> list[Round]:
    """Send many, and compare config's memory at its highest with that after a tenth of them."""
    after_a_tenth = highest = 0
    async with ingesting(stack, "_many") as ours:
        while ours.sent < _MANY_REPORTS:
            await ours.send(_REPORTS)
            resident = ours.process.memory_info().rss
            after_a_tenth = after_a_tenth or resident
            highest = max(highest, resident)
            sys.stderr.write(f"\rerror-ingest-memory: {ours.sent:,}, {resident / 2**20:.0f} MB ")
        sys.stderr.write("\n")
    return [Round(ours=highest / 2**20, peer=after_a_tenth / 2**20)]


def _envelope(token: str, number: int) -> bytes:
    """An error as the stock SDK sends it, of some 2.5 KB, with a person in it."""
    # As many reports of a fault and tenant as are stored of them in a week, then it is another one.
    fault = number // (_TENANTS * FIRST_OF_A_WEEK)
    frames = [
        {
            "filename": f"https://app.example.com/static/js/{name}.4f9d1c2e.js?v=2.4.1",
            "function": f"{function}{fault}",
            "in_app": True,
            "lineno": line,
            "colno": 1_200 + line,
        }
        for line in range(1, 6)
        for name, function in (("main", "renderTable"), ("vendor", "dispatchEvent"))
    ]
    thrown = {
        "type": "TypeError",
        "value": f"Cannot read properties of undefined (reading 'rows') for user-{number}@example.com"
        f" at https://customer-{number}.example.net/wiki/spaces?user_email=eve@example.com",
        "stacktrace": {"frames": frames},
        "mechanism": {"type": "auto.browser.global_handlers.onerror", "handled": False},
    }
    event = {
        "event_id": f"{number:032x}",
        "exception": {"values": [thrown]},
        "level": "error",
        "platform": "javascript",
        "release": f"reports@2.4.{number % 3}",
        "timestamp": time.time(),
        "user": {"id": f"{number % 1_000:032x}"},
    }
    header = {
        "event_id": event["event_id"],
        "sent_at": "2026-11-23T15:44:18.576Z",
        "sdk": {"name": "sentry.javascript.browser", "version": "11.12.0"},
        "dsn": f"https://{token}@config.example.com/1",
    }
    return b"\n".join(json.dumps(each).encode() for each in (header, {"type": "event"}, event))


def _processor_seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


async def _know(roles: Roles, tenants: Sequence[UUID]) -> None:
    async with await open_pool(roles.runtime_url, name="bench", max_size=1) as pool:
        await pool.execute(
            "INSERT INTO tenants SELECT t, 'installed', 'connect', 'live' FROM unnest($1::uuid[]) t",
            tenants,
        )
        await pool.execute(
            "INSERT INTO error_apps SELECT t, 'com.example.app' FROM unnest($1::uuid[]) t", tenants
        )


def _key_file(folder: Path) -> Path:
    random = [base64.urlsafe_b64encode(os.urandom(32)).decode() for _ in range(2)]
    path = folder / "keys.json"
    told = {"current": "a", "keys": {"a": random[0]}, "blind_index": random[1]}
    path.write_text(json.dumps(told), "utf-8")
    return path


def _environment(stack: Stack, roles: Roles, keys: Path, port: int) -> Mapping[str, str]:
    settings = {
        "DATABASE_URL": roles.runtime_url,
        "WORKER_DATABASE_URL": roles.worker_url,
        "ERASER_DATABASE_URL": roles.eraser_url,
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka.bootstrap_servers,
        "HTTP_PORT": str(port),
        "PUBLIC_URL": "https://config.example.com",
        "KEY_ENCRYPTION_KEYS_FILE": str(keys),
        "SESSION_JWKS_URL": "http://127.0.0.1:1/jwks",
        # All come from one address here, and of few tenants.
        "ERROR_REPORTS_PER_ADDRESS": str(10**9),
        "ERROR_REPORTS_PER_TENANT": str(10**9),
    }
    return {f"KEEPWORD_{name}": value for name, value in settings.items()}


BENCHMARK = Benchmark(
    name="error-ingest",
    question="How many error reports a second does one core accept, scrub and have on the disk?",
    ours="reports over HTTP, scrubbed, grouped, committed",
    peer="what was promised",
    unit="/s",
    goal=1.00,
    better=Better.HIGHER,
    measure=measure,
)

MEMORY = Benchmark(
    name="error-ingest-memory",
    question="Does config's memory stay flat over 200,000 error reports?",
    ours="highest memory while 200,000 reports are taken",
    peer="memory after a tenth of them",
    unit=" MB",
    goal=1.10,
    better=Better.LOWER,
    measure=measure_memory,
)
