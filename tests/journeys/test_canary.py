"""A marker planted in everything of one tenant is found nowhere once the tenant has been purged."""

import asyncio
import json
import secrets
import subprocess
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.broker import KafkaAccess
from chassis.data_map import DataMap, Table
from chassis.keys import KeyDestroyed, KeyEncryptionKeys, TenantKeys, Undecipherable
from contracts.purges import Phase
from contracts.topics import (
    ALL_TOPICS,
    CONFIG_ERASURES,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    PURGER_CENSUSES,
    PURGER_COMMANDS,
    PURGER_PURGES,
    SERVICES,
    Topic,
)
from devstack.atlassian import Site
from devstack.journey import Journey, TookTooLongError
from devstack.kafka import RunningKafka, start_kafka
from devstack.postgres import Roles, RunningPostgres, binary
from devstack.provider import ROLE_VARIABLES
from devstack.stack import LocalStack, start_local_stack
from tests.support.journey import erasure_request, until_it_sees
from tests.support.stack import PROMPT_CLEANER, Databases
from tests.support.topics import read_all

MARKER = f"canary{secrets.token_hex(8)}"
LEAVING = f"{MARKER}-leaving"
# Licence numbers are in capitals. Atlassian makes up the client key, so it is a marker of its own.
MARKERS = (MARKER, MARKER.upper(), Site.named(LEAVING).client_key)

# Columns that hold words of ours and never anything that somebody wrote.
OUR_WORDS = {
    "config.tenants.content": "a state",
    "config.tenants.platform": "a state",
    "config.tenants.status": "a state",
    "config.datasources.kind": "one of two",
    "installer.tenants.addon_key": "the vendor's own app",
    "installer.tenants.departed_how": "one of three",
    "installer.tenants.platform": "one of three",
    "installer.tenants.product_type": "Atlassian's product",
    "installer.tenants.status": "a state",
    "installer.tenants.subscription_status": "a state",
    "installer.tenants.classes": "states",
    "installer.access_checks.addon_key": "the vendor's own app",
    "installer.aliases.addon_key": "the vendor's own app",
    "installer.aliases.kind": "one of two",
    "installer.installations.addon_key": "the vendor's own app",
    "installer.installations.product_type": "Atlassian's product",
    "installer.licences.addon_key": "the vendor's own app",
    "installer.licences.hosting": "one of a few",
    "installer.licences.licence_type": "one of a few",
    "installer.licences.matched_by": "one of a few",
    "installer.licences.status": "one of three",
    "installer.timelines.what": "one of a list",
    "notifier.tenants.addon_key": "the vendor's own app",
    "notifier.tenants.contacts": "a state",
}
# Sealed: the marker goes in through the door, and is looked for in what the keys open.
SEALED = {
    "installer.installations.shared_secret": "shared-secret",
    "installer.installations.replaced_secret": "shared-secret",
    "config.datasources.credentials": "datasource.credentials",
    "notifier.contacts.name": "contact.name",
    "notifier.contacts.address": "contact.address",
}


@dataclass(frozen=True)
class World:
    """A stack on servers whose insides the test may look into."""

    stack: LocalStack
    kafka: RunningKafka
    superuser_urls: Mapping[str, str]

    @property
    def access(self) -> KafkaAccess:
        return KafkaAccess(self.kafka.bootstrap_servers, "canary")

    def keys_file(self, service: str) -> Path:
        return self.stack.folder / "keys" / f"{service}.json"


def data_map_of(service: str) -> DataMap:
    found: DataMap = import_module(f"services.{service}.data_map").DATA_MAP
    return found


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


async def rows_of(url: str, table: Table, tenant_id: UUID) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            f"SELECT * FROM {table.name} WHERE {table.tenant_column} = $1", tenant_id
        )
        return [dict(row) for row in rows]
    finally:
        await connection.close()


async def text_columns(url: str, table: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            """
            SELECT column_name FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name = $1
               AND data_type IN ('text', 'character varying', 'jsonb', 'json', 'bytea', 'ARRAY')
             ORDER BY column_name
            """,
            table,
        )
        return [row["column_name"] for row in rows]
    finally:
        await connection.close()


async def plant_where_no_door_leads(world: World, tenant_id: UUID) -> None:
    """Fill what the stand-in leaves empty, and write down a failure of this tenant everywhere."""
    for service, change in (
        (
            "installer",
            (
                "installations SET oauth_client_id = $2, service_entitlement_number = $2,"
                " entitlement_id = $2, entitlement_number = $2"
            ),
        ),
        ("config", "datasources SET options = jsonb_build_object($2::text, $2::text)"),
    ):
        connection = await asyncpg.connect(world.superuser_urls[service])
        try:
            statement = f"UPDATE {change} WHERE tenant_id = $1"
            assert await connection.execute(statement, tenant_id, MARKER) == "UPDATE 1"
        finally:
            await connection.close()
    await plant_other_names(world.superuser_urls["installer"], tenant_id)
    for url in world.superuser_urls.values():
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                """
                INSERT INTO dead_letters (dead_letter_id, consumer, handler, topic, partition,
                    record_offset, tenant_id, type, record_key, headers, payload, reason,
                    error_type, fingerprint, attempts, first_failed_at)
                VALUES ($1, 'c', 'h', 't', 0, 0, $2, $3, $4, to_jsonb($3::text), $4, $3, $3, $3, 1,
                        $5)
                """,
                uuid4(),
                tenant_id,
                MARKER,
                MARKER.encode(),
                world.stack.now() + timedelta(days=365),
            )
        finally:
            await connection.close()


async def plant_other_names(url: str, tenant_id: UUID) -> None:
    """Write what is learnt of a tenant later: its cloud id, its licence, a person's word on it."""
    connection = await asyncpg.connect(url)
    try:
        for statement in (
            (
                "INSERT INTO aliases SELECT tenant_id, 'cloud-id', addon_key, $2::text, true, false,"
                " created_at FROM tenants WHERE tenant_id = $1"
            ),
            (
                "INSERT INTO licences (addon_key, number, sen, entitlement_id, entitlement_number,"
                " hosting, status, licence_type, cloud_id, site_host, last_updated, first_seen_at,"
                " heard_at, tenant_id, matched_by) SELECT addon_key, $2::text, $2, $2, $2, 'cloud',"
                " 'inactive', 'commercial', $2, $2, created_at, created_at, created_at, tenant_id,"
                " 'entitlement' FROM tenants WHERE tenant_id = $1"
            ),
            (
                "INSERT INTO links SELECT tenant_id, tenant_id, gen_random_uuid(), created_at,"
                " $2::text, $2, NULL FROM tenants WHERE tenant_id = $1"
            ),
            (
                "INSERT INTO access_checks (tenant_id, addon_key, due_at, last_seen_at, confirmed_at,"
                " confirmed_by) SELECT tenant_id, addon_key, created_at + interval '9 years',"
                " created_at, created_at, $2::text FROM tenants WHERE tenant_id = $1"
            ),
        ):
            assert await connection.execute(statement, tenant_id, MARKER) == "INSERT 0 1"
    finally:
        await connection.close()


def forms_of(marker: str) -> list[bytes]:
    """How a text can lie in a dump, a record or a log: plain, and as encodings write it."""
    plain = marker.encode()
    encoded = {plain, plain.hex().encode(), plain.hex().upper().encode()}
    for shift in range(3):  # base64 depends on where in its neighbourhood the text begins
        for encode in (b64encode, urlsafe_b64encode):
            inner = encode(b"\0" * shift + plain)
            encoded.add(inner[4 if shift else 0 : len(inner) - 4])
    return sorted(encoded)


def holds(haystack: bytes) -> bool:
    return any(form in haystack for marker in MARKERS for form in forms_of(marker))


def dump_of(url: str) -> bytes:
    return subprocess.run(
        [binary("pg_dump"), "--dbname", url], check=True, capture_output=True
    ).stdout


async def fingerprint(world: World, tenant_id: UUID) -> dict[str, str]:
    """Hash a tenant's rows, table by table."""
    found = {}
    for service, url in world.superuser_urls.items():
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


async def compact_now(world: World) -> None:
    """Let the broker's own cleaner do at once what it does in days."""
    prompt = {
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
    }
    admin = AIOKafkaAdminClient(**world.access.client_options())
    await admin.start()
    try:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=prompt)
                for topic in (INSTALLER_TENANTS, PURGER_PURGES)
            ]
        )
    finally:
        await admin.close()


async def roll_segments(world: World, topic: Topic) -> None:
    """Append to every partition: a segment is closed, and so cleaned, only when one is appended."""
    async with world.access.producer() as producer:
        for partition in range(topic.partitions):
            await producer.send_and_wait(
                topic.name, None, key=str(uuid4()).encode(), partition=partition
            )


async def everything_on_the_bus(world: World, topic: Topic) -> bytes:
    records = await read_all(world.access, topic.name)
    parts: list[bytes] = []
    for record in records:
        parts += [record.key or b"", record.value or b""]
        parts += [part for name, value in record.headers for part in (name.encode(), value or b"")]
    return b"\n".join(parts)


async def test_nothing_of_a_purged_tenant_is_found_anywhere_and_its_neighbour_is_untouched(
    world: World,
) -> None:
    async with httpx2.AsyncClient() as http:
        leaving = Journey(world.stack, http, LEAVING)
        staying = Journey(world.stack, http, "staying")
        for journey in (leaving, staying):
            mark = MARKER if journey is leaving else "neighbour"
            await journey.install(licence=mark)
            await journey.add_contact(f"Ada {mark}", f"ada.{mark}@example.com")
            await journey.add_datasource(
                f"reports {mark}",
                url=f"https://{mark}.example.com/api",
                username=mark,
                credentials=f"secret {mark}",
            )
        session = await leaving.open_session()
        await erasure_request(leaving, session, "POST")
        await until_it_sees(leaving, session, "asked", planned=True)
        await erasure_request(leaving, session, "DELETE")
        await until_it_sees(leaving, session, "none")
        # A secret that was replaced lies beside the present one for a while.
        await leaving.install()
        await plant_where_no_door_leads(world, leaving.tenant_id)
        for person in (MARKER, "neighbour"):
            await leaving.open_ticket(person, f"Ada {person}")

        await the_marker_stands_in_every_column(world, leaving.tenant_id)
        older_copies = await copies_of_sealed_values(world, leaving.tenant_id)
        await what_is_sealed_can_be_read_with_its_keys(world, leaving.tenant_id, older_copies)
        before = await fingerprint(world, staying.tenant_id)

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
        assert await fingerprint(world, staying.tenant_id) == before

        assert await leaving.tickets_naming(MARKER) == []
        assert len(await leaving.tickets_naming("Ada neighbour")) == 1

    await one_trace_leads_from_the_webhook_to_the_last_answer(world, leaving.tenant_id)
    await no_database_holds_the_marker(world)
    await no_topic_holds_the_marker(world, leaving.tenant_id)
    no_log_holds_the_marker(world)
    await no_key_that_is_left_opens_an_older_copy(world, leaving.tenant_id, older_copies)


async def the_marker_stands_in_every_column(world: World, tenant_id: UUID) -> None:
    """A column that is added later is planted too, or this fails."""
    bare = []
    for service, url in world.superuser_urls.items():
        for table in data_map_of(service).tables:
            if table.tenant_column is None or table.data_class == "erasure-proof":
                continue
            rows = await rows_of(url, table, tenant_id)
            for column in await text_columns(url, table.name):
                name = f"{service}.{table.name}.{column}"
                if name in OUR_WORDS or name in SEALED or not rows:
                    continue
                if not any(holds(repr(row[column]).encode()) for row in rows):
                    bare.append(name)
    assert set(bare) == {
        "notifier.contacts.address_index",  # a keyed hash
    }


async def copies_of_sealed_values(world: World, tenant_id: UUID) -> dict[str, Any]:
    """Take what an older dump holds: sealed columns and the wrapped keys beside them."""
    copies: dict[str, Any] = {}
    for name in SEALED:
        service, table, column = name.split(".")
        connection = await asyncpg.connect(world.superuser_urls[service])
        try:
            copies[name] = await connection.fetchval(
                f"SELECT {column} FROM {table} WHERE tenant_id = $1", tenant_id
            )
            copies[service] = await connection.fetchrow(
                "SELECT wrapped_key, kek_id FROM tenant_keys WHERE tenant_id = $1", tenant_id
            )
        finally:
            await connection.close()
    return copies


def opened(world: World, name: str, tenant_id: UUID, copies: Mapping[str, Any]) -> bytes:
    service = name.split(".", maxsplit=1)[0]
    keys = TenantKeys(service, KeyEncryptionKeys.load(world.keys_file(service)))
    wrapped = copies[service]
    plain = keys.unwrapped_key(tenant_id, wrapped["wrapped_key"], wrapped["kek_id"])
    return keys.open_with(plain, tenant_id, SEALED[name], copies[name])


async def what_is_sealed_can_be_read_with_its_keys(
    world: World, tenant_id: UUID, copies: Mapping[str, Any]
) -> None:
    """Without this the last check could not fail."""
    for name in SEALED:
        told = opened(world, name, tenant_id, copies)
        assert told
        assert MARKER.encode() in told or name.endswith("_secret")


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


async def no_database_holds_the_marker(world: World) -> None:
    for service, roles in world.stack.databases.items():
        dump = await asyncio.to_thread(dump_of, roles.backup_url)
        assert b"CREATE TABLE public.tenant_keys" in dump
        assert not holds(dump), f"the marker is left in the database of {service}"


async def no_topic_holds_the_marker(world: World, tenant_id: UUID) -> None:
    await compact_now(world)
    async with asyncio.timeout(90):
        while True:
            for topic in (INSTALLER_TENANTS, PURGER_PURGES):
                await roll_segments(world, topic)
            bus = await everything_on_the_bus(world, INSTALLER_TENANTS)
            if str(tenant_id).encode() not in bus:
                break
            await asyncio.sleep(1)
    for topic in ALL_TOPICS:
        bus = await everything_on_the_bus(world, topic)
        # There purger speaks only when in doubt.
        assert bus or topic is PURGER_CENSUSES, f"{topic.name} was read and is empty"
        assert not holds(bus), topic.name


def no_log_holds_the_marker(world: World) -> None:
    logs = sorted((world.stack.folder / "logs").glob("*.log"))
    services = [log for log in logs if log.stem in SERVICES]
    assert len(services) == len(SERVICES)
    for log in services:
        content = log.read_bytes()
        assert b"doors open" in content
        assert not holds(content), log.name


async def no_key_that_is_left_opens_an_older_copy(
    world: World, tenant_id: UUID, copies: Mapping[str, Any]
) -> None:
    """The month's key-encryption key moves on, survivors are re-wrapped, the old one is destroyed."""
    for service in {name.split(".")[0] for name in SEALED}:
        await move_on(world, service, world.stack.databases[service])
    for name in SEALED:
        with pytest.raises((Undecipherable, KeyDestroyed)):
            opened(world, name, tenant_id, copies)


async def move_on(world: World, service: str, roles: Roles) -> None:
    path = world.keys_file(service)
    content = json.loads(path.read_text())
    old = content["current"]
    content["keys"]["next"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    content["current"] = "next"
    path.write_text(json.dumps(content))
    keys = TenantKeys(service, KeyEncryptionKeys.load(path))
    async with asyncpg.create_pool(roles.worker_url, min_size=1) as pool:
        assert (await keys.rewrap(pool, limit=10)).remaining == 0
    del content["keys"][old]
    path.write_text(json.dumps(content))
