"""A whole stack of real processes for journeys, and customers who travel through it."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.audit import Ledger, PublicKeys, fetch_ledger, fetch_public_key, public_keys_of
from contracts.purges import Plan
from contracts.topics import ALL_TOPICS
from devstack.journey import Journey, data_map_of
from devstack.stack import LocalStack, start_local_stack

RELEASED_BY = ("Kim Keeper", "Robin Reader")

Travellers = Callable[[str], Journey]


@dataclass(frozen=True)
class Entrusted:
    """What a customer gave us, each of which only this customer has."""

    address: str
    name: str
    passwords: tuple[str, ...]

    def secrets_of(self, journey: Journey) -> tuple[str, ...]:
        """All that must be found nowhere once it is erased."""
        return (journey.client_key, journey.base_url, self.address, self.name, *self.passwords)


def without_given_servers() -> Mapping[str, str]:
    """The environment, without servers that somebody may have named for other tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KEEPWORD_") and name != "KAFKA_BOOTSTRAP_SERVERS"
    }


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """Everything, as `keepword up` starts it; a file of tests shares it and its clock."""
    folder: Path = tmp_path_factory.mktemp("stack")
    async with await start_local_stack(folder, environment=without_given_servers()) as running:
        yield running


@pytest.fixture
async def customer(stack: LocalStack) -> AsyncIterator[Travellers]:
    """A function: ``customer("acme")`` is a site that has not installed anything yet."""
    async with httpx2.AsyncClient() as http:
        yield lambda site: Journey(stack, http, site)


async def entrust(journey: Journey, *, licence: str | None = None) -> Entrusted:
    """Install, and give what customers give: a person, and two datasources with passwords."""
    given = Entrusted(
        address=f"ada@{journey.site}.example",
        name=f"Ada of {journey.site}",
        passwords=(f"s3cret-of-orders-{journey.site}", f"s3cret-of-people-{journey.site}"),
    )
    await journey.install(licence=licence)
    await journey.add_contact(given.name, given.address)
    for number, password in enumerate(given.passwords):
        await journey.add_datasource(
            f"source {number}",
            url=f"https://source-{number}.example/api",
            username="reports",
            credentials=password,
        )
    return given


async def leave(journey: Journey) -> Plan:
    """Uninstall, and return the plan that this leads to."""
    await journey.uninstall()
    return await journey.wait_for_plan()


async def let_it_start(journey: Journey, plan: Plan) -> None:
    """Move the clock to the purge's start, and let it through the brake that holds then."""
    await journey.move_to(max(plan.start_at, journey.stack.now()))
    await journey.wait_for_brake()
    await journey.release_brake(*RELEASED_BY)


async def erasure_request(
    journey: Journey, session: Mapping[str, str], method: str
) -> dict[str, Any]:
    """What the customer's browser gets from config about erasure asked for early."""
    answer = await journey.http.request(
        method,
        f"{journey.stack.endpoints.of('config')}/api/v1/erasure-requests",
        headers=session,
    )
    shown: dict[str, Any] = answer.json() | {"status": answer.status_code}
    return shown


async def until_it_sees(
    journey: Journey, session: Mapping[str, str], stage: str, *, planned: bool = False
) -> dict[str, Any]:
    """Return what the customer sees once its erasure stands there, and purger has planned it."""

    async def seen() -> dict[str, Any] | None:
        shown = await erasure_request(journey, session, "GET")
        right = shown.get("stage") == stage and (shown["begins_at"] is not None or not planned)
        return shown if right else None

    return await journey.until(seen, f"the customer sees {stage}")


async def fingerprint(superuser_urls: Mapping[str, str], tenant_id: UUID) -> dict[str, str]:
    """Hash a tenant's rows, table by table."""
    found = {}
    for service, url in superuser_urls.items():
        connection = await asyncpg.connect(url)
        try:
            for table in data_map_of(service).all_tables:
                if table.tenant_column is not None:
                    found[f"{service}.{table.name}"] = await connection.fetchval(
                        f"SELECT md5(coalesce(string_agg(t::text, '\n' ORDER BY t::text), ''))"
                        f" FROM {table.name} t WHERE {table.tenant_column} = $1",
                        tenant_id,
                    )
        finally:
            await connection.close()
    return found


async def whole_ledger(journey: Journey) -> Ledger:
    """Fetch the ledger as anybody can."""
    return await fetch_ledger(journey.http, journey.stack.endpoints.purger)


async def ledger_keys(journey: Journey) -> PublicKeys:
    """Fetch the keys that verify it."""
    return public_keys_of(await fetch_public_key(journey.http, journey.stack.endpoints.purger))


async def everything_on_kafka(stack: LocalStack) -> bytes:
    """Read all topics from their beginnings: keys, headers and values in one string of bytes."""
    partitions = [
        TopicPartition(topic.name, number)
        for topic in ALL_TOPICS
        for number in range(topic.partitions)
    ]
    consumer = AIOKafkaConsumer(**stack.kafka_options, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        read: list[bytes] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    read += [record.key or b"", record.value or b""]
                    read += [value or b"" for _, value in record.headers]
        return b"\n".join(read)
    finally:
        await consumer.stop()
