"""A canary: a marker planted in everything of one tenant, and looked for wherever a stack keeps something."""

import secrets
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.data_map import Table
from chassis.keys import KeyDestroyed, KeyEncryptionKeys, TenantKeys, Undecipherable
from contracts.classes import DataClass
from contracts.topics import (
    ALL_TOPICS,
    CONFIG_ERASURES,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    NOTIFIER_ERASURES,
    PURGER_COMMANDS,
    PURGER_LEDGER,
    PURGER_PURGES,
    SERVICES,
    Topic,
)
from devstack.atlassian import Site
from devstack.journey import Journey, data_map_of
from devstack.key_files import begin_next_key, destroy_former_keys
from devstack.postgres import Roles, dump
from devstack.stack import LocalStack

OUR_WORDS: Final[Mapping[str, str]] = {
    "config.tenants.content": "a state",
    "config.tenants.platform": "a state",
    "config.tenants.status": "a state",
    "config.access_reasons.salt": "made up by us",
    "config.looks.kind": "one of four",
    "config.things.kind": "one of four",
    "config.thing_references.field": "one of three",
    "config.export_tickets.ticket": "a keyed hash",
    "config.idempotency_keys.key": "a keyed hash",
    "config.idempotency_keys.fingerprint": "a keyed hash",
    "config.error_apps.app": "the vendor's own app",
    "config.error_counts.browser": "a family of a closed list",
    "config.error_counts.fingerprint": "a hash",
    "config.error_counts.os": "a family of a closed list",
    "config.error_events.browser": "a family of a closed list",
    "config.error_events.fingerprint": "a hash",
    "config.error_events.level": "one of a few",
    "config.error_events.os": "a family of a closed list",
    "config.error_events.tracking": "a keyed hash",
    "config.error_groups.app": "the vendor's own app",
    "config.error_groups.fingerprint": "a hash",
    "config.usage_counts.app": "the vendor's own app",
    "config.usage_counts.feature": "one of a list",
    "config.usage_counts.size": "one of six",
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
    "notifier.contacts.address_index": "a keyed hash",
    "notifier.audience.address_index": "a keyed hash",
    "notifier.audience.language": "one of two",
    "notifier.audience.roles": "one or more of three",
    "notifier.deliveries.address_index": "a keyed hash",
    "notifier.deliveries.kind": "one of a list",
    "notifier.deliveries.state": "a state",
    "notifier.licence_contacts.role": "one of three",
    "notifier.receipt_addresses.address_index": "a keyed hash",
    "notifier.receipt_addresses.language": "one of two",
    "notifier.lifecycles.platform": "one of three",
    "notifier.lifecycles.withdrawn": "ids of ours",
    "notifier.notices.event": "one of a list",
    "notifier.notices.facts": "dates, classes, and one of a list",
    "notifier.notices.subject": "an id of ours",
}
"""Columns that hold words of ours, and never anything that somebody wrote."""

SEALED: Final[Mapping[str, str]] = {
    "installer.installations.shared_secret": "shared-secret",
    "installer.installations.replaced_secret": "shared-secret",
    "config.things.credentials": "datasource.credentials",
    "notifier.contacts.name": "contact.name",
    "notifier.contacts.address": "contact.address",
}
"""Sealed columns with their purposes: there the marker can be found only by who has the keys."""

FOLLOWED: Final = (INSTALLER_TENANTS, PURGER_PURGES)
"""The compacted topics."""

PROOFS: Final = (
    PURGER_COMMANDS,
    PURGER_LEDGER,
    INSTALLER_ERASURES,
    CONFIG_ERASURES,
    NOTIFIER_ERASURES,
)
"""The topics on which a purge is spoken of."""

PLANTED_IN: Final = frozenset(
    {
        *(f"dump of {service}" for service in SERVICES),
        *(f"table {service}.dead_letters" for service in SERVICES),
        *(f"table {service}.dead_letter_versions" for service in SERVICES),
        *(
            f"table installer.{table}"
            for table in ("tenants", "installations", "aliases", "access_checks", "links", "outbox")
        ),
        "table installer.licences",
        "table config.things",
        "table config.thing_versions",
        "table config.access_reasons",
        "table config.looks",
        *(f"table config.error_{table}" for table in ("groups", "counts", "events")),
        "table notifier.licences",
        "table notifier.licence_contacts",
        "table notifier.tenants",
        f"topic {INSTALLER_TENANTS.name}",
    }
)
"""Where a search finds the marker before the purge; what is sealed is not among it."""

PROOF_IN: Final = frozenset(
    {
        *(f"dump of {service}" for service in SERVICES),
        *(f"log of {service}" for service in SERVICES),
        *(f"topic {topic.name}" for topic in PROOFS),
    }
)
"""Where a search finds the id of the purge when it is over: logs too, which never name anybody."""

_PROMPT: Final = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
}
_TEXTS: Final = ["text", "character varying", "jsonb", "json", "bytea", "ARRAY"]
_READ_MS: Final = 200


@dataclass(frozen=True, slots=True)
class Canary:
    """A marker, and every form in which it can lie somewhere."""

    marker: str
    forms: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, marker: str, *others: str) -> "Canary":
        """Look for these texts: plain, and as encodings write them."""
        return cls(
            marker, tuple(sorted({form for each in (marker, *others) for form in _of(each)}))
        )

    @classmethod
    def hatch(cls) -> "Canary":
        """Make up a marker that nothing else holds, and look for the site that is named by it too."""
        marker = f"canary{secrets.token_hex(8)}"
        # Licence numbers are in capitals. Atlassian makes up the client key.
        return cls.of(marker, marker.upper(), Site.named(_site(marker)).client_key)

    @property
    def site(self) -> str:
        """The name of a site whose tenant it is planted in."""
        return _site(self.marker)

    def is_in(self, haystack: bytes) -> bool:
        """Whether it is there, in whatever form."""
        return any(form in haystack for form in self.forms)


def _site(marker: str) -> str:
    return f"{marker}-leaving"


def _of(text: str) -> Iterable[bytes]:
    plain = text.encode()
    yield plain
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for shift in range(3):  # base64 depends on where in its neighbourhood the text begins
        for encode in (b64encode, urlsafe_b64encode):
            inner = encode(b"\0" * shift + plain)
            yield inner[4 if shift else 0 : len(inner) - 4]


# -- planting ----------------------------------------------------------------------------------


async def entrust(journey: Journey, mark: str) -> None:
    """Let a customer install and give all that customers give, each with the mark in it."""
    await journey.install(licence=mark)
    await journey.add_contact(f"Ada {mark}", f"ada.{mark}@example.com")
    await journey.add_datasource(
        f"reports {mark}",
        url=f"https://{mark}.example.com/api",
        username=mark,
        credentials=f"secret {mark}",
    )
    await journey.report_error(mark)


async def plant(
    superuser_urls: Mapping[str, str], tenant_id: UUID, canary: Canary, *, at: datetime
) -> None:
    """Plant it where no door leads: what is learnt of a tenant later, and a failure everywhere.

    The tenant is installed, with one datasource. ``at`` is when the failures were.
    """
    for service, url in superuser_urls.items():
        async with _connected(url) as connection:
            for statement in _PLANTED.get(service, ()):
                done = await connection.execute(statement, tenant_id, canary.marker)
                if done not in {"UPDATE 1", "INSERT 0 1"}:
                    raise RuntimeError(f"{service}: nothing was planted by {statement}")
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
                canary.marker,
                canary.marker.encode(),
                at,
            )
            await connection.execute(
                "INSERT INTO dead_letter_versions SELECT dead_letter_id, 2, tenant_id, $2, $3"
                " FROM dead_letters WHERE tenant_id = $1",
                tenant_id,
                canary.marker.encode(),
                at,
            )


_PLANTED: Final = {
    "installer": (
        (
            "UPDATE installations SET oauth_client_id = $2, service_entitlement_number = $2,"
            " entitlement_id = $2, entitlement_number = $2 WHERE tenant_id = $1"
        ),
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
    ),
    "config": (
        "UPDATE things SET tags = ARRAY[$2::text] WHERE tenant_id = $1",
        (
            "INSERT INTO thing_versions SELECT tenant_id, thing_id, 0, $2::text, ARRAY[$2],"
            " jsonb_build_object($2, $2), created_at FROM things WHERE tenant_id = $1"
        ),
        (
            "INSERT INTO access_reasons SELECT tenant_id, thing_id, 'salt', $2::text, $2, created_at"
            " FROM things WHERE tenant_id = $1"
        ),
        (
            "INSERT INTO looks SELECT tenant_id, gen_random_uuid(), thing_id, created_at, kind,"
            " thing_id, $2::text FROM things WHERE tenant_id = $1"
        ),
    ),
    "notifier": (
        "UPDATE tenants SET product = $2::text, edition = $2, region = $2 WHERE tenant_id = $1",
        (
            "INSERT INTO licence_contacts SELECT tenant_id, $2::text, 'technical', contact_id,"
            " gen_random_uuid() FROM audience WHERE tenant_id = $1"
        ),
    ),
}


async def bare_columns(databases: Mapping[str, Roles], tenant_id: UUID, canary: Canary) -> set[str]:
    """List the columns that can hold what somebody wrote and hold no marker: none may be left out.

    Of tables of which the tenant has rows; what is sealed is looked at by `SealedCopies`.
    """
    bare = set()
    for service, roles in databases.items():
        async with _connected(roles.backup_url) as connection:
            for table in data_map_of(service).tables:
                if table.tenant_column is None or table.data_class is DataClass.ERASURE_PROOF:
                    continue
                rows = await connection.fetch(
                    f"SELECT * FROM {table.name} WHERE {table.tenant_column} = $1",  # noqa: S608 - names come from the data map
                    tenant_id,
                )
                bare |= {
                    f"{service}.{table.name}.{column}"
                    for column in await _text_columns(connection, table)
                    if rows and not any(canary.is_in(repr(row[column]).encode()) for row in rows)
                }
    return bare - OUR_WORDS.keys() - SEALED.keys()


async def _text_columns(
    connection: "asyncpg.Connection[asyncpg.Record]", table: Table
) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name = $1 AND data_type = ANY($2::text[])
        """,
        table.name,
        _TEXTS,
    )
    return [row["column_name"] for row in rows]


# -- searching ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """How often it was found in which place, how much lies there, and how much was searched."""

    hits: Counter[str] = field(default_factory=Counter)
    pieces: Counter[str] = field(default_factory=Counter)
    searched: Counter[str] = field(default_factory=Counter)

    def look(self, canary: Canary, place: str, what: str, pieces: Iterable[bytes]) -> None:
        """Search the pieces of a place, which are counted as ``what``."""
        for piece in pieces:
            self.hits[place] += canary.is_in(piece)
            self.pieces[place] += 1
            self.searched[what] += 1

    @property
    def places(self) -> set[str]:
        """Where it was found."""
        return {place for place, hits in self.hits.items() if hits}


async def search(stack: LocalStack, canary: Canary) -> Found:
    """Search every table, a dump of every database, every topic and every service's log."""
    found = Found()
    for service, roles in stack.databases.items():
        await _search_tables(found, canary, service, roles)
        plain = await dump(roles.backup_url, plain=True)
        found.look(canary, f"dump of {service}", "dump lines", plain.splitlines())
        found.searched["dump bytes"] += len(plain)
        log = stack.log_of(service).read_bytes()
        found.look(canary, f"log of {service}", "log lines", log.splitlines())
    for topic in ALL_TOPICS:
        found.look(canary, f"topic {topic.name}", "records", await _records(stack, topic))
        found.searched["topics"] += 1
    return found


async def _search_tables(found: Found, canary: Canary, service: str, roles: Roles) -> None:
    async with _connected(roles.backup_url) as connection:
        for table in data_map_of(service).all_tables:
            rows = await connection.fetch(f'SELECT r::text AS row FROM "{table.name}" AS r')  # noqa: S608 - names come from the data map
            place = f"table {service}.{table.name}"
            found.look(canary, place, "rows", (row["row"].encode() for row in rows))
            found.searched["tables"] += 1


async def _records(stack: LocalStack, topic: Topic) -> list[bytes]:
    """Read all that a topic holds now: keys, headers and values."""
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(**stack.kafka_options, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        for partition, offset in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(partition, offset)
        ends = await consumer.end_offsets(partitions)
        records: list[bytes] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for batch in (await consumer.getmany(timeout_ms=_READ_MS)).values():
                records += [_bytes_of(record) for record in batch]
        return records
    finally:
        await consumer.stop()


def _bytes_of(record: Any) -> bytes:
    headers = [part for name, value in record.headers for part in (name.encode(), value or b"")]
    return b"\n".join([record.key or b"", record.value or b"", *headers])


async def compact_now(stack: LocalStack) -> None:
    """Let the broker's own cleaner do at once what it does in days."""
    admin = AIOKafkaAdminClient(**stack.kafka_options)
    await admin.start()
    try:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=_PROMPT)
                for topic in FOLLOWED
            ]
        )
    finally:
        await admin.close()


async def is_compacted(stack: LocalStack, tenant_id: UUID) -> bool:
    """Whether no state of a tenant is left on the compacted topics; call it until it is so.

    A segment is closed, and so cleaned, only when something is appended: that is done here.
    """
    producer = AIOKafkaProducer(**stack.kafka_options)
    await producer.start()
    try:
        for topic in FOLLOWED:
            for partition in range(topic.partitions):
                await producer.send_and_wait(
                    topic.name, None, key=str(uuid4()).encode(), partition=partition
                )
    finally:
        await producer.stop()
    tenant = str(tenant_id).encode()
    for topic in FOLLOWED:
        if any(tenant in record for record in await _records(stack, topic)):
            return False
    return True


# -- what is sealed ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealedCopies:
    """A tenant's sealed values and wrapped keys, as an older dump holds them."""

    stack: LocalStack
    tenant_id: UUID
    values: Mapping[str, bytes] = field(repr=False)
    keys: Mapping[str, tuple[bytes, str]] = field(repr=False)

    @classmethod
    async def of(cls, stack: LocalStack, tenant_id: UUID) -> "SealedCopies":
        """Take them, while they are there."""
        values, keys = {}, {}
        for name in SEALED:
            service, table, column = name.split(".")
            async with _connected(stack.databases[service].backup_url) as connection:
                values[name] = await connection.fetchval(
                    f"SELECT {column} FROM {table} WHERE tenant_id = $1",  # noqa: S608 - made of constants
                    tenant_id,
                )
                key = await connection.fetchrow(
                    "SELECT wrapped_key, kek_id FROM tenant_keys WHERE tenant_id = $1", tenant_id
                )
                assert key is not None
                keys[service] = (key["wrapped_key"], key["kek_id"])
        return cls(stack, tenant_id, values, keys)

    def readable(self) -> dict[str, bytes]:
        """Open what the keys that the services still have can open."""
        opened = {}
        for name, value in self.values.items():
            service = name.split(".", maxsplit=1)[0]
            keys = TenantKeys(service, KeyEncryptionKeys.load(_keys_file(self.stack, service)))
            try:
                plain_key = keys.unwrapped_key(self.tenant_id, *self.keys[service])
                opened[name] = keys.open_with(plain_key, self.tenant_id, SEALED[name], value)
            except (KeyDestroyed, Undecipherable):
                continue
        return opened

    async def outlive(self) -> None:
        """Let the months pass: survivors are wrapped anew, and the old key-encryption key goes."""
        for service in self.keys:
            await _move_on(_keys_file(self.stack, service), service, self.stack.databases[service])


async def _move_on(path: Path, service: str, roles: Roles) -> None:
    begin_next_key(path)
    keys = TenantKeys(service, KeyEncryptionKeys.load(path))
    async with asyncpg.create_pool(roles.worker_url, min_size=1) as pool:
        if (left := (await keys.rewrap(pool, limit=10)).remaining) != 0:
            raise RuntimeError(f"{left} keys of {service} were not wrapped anew")
    destroy_former_keys(path)


def _keys_file(stack: LocalStack, service: str) -> Path:
    return stack.folder / "keys" / f"{service}.json"


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
