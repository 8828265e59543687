"""Runs the installer for a benchmark as it is run in earnest: a process, with all that it has."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.records import record_of
from bench.server import serving
from bench.stack import Stack
from chassis.database import Pool
from chassis.outbox import Outbox
from contracts.ledger import GENESIS, LedgerHead
from devstack.postgres import Roles
from devstack.processes import free_port

APP = "com.example.app"
PUBLIC_URL = "https://installer.example.com"
PATH = f"/connect/{APP}"

_RELAYED_WITHIN_SECONDS = 60
_ALL_SENT = """
    SELECT (SELECT max(position) FROM outbox) = (SELECT max(position) FROM relay_cursor)
"""


@asynccontextmanager
async def installer(stack: Stack, roles: Roles, key_host: str) -> AsyncIterator[int]:
    """Run the installer on its database, and give its port once its doors are open.

    Raises RuntimeError with the end of its log when they do not open.
    """
    await say_that_the_ledger_is_empty(stack)
    port = free_port()
    async with serving(
        (sys.executable, "-m", "services.installer"),
        environment=_environment(stack, roles, key_host, port),
        log=stack.folder / "installer.log",
        ready_url=f"http://127.0.0.1:{port}/readyz",
    ):
        yield port


async def all_relayed(worker: Pool) -> None:
    """Return when all that the installer said is in Kafka; TimeoutError after a minute."""
    async with asyncio.timeout(_RELAYED_WITHIN_SECONDS):
        while not await worker.fetchval(_ALL_SENT):
            await asyncio.sleep(0.05)


async def say_that_the_ledger_is_empty(stack: Stack) -> None:
    """Say what purger would; the installer opens its doors to nobody before it has heard it."""
    now = datetime.now(UTC)
    outbox = Outbox("purger", now, now)
    cluster_id = await stack.access.cluster_id()
    outbox.add(LedgerHead(number=0, hash=GENESIS, cluster_id=cluster_id, at=now))
    head = record_of(outbox.rows[0])
    async with stack.access.producer() as producer:
        await producer.send_and_wait(head.topic, head.payload, key=head.key, headers=head.headers)


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
        "PUBLIC_URL": PUBLIC_URL,
        "KEY_ENCRYPTION_KEYS_FILE": str(keys),
        "APPS": json.dumps([{"key": APP, "name": "Example"}]),
        "INSTALL_KEYS_URL": key_host,
        "SESSION_KEY_FILE": str(session_key),
    }
    return {f"KEEPWORD_{name}": value for name, value in settings.items()}
