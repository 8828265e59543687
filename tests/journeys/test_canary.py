"""A marker planted in everything of one tenant is found nowhere once the tenant has been purged."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx2
import pytest

from chassis.broker import KafkaAccess
from contracts.purges import Phase
from contracts.topics import (
    ALL_TOPICS,
    CONFIG_ACCESSES,
    CONFIG_ERASURES,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    NOTIFIER_NOTICES,
    PURGER_CENSUSES,
    PURGER_COMMANDS,
    REPLAYS,
    SERVICES,
)
from devstack import canary as everywhere
from devstack.canary import SEALED, Canary, SealedCopies
from devstack.journey import Journey, TookTooLongError
from devstack.kafka import RunningKafka, start_kafka
from devstack.postgres import RunningPostgres
from devstack.provider import ROLE_VARIABLES
from devstack.stack import LocalStack, start_local_stack
from tests.support.journey import erasure_request, fingerprint, until_it_sees
from tests.support.stack import PROMPT_CLEANER, Databases
from tests.support.topics import read_all

NEIGHBOUR = "neighbour"


@dataclass(frozen=True)
class World:
    """A stack on servers whose insides the test may look into."""

    stack: LocalStack
    kafka: RunningKafka
    superuser_urls: Mapping[str, str]

    @property
    def access(self) -> KafkaAccess:
        return KafkaAccess(self.kafka.bootstrap_servers, "canary")


@pytest.fixture(scope="module")
def prompt_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    running = start_kafka(tmp_path_factory.mktemp("canary-kafka"), properties=PROMPT_CLEANER)
    yield running
    running.stop()


@pytest.fixture(scope="module")
async def world(
    prompt_kafka: RunningKafka,
    postgres: RunningPostgres,
    databases: Databases,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    roles = await databases(*SERVICES)
    given = {
        variable.format(service.upper()): str(getattr(roles[service], kind))
        for service in SERVICES
        for kind, variable in ROLE_VARIABLES.items()
    }
    environment = {**given, "KAFKA_BOOTSTRAP_SERVERS": prompt_kafka.bootstrap_servers}
    folder = tmp_path_factory.mktemp("canary")
    async with await start_local_stack(folder, environment=environment) as stack:
        superuser_urls = {
            service: postgres.superuser_url(urlsplit(each.runtime_url).path.removeprefix("/"))
            for service, each in roles.items()
        }
        yield World(stack, prompt_kafka, superuser_urls)


async def test_nothing_of_a_purged_tenant_is_found_anywhere_and_its_neighbour_is_untouched(
    world: World,
) -> None:
    canary = Canary.hatch()
    async with httpx2.AsyncClient() as http:
        leaving = Journey(world.stack, http, canary.site)
        staying = Journey(world.stack, http, "staying")
        await everywhere.entrust(leaving, canary.marker)
        await everywhere.entrust(staying, NEIGHBOUR)
        session = await leaving.open_session()
        await erasure_request(leaving, session, "POST")
        await until_it_sees(leaving, session, "asked", planned=True)
        await erasure_request(leaving, session, "DELETE")
        await until_it_sees(leaving, session, "none")
        # A secret that was replaced lies beside the present one for a while.
        await leaving.install()
        next_year = world.stack.now() + timedelta(days=365)
        await everywhere.plant(world.superuser_urls, leaving.tenant_id, canary, at=next_year)
        for person in (canary.marker, NEIGHBOUR):
            await leaving.open_ticket(person, f"Ada {person}")

        # A column that is added later is planted too, or this fails.
        databases = world.stack.databases
        assert await everywhere.bare_columns(databases, leaving.tenant_id, canary) == set()
        # Without these two the searches at the end could not fail.
        planted = await everywhere.search(world.stack, canary)
        assert everywhere.PLANTED_IN - planted.places == set()
        older_copies = await SealedCopies.of(world.stack, leaving.tenant_id)
        what_is_sealed_can_be_read_with_its_keys(canary, older_copies)
        # What the neighbour's own life still writes would look like a trace of the purge.
        await everybody_was_told(world, staying)
        before = await fingerprint(world.superuser_urls, staying.tenant_id)

        await leaving.uninstall()
        plan = await leaving.wait_for_plan()
        await leaving.move_to(plan.start_at + timedelta(minutes=1))
        await leaving.wait_for_brake()
        await leaving.release_brake("Ann Example", "Bob Example")
        await leaving.wait_for_phase(Phase.CLOSED)
        try:
            await leaving.wait_until_gone()
        except TookTooLongError:
            assert await leaving.rows() == {}
        assert await fingerprint(world.superuser_urls, staying.tenant_id) == before

        assert await leaving.tickets_naming(canary.marker) == []
        assert len(await leaving.tickets_naming(f"Ada {NEIGHBOUR}")) == 1

    await one_trace_leads_from_the_webhook_to_the_last_answer(world, leaving.tenant_id)
    proof = await everywhere.search(world.stack, Canary.of(str(plan.purge_id)))
    assert everywhere.PROOF_IN - proof.places == set()
    await the_marker_is_found_nowhere(world, canary, leaving.tenant_id)
    await older_copies.outlive()
    assert older_copies.readable() == {}


async def everybody_was_told(world: World, journey: Journey) -> None:
    """Return when the tenant's people were welcomed and no mail to them is on its way."""

    async def told() -> bool | None:
        connection = await asyncpg.connect(world.superuser_urls["notifier"])
        try:
            states = await connection.fetch(
                "SELECT state FROM deliveries WHERE tenant_id = $1", journey.tenant_id
            )
        finally:
            await connection.close()
        return True if {row["state"] for row in states} == {"sent"} else None

    await journey.until(told, "the people are welcomed")


def what_is_sealed_can_be_read_with_its_keys(canary: Canary, copies: SealedCopies) -> None:
    readable = copies.readable()
    assert readable.keys() == SEALED.keys()
    for name, told in readable.items():
        assert told
        assert canary.is_in(told) or name.endswith("_secret")


async def one_trace_leads_from_the_webhook_to_the_last_answer(
    world: World, tenant_id: UUID
) -> None:
    """Months lie between; the stored traceparent bridges them."""
    traces: dict[str, set[str]] = {}
    for topic in (INSTALLER_TENANTS, PURGER_COMMANDS, INSTALLER_ERASURES, CONFIG_ERASURES):
        for record in await read_all(world.access, topic.name):
            if record.key == str(tenant_id).encode():
                headers = dict(record.headers)
                trace = headers["ce_traceparent"].decode().split("-")[1]
                traces.setdefault(headers["ce_type"].decode(), set()).add(trace)
    [begun] = traces["keepword.tenant-uninstalled.v1"]
    for name in ("purge-requested", "purge-accepted", "purge-started", "data-erased"):
        assert traces[f"keepword.{name}.v1"] == {begun}, name


async def the_marker_is_found_nowhere(world: World, canary: Canary, tenant_id: UUID) -> None:
    await everywhere.compact_now(world.stack)
    async with asyncio.timeout(90):
        while not await everywhere.is_compacted(world.stack, tenant_id):
            await asyncio.sleep(1)
    found = await everywhere.search(world.stack, canary)
    assert found.places == set()
    # Purger takes a census only when in doubt, notifier tells only news, no staff look at anything,
    # and nobody replays anything.
    read = {topic.name for topic in ALL_TOPICS if found.pieces[f"topic {topic.name}"]}
    assert {topic.name for topic in ALL_TOPICS} - read <= {
        CONFIG_ACCESSES.name,
        NOTIFIER_NOTICES.name,
        PURGER_CENSUSES.name,
        *(topic.name for topic in REPLAYS.values()),
    }
