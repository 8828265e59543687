"""Measures durable installs a second, and how long they take, against atlassian-connect-express.

Both sides are one process on one database server, which waits for the disk at each commit, and hear
calls of one signer: first installs of sites that nobody knows, over as many connections. Our side
does all that it does in earnest, its relay to Kafka included; the peer is the framework's own route
and store with no app around them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2

from bench import tools
from bench.figures import Also, Benchmark, Better, Round, percentile
from bench.install_load import Load
from bench.installer import APP, PATH, PUBLIC_URL, all_relayed, installer
from bench.key_host import key_host
from bench.server import serving
from bench.stack import Stack, worker_pool
from bench.vegeta import Target, attack, write_targets
from connect.lifecycle import EventType
from devstack.atlassian import Atlassian, Site, new_atlassian
from devstack.postgres import Roles, provision
from devstack.processes import free_port
from services.installer.data_map import DATA_MAP

_CONNECTIONS = 32
_INSTALLS = 2_000
# Node.js compiles what it runs often, so the peer becomes faster for a while.
_WARM_UP = 2_000
_ROUNDS = 5
_TOKEN_SECONDS = 3_600
_PEER_URL = "https://peer.example.com"
_OURS, _PEERS = "install_ms", "peer_install_ms"


async def measure(stack: Stack) -> list[Round]:
    """Let new sites install each side's app in turn, round by round.

    Raises:
        CannotMeasure: Node.js, Go, or what is fetched with them is not to be had.
        RuntimeError: a side commits without the disk, lets in what Atlassian did not sign,
            refuses what it did, or does not hold what it has confirmed.
    """
    vegeta, app = await asyncio.to_thread(tools.vegeta), await asyncio.to_thread(tools.ace)
    await stack.make_topics()
    roles = await stack.make_database(DATA_MAP, "_ace")
    made = await provision(stack.postgres.superuser_url(), ["ace"], folder=stack.folder)
    async with (
        new_atlassian() as atlassian,
        key_host(atlassian) as keys,
        installer(stack, roles, keys) as our_port,
        _peer(stack, made["ace"], app, keys) as peer_port,
        worker_pool(roles) as worker,
    ):
        load = _Load(vegeta, stack.folder / "targets", atlassian)
        ours = _Side(
            url=f"http://127.0.0.1:{our_port}{PATH}",
            audience=f"{PUBLIC_URL}{PATH}",
            hook="/lifecycle/installed",
            role_url=roles.runtime_url,
            database_url=stack.postgres.superuser_url("installer_ace"),
            count="SELECT count(*) FROM tenants",
        )
        peer = _Side(
            url=f"http://127.0.0.1:{peer_port}",
            audience=_PEER_URL,
            hook="/installed",
            role_url=made["ace"].owner_url,
            database_url=stack.postgres.superuser_url("ace"),
            count="""SELECT count(*) FROM "AddonSettings" WHERE key = 'clientInfo'""",
        )
        measured = []
        for side in (ours, peer):
            await _refuse_one_that_does_not_wait_for_the_disk(side)
            await load.refuse_one_that_takes_anything(side)
            await load.install(side, _WARM_UP)
            # As autovacuum does a minute later: tables that grow this fast have no statistics yet.
            await _value(side.database_url, "ANALYZE")
        for _ in range(_ROUNDS):
            # What our side has yet to tell Kafka must not meet the peer's turn.
            await all_relayed(worker)
            sent = await load.install(ours, _INSTALLS)
            await all_relayed(worker)
            sent_to_peer = await load.install(peer, _INSTALLS)
            measured.append(
                Round(
                    ours=_INSTALLS / sent.seconds,
                    peer=_INSTALLS / sent_to_peer.seconds,
                    samples={_OURS: sent.milliseconds, _PEERS: sent_to_peer.milliseconds},
                )
            )
        return measured


@dataclass(frozen=True, slots=True)
class _Side:
    """One app that can be installed, and the database where that shows."""

    url: str
    audience: str
    hook: str
    role_url: str = field(repr=False)
    database_url: str = field(repr=False)
    count: str


@dataclass(frozen=True, slots=True)
class _Load:
    """Makes sites install an app, each once."""

    vegeta: Path
    targets: Path
    atlassian: Atlassian

    async def install(self, side: _Side, count: int) -> Load:
        """Install at so many new sites; RuntimeError unless all are confirmed and stored."""
        write_targets(self.targets, (_install(side, self.atlassian) for _ in range(count)))
        before = await _value(side.database_url, side.count)
        load = await attack(self.vegeta, self.targets, connections=_CONNECTIONS)
        stored = await _value(side.database_url, side.count) - before
        if load.statuses != {"204": count} or stored != count:
            raise RuntimeError(f"of {count} installs {stored} are stored: {load.statuses}")
        return load

    async def refuse_one_that_takes_anything(self, side: _Side) -> None:
        """Raise RuntimeError where a call passes that was signed with another key."""
        async with httpx2.AsyncClient() as http:
            forged = _install(side, Atlassian(http, key_id=self.atlassian.key_id))
            answer = await http.post(forged.url, headers=forged.headers, content=forged.content)
        if not answer.is_client_error or await _value(side.database_url, side.count) != 0:
            raise RuntimeError(f"a forged install was answered with {answer.status_code}")


def _install(side: _Side, atlassian: Atlassian) -> Target:
    hook = atlassian.hook(
        Site.named(f"site-{uuid4().hex}"),
        EventType.INSTALLED,
        app_key=APP,
        audience=side.audience,
        path=side.hook,
        lifetime_seconds=_TOKEN_SECONDS,
    )
    return Target(f"{side.url}{hook.path}", hook.headers, hook.content)


async def _refuse_one_that_does_not_wait_for_the_disk(side: _Side) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        if await _value(side.role_url, f"SHOW {setting}") != "on":
            raise RuntimeError(f"a side works without {setting}: nothing it confirms is durable")


async def _value(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def _peer(stack: Stack, roles: Roles, app: Path, keys: str) -> AsyncIterator[int]:
    """Run the peer's app on its database, and give its port once it answers."""
    port = free_port()
    async with serving(
        (tools.program("node", of=tools.NODE), "server.js"),
        environment={
            "NODE_ENV": "production",
            "PORT": str(port),
            "AC_LOCAL_BASE_URL": _PEER_URL,
            "CONNECT_KEYS_CDN_URL": keys,
            "DB_URL": roles.owner_url,
        },
        log=stack.folder / "atlassian-connect-express.log",
        ready_url=f"http://127.0.0.1:{port}/atlassian-connect.json",
        folder=app,
    ):
        yield port


def _times(measured: Round) -> Round:
    return Round(
        ours=percentile(measured.samples[_OURS], 99), peer=percentile(measured.samples[_PEERS], 99)
    )


BENCHMARK = Benchmark(
    name="installs-vs-ace",
    question="How many installs a second become durable, against Atlassian's own framework?",
    ours="signed installs",
    peer="of Connect Express",
    unit="/s",
    goal=3.00,
    better=Better.HIGHER,
    measure=measure,
    also=(
        Also(
            name="installs-vs-ace-p99",
            question="How long do the slowest of a hundred such installs take?",
            ours="p99 of installs",
            peer="of Connect Express",
            unit=" ms",
            goal=0.50,
            better=Better.LOWER,
            of=_times,
        ),
    ),
)
