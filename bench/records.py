"""The message that the relay benchmarks send: a tenant's state, with all headers it really has."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from chassis.outbox import Outbox, OutboxRow
from contracts.tenants import TenantState
from services.installer.domain.tenants import Installation, new_tenant

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """What Kafka is given of one outbox row."""

    topic: str
    key: bytes
    headers: Headers
    payload: bytes


def a_tenant() -> TenantState:
    """Make the first state of a tenant that nobody knows."""
    installation = Installation(
        addon_key="com.example.app",
        product_type="jira",
        client_key="",
        base_url="",
        service_entitlement_number="SEN-12345678",
        shared_secret="",
        oauth_client_id=None,
    )
    now = datetime.now(UTC)
    return new_tenant(uuid4(), installation, epoch=int(now.timestamp() * 1000), now=now)


def rows(count: int) -> list[OutboxRow]:
    """Say so many tenants' first states, each under a key of its own."""
    now = datetime.now(UTC)
    outbox = Outbox("installer", now, now)
    for _ in range(count):
        outbox.add(a_tenant(), type_name="tenant-installed")
    return outbox.rows


def record_of(row: OutboxRow) -> Record:
    """Return what the relay makes of a row."""
    assert row.payload is not None
    headers = [(name, value.encode()) for name, value in json.loads(row.headers)]
    return Record(row.topic, row.record_key.encode(), headers, row.payload)
