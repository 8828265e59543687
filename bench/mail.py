"""Measures how fast a campaign goes out, against a bare loop that sends ready messages.

Both sides send over as many reused connections to the same sink, a process of its own that only
counts. Ours plans nothing while it counts, and does all the rest: it claims, opens seals, writes,
signs twice, sends and records. The bare loop has one message of the same size in its hands.
"""

import asyncio
import gc
import json
import secrets
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psutil
from aiosmtplib import SMTP
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.figures import Benchmark, Better, Round
from bench.mail_sink import MailCounter, mail_counter
from bench.stack import Stack
from chassis.clock import SystemClock
from chassis.database import Connection, Pool, open_pool
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.unit_of_work import Units
from devstack.postgres import Roles
from services.notifier.clients import MailServer
from services.notifier.context import Context
from services.notifier.data_map import DATA_MAP
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import Pace
from services.notifier.domain.people import ADDRESS, ADDRESS_INDEX, NAME, Recipient, one_form
from services.notifier.jobs.deliveries import Deliveries, Writer
from services.notifier.letters.dkim import Signer
from services.notifier.letters.letter import Envelope, Letter, Stationery

_RECIPIENTS = 6_000
_MANY_RECIPIENTS = 200_000
_ROUNDS = 3
_PEOPLE_OF_A_TENANT = 3
_DOMAINS = 2_000
_ROWS_OF_A_COPY = 10_000
_SENDER = "privacy@vendor.example"
_TEMPLATE = "bench"
_CONTACT = ["tenant_id", "contact_id", "name", "address", "address_index"]
_AUDIENCE = ["tenant_id", "contact_id", "address_index", "roles", "language", "since"]


@dataclass(frozen=True, slots=True)
class Mailing:
    """A notifier's mail job on a database full of people, and who counts what it sends."""

    deliveries: Deliveries
    runtime: Pool
    sink: MailCounter

    async def plan(self, recipients: int) -> UUID:
        """Plan a campaign for so many people, and let nothing else be due."""
        campaign_id = uuid4()
        now = datetime.now(UTC)
        await self.runtime.execute(
            "INSERT INTO campaigns VALUES ($1, 'policy-change', 'sending', $2)", campaign_id, now
        )
        await self.runtime.execute(
            """
            INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id, address_index,
                                    kind, state, planned_at, next_attempt_at)
            SELECT gen_random_uuid(), $1, tenant_id, contact_id, address_index, 'policy-change',
                   'planned', $2, $2
              FROM audience LIMIT $3
            """,
            campaign_id,
            now,
            recipients,
        )
        await self.runtime.execute("ANALYZE deliveries")
        return campaign_id

    async def send(self, campaign_id: UUID) -> float:
        """Send all of a campaign; return the seconds. Raises RuntimeError unless each was sent."""
        before = await self.sink.count()
        planned = await self._count(campaign_id, "planned")
        began = time.perf_counter()
        while await self.deliveries.run():
            pass
        seconds = time.perf_counter() - began
        sent = await self._count(campaign_id, "sent")
        if not planned == sent == await self.sink.count() - before:
            raise RuntimeError(f"of {planned} messages {sent} were sent")
        return seconds

    async def _count(self, campaign_id: UUID, state: str) -> int:
        found = await self.runtime.fetchval(
            "SELECT count(*) FROM deliveries WHERE campaign_id = $1 AND state = $2",
            campaign_id,
            state,
        )
        return int(found)


@asynccontextmanager
async def mailing(stack: Stack, recipients: int, suffix: str) -> AsyncIterator[Mailing]:
    """Fill a database with people, and open all that it takes to write to them."""
    roles = await stack.make_database(DATA_MAP, suffix)
    folder = stack.folder / f"mail{suffix}"
    _write_pages(folder)
    keys = TenantKeys("notifier", KeyEncryptionKeys.load(_key_file(folder)))
    await _fill(roles, keys, recipients)
    pace = Pace()
    async with (
        await open_pool(roles.runtime_url, name="bench") as runtime,
        await open_pool(roles.worker_url, name="bench", max_size=2) as worker,
        mail_counter() as sink,
    ):
        units = Units(
            "notifier", runtime, SystemClock(), Context(keys, "vendor.example", False), lambda: None
        )
        stationery = Stationery(sender=_SENDER, vendor_name="Vendor Ltd.", pages=folder)

        def write(told: str, recipient: Recipient, envelope: Envelope) -> Letter:
            return stationery.letter(_TEMPLATE, {"says": told}, recipient, envelope)

        yield Mailing(
            Deliveries(
                units=units,
                worker=worker,
                server=MailServer("127.0.0.1", sink.port, name="vendor.example"),
                writers={Kind.POLICY_CHANGE: Writer(_what_it_says, write)},
                public_url="https://notifier.vendor.example",
                pace=pace,
                signer=Signer.load(_dkim_file(folder)),
            ),
            runtime,
            sink,
        )


async def measure(stack: Stack) -> list[Round]:
    """Send campaigns and ready messages in turn."""
    measured = []
    async with mailing(stack, _RECIPIENTS, "_mail") as ours:
        await ours.send(await ours.plan(_RECIPIENTS // 4))
        for _ in range(_ROUNDS):
            planned = await ours.plan(_RECIPIENTS)
            gc.collect()
            gc.freeze()
            seconds = await ours.send(planned)
            peer = await _send_bare(ours.sink)
            gc.unfreeze()
            measured.append(Round(ours=_RECIPIENTS / seconds, peer=_RECIPIENTS / peer))
    return measured


async def _send_bare(sink: MailCounter) -> float:
    """Return the seconds in which a bare loop sends as many ready messages of the same size."""
    message = await sink.last_message()
    connections = Pace().connections
    waiting = iter(range(_RECIPIENTS))

    async def work() -> None:
        client = SMTP(hostname="127.0.0.1", port=sink.port, local_hostname="vendor.example")
        await client.connect()
        for number in waiting:
            await client.sendmail(_SENDER, [f"person-{number}@domain.example"], message)
        await client.quit()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(connections):
            workers.create_task(work())
    return time.perf_counter() - began


async def measure_memory(stack: Stack) -> list[Round]:
    """Send to many, and compare the memory of this process at the end with that after a tenth."""
    async with mailing(stack, _MANY_RECIPIENTS, "_many") as ours:
        process = psutil.Process()
        after_a_tenth = highest = 0
        planned = await ours.plan(_MANY_RECIPIENTS)
        sending = asyncio.create_task(ours.send(planned))
        began_with = await ours.sink.count()
        while not sending.done():
            await asyncio.wait({sending}, timeout=1)
            sent = await ours.sink.count() - began_with
            resident = process.memory_info().rss
            if sent >= _MANY_RECIPIENTS // 10:
                after_a_tenth = after_a_tenth or resident
                highest = max(highest, resident)
            sys.stderr.write(f"\rmail-memory: {sent:,} sent, {resident / 2**20:.0f} MB ")
        sys.stderr.write("\n")
        seconds = await sending
    return [
        Round(
            ours=highest / 2**20,
            peer=after_a_tenth / 2**20,
            samples={"messages_per_second": [_MANY_RECIPIENTS / seconds]},
        )
    ]


async def _what_it_says(_: Connection, campaign_id: UUID) -> str:
    return f"Revision {campaign_id}"


async def _fill(roles: Roles, keys: TenantKeys, recipients: int) -> None:
    """Make people by COPY, each tenant's under a key of its own."""
    now = datetime.now(UTC)
    async with await open_pool(roles.owner_url, name="bench", max_size=1) as owner:
        await owner.execute("ALTER TABLE contacts NO FORCE ROW LEVEL SECURITY")
        for first in range(0, recipients, _ROWS_OF_A_COPY):
            numbers = range(first, min(first + _ROWS_OF_A_COPY, recipients))
            await _copy(owner, keys, numbers, now)
        await owner.execute("ALTER TABLE contacts FORCE ROW LEVEL SECURITY")
        await owner.execute("ANALYZE")


async def _copy(owner: Pool, keys: TenantKeys, numbers: Sequence[int], now: datetime) -> None:
    tenants, contacts, audience, tenant_keys = [], [], [], []
    for at in range(0, len(numbers), _PEOPLE_OF_A_TENANT):
        tenant_id, key = uuid4(), None
        new = keys.new_wrapped_key(tenant_id)
        key = new.plain_key
        tenants.append((tenant_id, "com.example.app", "live"))
        tenant_keys.append((tenant_id, new.wrapped, new.kek_id, now))
        for number in numbers[at : at + _PEOPLE_OF_A_TENANT]:
            address = f"person-{number}@domain-{number % _DOMAINS}.example"
            index = keys.blind_index(ADDRESS_INDEX, one_form(address))
            contact_id = uuid4()
            name = keys.seal_with(key, tenant_id, NAME, f"Person {number}".encode())
            sealed = keys.seal_with(key, tenant_id, ADDRESS, address.encode())
            contacts.append((tenant_id, contact_id, name, sealed, index))
            audience.append((tenant_id, contact_id, index, ["technical"], "en", now))
    async with owner.acquire() as connection:
        for table, rows, columns in (
            ("tenants", tenants, ["tenant_id", "addon_key", "contacts"]),
            ("tenant_keys", tenant_keys, ["tenant_id", "wrapped_key", "kek_id", "made_at"]),
            ("contacts", contacts, _CONTACT),
            ("audience", audience, _AUDIENCE),
        ):
            await connection.copy_records_to_table(table, records=rows, columns=columns)


def _key_file(folder: Path) -> Path:
    def key() -> str:
        return urlsafe_b64encode(secrets.token_bytes(32)).decode()

    path = folder / "keks.json"
    told = {"current": "bench", "keys": {"bench": key()}, "blind_index": key()}
    path.write_text(json.dumps(told), "utf-8")
    return path


def _dkim_file(folder: Path) -> Path:
    keys: dict[str, RSAPrivateKey | Ed25519PrivateKey] = {
        "rsa": generate_private_key(public_exponent=65537, key_size=2048),
        "ed25519": Ed25519PrivateKey.generate(),
    }
    told = {
        "domain": "vendor.example",
        "keys": [
            {
                "selector": name,
                "private_key": key.private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                ).decode(),
            }
            for name, key in keys.items()
        ],
    }
    path = folder / "dkim.json"
    path.write_text(json.dumps(told), "utf-8")
    return path


def _write_pages(folder: Path) -> None:
    """A letter of the size of a notice that a policy changes: some 4 KB in both forms."""
    folder.mkdir(parents=True)
    words = "We keep what you entrust to us for as long as we said, and not a day longer. "
    text = (
        "Dear {{ recipient.name }},\n\n{{ says }}\n\n" + f"{words}\n" * 16 + "\n{{ vendor_name }}\n"
    )
    html = (
        "<!doctype html>\n<html><head><style>p { color: #222 } h1 { font-size: 20px }</style></head>"
        "<body><h1>{{ says }}</h1>\n<p>Dear {{ recipient.name }},</p>\n"
        + f"<p>{words}</p>\n" * 16
        + "<p>{{ vendor_name }}</p></body></html>\n"
    )
    (folder / f"{_TEMPLATE}.subject.txt").write_text("Our privacy policy changes", "utf-8")
    (folder / f"{_TEMPLATE}.txt").write_text(text, "utf-8")
    (folder / f"{_TEMPLATE}.html").write_text(html, "utf-8")


BENCHMARK = Benchmark(
    name="mail",
    question="How much of a bare loop's speed is left when each message is written for one person?",
    ours="a campaign, claimed, written, signed twice, recorded",
    peer="a bare aiosmtplib loop of ready messages",
    unit="/s",
    goal=0.50,
    better=Better.HIGHER,
    measure=measure,
)

MEMORY = Benchmark(
    name="mail-memory",
    question="Does the memory stay flat over 200,000 recipients?",
    ours="highest memory while 200,000 messages are sent",
    peer="memory after a tenth of them",
    unit=" MB",
    goal=1.10,
    better=Better.LOWER,
    measure=measure_memory,
)
