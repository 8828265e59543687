"""A config on a database of its own, and tenants with as many rows as a benchmark wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import httpx2
from joserfc.jwk import OKPKey
from starlette.types import Message

from bench.stack import Stack
from chassis.clock import SystemClock
from chassis.database import Pool, open_pool
from chassis.erasure import RESTS, EraserJob, ErasureOrder, accept_erasure
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.metrics import Metrics
from chassis.problems import HttpEdge
from chassis.service import Resources, Running, build_app
from chassis.sessions import Sessions
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from devstack.key_files import ensure_key_encryption_keys, ensure_signing_key
from devstack.postgres import Roles
from services.config.app import build
from services.config.context import AUDIENCE, STEP, Context, Limits
from services.config.data_map import DATA_MAP
from services.config.moves import ready_to_erase
from services.config.settings import ConfigSettings
from services.installer.sessions import SessionSigner

CLASSES: Final = (DataClass.CONTENT, DataClass.ERRORS)


@dataclass(frozen=True, slots=True)
class _OneKey:
    """The only key of sessions that there is."""

    key: OKPKey

    async def find(self, _: str) -> OKPKey | None:
        return self.key


@dataclass(frozen=True, slots=True)
class ConfigAtWork:
    """All of config but Kafka, answering in this process."""

    roles: Roles
    superuser_url: str
    units: Units[Context]
    worker: Pool
    eraser: Pool
    edge: HttpEdge
    signer: SessionSigner

    def eraser_job(self, *, at_full_speed: bool = False) -> EraserJob[Context]:
        """The job that erases, as the service runs it, or without its rests."""
        return EraserJob(
            units=self.units,
            worker=self.worker,
            eraser=self.eraser,
            data_map=DATA_MAP,
            key_class=DataClass.CONTENT,
            ready=ready_to_erase,
            rest=0.0 if at_full_speed else RESTS,
        )

    async def order_erasure(self, tenant_id: UUID) -> None:
        """Accept an erasure, as the command does."""
        order = ErasureOrder(uuid4(), STEP, tenant_id, CLASSES, ledger_number=1)
        async with self.units.begin() as uow:
            await accept_erasure(uow, order)

    def reader(self, tenant_id: UUID) -> Callable[[str], Awaitable[int]]:
        """A function that gets an address for a tenant and returns the status of the answer.

        It costs next to nothing beside the answer itself, as a client in this process must.
        """
        token = self.signer.token_for(tenant_id, wall=datetime.now(UTC))
        headers = [(b"host", b"config"), (b"authorization", f"Bearer {token}".encode())]

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def read(address: str) -> int:
            path, _, query = address.partition("?")
            status = 0

            async def send(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)

            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "https",
                "path": path,
                "raw_path": path.encode(),
                "query_string": query.encode(),
                "root_path": "",
                "headers": headers,
                "client": None,
                "server": None,
            }
            await self.edge(scope, receive, send)
            return status

        return read

    @asynccontextmanager
    async def client(self, tenant_id: UUID) -> AsyncIterator[httpx2.AsyncClient]:
        """An HTTP client with a session of the tenant, without a network."""
        token = self.signer.token_for(tenant_id, wall=datetime.now(UTC))
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.edge),
            base_url="http://config",
            headers={"authorization": f"Bearer {token}"},
        ) as client:
            yield client


@asynccontextmanager
async def config_at_work(stack: Stack, suffix: str) -> AsyncIterator[ConfigAtWork]:
    """Migrate a database of its own, and open a config on it."""
    roles = await stack.make_database(DATA_MAP, suffix)
    keys_file = ensure_key_encryption_keys(stack.folder / "keys.json", wall=datetime.now(UTC))
    settings = ConfigSettings(
        database_url=roles.runtime_url,
        worker_database_url=roles.worker_url,
        eraser_database_url=roles.eraser_url,
        kafka_bootstrap_servers=stack.kafka.bootstrap_servers,
        http_port=0,
        public_url="https://config.example.com",
        key_encryption_keys_file=keys_file,
        session_jwks_url="http://installer/jwks",
    )
    service, clock = build(settings), SystemClock()
    signer = SessionSigner.load(ensure_signing_key(stack.folder / "sessions.pem"))
    key = OKPKey.import_key(json.loads(signer.jwks)["keys"][0])
    keys = TenantKeys("config", KeyEncryptionKeys.load(keys_file))
    async with (
        await open_pool(roles.runtime_url, name="runtime") as runtime,
        await open_pool(roles.worker_url, name="worker", max_size=5) as worker,
        await open_pool(roles.eraser_url, name="eraser", max_size=2) as eraser,
    ):
        limits = Limits(most_things=1_000_000)
        context = Context(keys, Sessions(_OneKey(key), settings.session_issuer, AUDIENCE), limits)
        units = Units("config", runtime, clock, context, lambda: None)
        resources = Resources(settings, clock, service.metrics, runtime, worker, "bench", keys)
        doors = asyncio.Event()
        doors.set()
        app = build_app(service, doors)
        app.state.running = Running(resources, units, context, lambda _: None)
        database = roles.owner_url.rsplit("/", 1)[1]
        yield ConfigAtWork(
            roles,
            stack.postgres.superuser_url(database),
            units,
            worker,
            eraser,
            HttpEdge(app, Metrics()),
            signer,
        )


async def add_tenants(url: str, tenants: int, things: int) -> None:
    """Let there be so many tenants with so many things each, past versions and references too.

    Of ten things four are queries, each of the same tenant's first datasource, and
    two each are datasources, converters and templates. Each has two past versions.
    """
    connection = await asyncpg.connect(url)
    try:
        for statement in _FILL:
            await connection.execute(statement.format(tenants=tenants, things=things))
    finally:
        await connection.close()


async def ids_of(url: str) -> list[UUID]:
    """List the tenants that there are."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tenant_id FROM tenants ORDER BY tenant_id")
    finally:
        await connection.close()
    return [row["tenant_id"] for row in rows]


async def settle(url: str) -> None:
    """Bring tables and statistics into the state that they have on a quiet day."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


# Ids are spread as UUIDs are; those of things are in the order of their making.
_FILL: Final = (
    """
    CREATE TEMP TABLE new_tenants AS
        SELECT gen_random_uuid() AS tenant_id FROM generate_series(1, {tenants});
    INSERT INTO tenants SELECT tenant_id, 'installed', 'connect', 'live' FROM new_tenants;
    INSERT INTO tenant_totals SELECT tenant_id, {things}, now() FROM new_tenants
    """,
    """
    CREATE TEMP TABLE new_things AS
        SELECT tenant_id, n, uuidv7() AS thing_id,
               (ARRAY['datasource', 'datasource', 'converter', 'converter', 'template', 'template',
                      'query', 'query', 'query', 'query'])[(n - 1) % 10 + 1] AS kind
          FROM new_tenants, generate_series(1, {things}) AS n
         ORDER BY n;
    INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, position, version,
                        created_at, updated_at)
    SELECT tenant_id, thing_id, kind, 'Thing number ' || n, ARRAY['tag ' || n % 7],
           CASE kind
               WHEN 'datasource' THEN
                   jsonb_build_object('kind', 'sql', 'url', 'postgresql://db.example.com/' || n,
                                      'options', '{{}}'::jsonb, 'username', 'reader')
               WHEN 'query' THEN
                   jsonb_build_object('kind', 'sql', 'text', repeat('SELECT a FROM b ', 20),
                                      'parameters', '[]'::jsonb, 'datasource_id', first_id,
                                      'converter_id', null, 'template_id', null, 'spaces', null)
               WHEN 'template' THEN
                   jsonb_build_object('kind', 'table', 'text', repeat('<td>x</td>', 30))
               ELSE jsonb_build_object('text', repeat('rows.map(r => r) ', 20))
           END,
           4294967296 * n, 3, now(), now()
      FROM new_things
      JOIN (SELECT tenant_id, thing_id AS first_id FROM new_things WHERE n = 1) AS firsts
           USING (tenant_id)
     ORDER BY n
    """,
    """
    INSERT INTO thing_references
    SELECT tenant_id, thing_id, 'datasource_id', first_id
      FROM new_things
      JOIN (SELECT tenant_id, thing_id AS first_id FROM new_things WHERE n = 1) AS firsts
           USING (tenant_id)
     WHERE kind = 'query'
    """,
    """
    INSERT INTO thing_versions
    SELECT t.tenant_id, t.thing_id, past, t.name, t.tags, t.body, now()
      FROM things t
      JOIN new_things USING (tenant_id, thing_id), generate_series(1, 2) AS past
    """,
    "DROP TABLE new_things, new_tenants",
)
ROWS_A_THING: Final = 3.4
"""How many rows a thing has with its history and what it refers to."""
