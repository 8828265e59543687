"""A migrated notifier with its doors open and a mail server at hand, but no Kafka."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.types import ASGIApp

from chassis.clock import ManualClock
from chassis.database import Connection, Pool, open_pool
from chassis.epochs import ensure_epoch
from chassis.erasure import EraserJob
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.ledger import ledger_handlers
from chassis.service import Resources, Running, build_app, edge_of
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    Receipt,
    ReceiptStage,
    StepProof,
    UnsealedEntry,
    seal,
)
from contracts.purges import DataErased, PurgeStarted
from contracts.tenants import ClassState, TenantState
from devstack.mail import Mail, MailSink
from devstack.postgres import Roles
from services.notifier.app import build, export_links, writers
from services.notifier.clients import MailServer
from services.notifier.context import Context
from services.notifier.data_map import DATA_MAP
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.news import News
from services.notifier.domain.people import ADDRESS, NAME, Recipient, Tenant
from services.notifier.domain.policies import Revision
from services.notifier.domain.receipts import Receipt as WhatItSays
from services.notifier.handlers import (
    attested_by_a_person,
    erase_people,
    note_ledger_entry,
    ready_to_erase,
    remember_tenant,
)
from services.notifier.jobs.deliveries import Deliveries, Writer
from services.notifier.jobs.people import Moves
from services.notifier.letters.letter import Envelope, Letter, Stationery
from services.notifier.letters.news import NewsLetters
from services.notifier.letters.policies import PolicyChanges
from services.notifier.letters.receipts import Receipts
from services.notifier.letters.sheets import Sheets
from services.notifier.settings import NotifierSettings
from services.notifier.store import people, tickets
from services.notifier.store.news import news_of
from services.notifier.store.policies import revision_of
from tests.support.sessions import ISSUER, JWKS_URL

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SENDER = "privacy@vendor.example"
PURGER = "https://purger.vendor.example"
CODE = "Rm9yIHdob2V2ZXIgaGFzIGl0"
CONTACTS_PATH = "/development/contacts"


def settings_for(roles: Roles, folder: Path, **others: Any) -> NotifierSettings:
    """Settings of a notifier that needs no Kafka yet; makes a file of keys."""

    def key() -> str:
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()

    path = folder / "keks.json"
    told = {"current": "2026-11", "keys": {"2026-11": key()}, "blind_index": key()}
    path.write_text(json.dumps(told), "utf-8")
    given: dict[str, Any] = {
        "database_url": roles.runtime_url,
        "worker_database_url": roles.worker_url,
        "eraser_database_url": roles.eraser_url,
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "http_port": 0,
        "public_url": "http://127.0.0.1",
        "key_encryption_keys_file": path,
        "smtp_host": "127.0.0.1",
        "smtp_port": 25,
        "mail_from": SENDER,
        "purger_public_url": PURGER,
        "session_jwks_url": JWKS_URL,
        "session_issuer": ISSUER,
        "vendor_name": "Vendor Ltd.",
        "development": True,
    }
    return NotifierSettings(**(given | others))


def dkim_file(folder: Path) -> Path:
    """A file with a key that signs mail, which every notifier outside development has."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = folder / "dkim.json"
    keys = [{"selector": "e1", "private_key": pem}]
    path.write_text(json.dumps({"domain": "vendor.example", "keys": keys}), "utf-8")
    return path


@dataclass
class Ledger:
    """Seals entries one after another, as purger does."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    number: int = 0
    last_hash: str = GENESIS

    def seal(self, purge_id: UUID, **others: Any) -> LedgerEntry:
        self.number += 1
        unsealed = UnsealedEntry(
            number=self.number,
            at=NOW,
            purge_id=purge_id,
            previous_hash=self.last_hash,
            **others,
        )
        entry = seal(unsealed, self.key, "key")
        self.last_hash = entry.hash
        return entry


def a_receipt(**others: Any) -> Receipt:
    """What the ledger says when wave 1 is done."""
    given: dict[str, Any] = {
        "stage": ReceiptStage.ERASED,
        "receipt_code": CODE,
        "steps": (
            a_step("erase-installer", "installer", {DataClass.INSTALLATION: 1}),
            a_step("erase-config", "config", {DataClass.CONTENT: 12, DataClass.ERRORS: 0}),
            a_step("erase-notifier", "notifier", {DataClass.TICKETS: 0}),
        ),
        "deadline": datetime(2027, 4, 1, tzinfo=UTC),
        "erase_by": datetime(2027, 3, 18, tzinfo=UTC),
    }
    return Receipt(**(given | others))


def a_step(step: str, owner: str, counts: dict[DataClass, int], **others: Any) -> StepProof:
    given = {"step": step, "owner": owner, "counts": counts, "erased_at": NOW, "open": False}
    return StepProof(**(given | others))


@dataclass(frozen=True)
class Purge:
    """One tenant's purge, with the orders that purger gives notifier."""

    tenant_id: UUID
    purge_id: UUID = field(default_factory=uuid4)

    def wave_1(self, merged_into: UUID | None = None) -> PurgeStarted:
        return PurgeStarted(
            purge_id=self.purge_id,
            step="erase-notifier",
            wave=1,
            tenant_id=self.tenant_id,
            owner="notifier",
            classes=(DataClass.TICKETS,),
            ledger_number=1,
            merged_into=merged_into,
        )

    def wave_2(self, merged_into: UUID | None = None) -> PurgeStarted:
        return PurgeStarted(
            purge_id=self.purge_id,
            step="erase-contacts",
            wave=2,
            tenant_id=self.tenant_id,
            owner="notifier",
            classes=(DataClass.CONTACTS,),
            ledger_number=3,
            receipt_code=CODE,
            merged_into=merged_into,
        )


@dataclass(frozen=True)
class Notifier:
    """All of notifier, with a clock that stands still and a mail server that keeps everything."""

    roles: Roles
    runtime: Pool
    worker: Pool
    eraser: Pool
    clock: ManualClock
    keys: TenantKeys
    units: Units[Context]
    app: ASGIApp
    sink: MailSink
    mail: Deliveries
    ledger: Ledger

    async def move_people(self) -> int:
        """Run the job that moves people once."""
        return await Moves(self.units, self.worker).run()

    def eraser_job(self) -> EraserJob[Context]:
        return EraserJob(
            units=self.units,
            worker=self.worker,
            eraser=self.eraser,
            data_map=DATA_MAP,
            key_class=DataClass.CONTACTS,
            ready=ready_to_erase,
            attested=attested_by_a_person,
        )

    async def erase(self) -> int:
        """Let the eraser run once those that had to wait have rested."""
        self.clock.advance(timedelta(seconds=3))
        return await self.eraser_job().run()

    @property
    def mails(self) -> list[Mail]:
        return self.sink.mailbox.messages()

    async def tenant(self, *addresses: str, contacts: ClassState = ClassState.LIVE) -> UUID:
        """Know of a new tenant with these people, and without a licence."""
        tenant_id = uuid4()
        await self.know(Tenant(tenant_id, "com.example.app", contacts))
        async with self.units.begin() as uow:
            await tickets.remember_licences(uow.connection, tenant_id, [])
        for address in addresses:
            answer = await self.post(tenant_id=str(tenant_id), name="Ada Ex", address=address)
            assert answer.status_code == 201, answer.text
        return tenant_id

    async def know(self, tenant: Tenant) -> None:
        async with self.units.begin() as uow:
            await people.remember_tenant(uow.connection, tenant)

    async def post(self, **told: Any) -> httpx2.Response:
        async with self.client() as client:
            return await client.post(CONTACTS_PATH, json=told)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://n.test") as client:
            yield client

    async def obey(self, command: PurgeStarted) -> None:
        async with self.units.begin() as uow:
            await erase_people(command, uow)

    async def read(self, entry: LedgerEntry) -> None:
        """Read an entry as the chassis does, acceptance included."""
        steps = {DataClass.TICKETS: "erase-notifier", DataClass.CONTACTS: "erase-contacts"}
        registry = ledger_handlers("notifier", steps, note_ledger_entry)
        async with self.units.begin() as uow:
            await registry.by_model[LedgerEntry].function(entry, uow)

    async def read_receipt(self, purge: Purge, **others: Any) -> None:
        await self.read(
            self.ledger.seal(
                purge.purge_id, kind=EntryKind.RECEIPT, classes=(), receipt=a_receipt(**others)
            )
        )

    async def read_wave_1(self, purge: Purge, merged_into: UUID | None = None) -> None:
        await self.read(
            self.ledger.seal(
                purge.purge_id,
                kind=EntryKind.TENANT_ERASED,
                tenant_id=purge.tenant_id,
                classes=(DataClass.INSTALLATION, DataClass.TICKETS),
                merged_into=merged_into,
            )
        )

    async def read_wave_2(self, purge: Purge, merged_into: UUID | None = None) -> None:
        await self.read(
            self.ledger.seal(
                purge.purge_id,
                kind=EntryKind.TENANT_ERASED,
                tenant_id=purge.tenant_id,
                classes=(DataClass.CONTACTS,),
                receipt_code=CODE,
                merged_into=merged_into,
            )
        )

    async def start_wave_2(self, tenant_id: UUID) -> Purge:
        """Bring a tenant's purge to where its people are to be told."""
        purge = Purge(tenant_id)
        await self.read_receipt(purge)
        await self.obey(purge.wave_2())
        return purge

    async def erasures_of_tickets(self) -> list[dict[str, Any]]:
        """What is known of erasures of tickets, the first one first."""
        rows = await self.worker.fetch("SELECT * FROM ticket_erasures ORDER BY opened_at, purge_id")
        return [dict(row) for row in rows]

    async def hear(self, tenant: TenantState) -> UUID:
        """Hear of a tenant's state, as long as the guard lets it through."""
        async with self.units.begin() as uow:
            await uow.lock_tenants([tenant.tenant_id])
            await remember_tenant(tenant, uow)
        return tenant.tenant_id

    async def deliveries(self, campaign: Purge | UUID) -> list[dict[str, Any]]:
        rows = await self.worker.fetch(
            "SELECT * FROM deliveries WHERE campaign_id = $1 ORDER BY delivery_id",
            campaign.purge_id if isinstance(campaign, Purge) else campaign,
        )
        return [dict(row) for row in rows]

    async def states(self, campaign: Purge | UUID) -> list[str]:
        return [row["state"] for row in await self.deliveries(campaign)]

    async def plan(self, kind: Kind, *tenants: UUID) -> UUID:
        """Plan a campaign to everybody of these tenants, each once, and let it go out."""
        campaign_id = uuid4()
        await self.worker.execute(
            "INSERT INTO campaigns VALUES ($1, $2, 'sending', $3)", campaign_id, kind, NOW
        )
        await self.worker.execute(
            """
            INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id, address_index,
                                    kind, state, planned_at, next_attempt_at)
            SELECT gen_random_uuid(), $1, tenant_id, contact_id, address_index, $2, 'planned',
                   $3, $3
              FROM audience
             WHERE tenant_id = ANY($4::uuid[])
             ORDER BY array_position($4, tenant_id)
            ON CONFLICT DO NOTHING
            """,
            campaign_id,
            kind,
            NOW,
            tenants,
        )
        return campaign_id

    async def contacts(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """A tenant's contacts, by a role that sees all."""
        rows = await self.eraser.fetch(
            "SELECT * FROM contacts WHERE tenant_id = $1 ORDER BY contact_id", tenant_id
        )
        return [dict(row) for row in rows]

    async def people(self, tenant_id: UUID) -> list[tuple[str, str]]:
        """Names and addresses of a tenant's contacts, by the tenant's own key."""
        async with self.runtime.acquire() as connection:
            return sorted(
                [
                    (
                        (await self.keys.open(connection, tenant_id, NAME, row["name"])).decode(),
                        (
                            await self.keys.open(connection, tenant_id, ADDRESS, row["address"])
                        ).decode(),
                    )
                    for row in await self.contacts(tenant_id)
                ]
            )

    async def answers(self, tenant_id: UUID) -> list[DataErased]:
        rows = await self.worker.fetch(
            "SELECT payload FROM outbox WHERE tenant_id = $1 ORDER BY position", tenant_id
        )
        return [DataErased.decode(row["payload"]) for row in rows]

    async def everything(self) -> str:
        """Every value of every declared table, as text, by the role of backups."""
        found = []
        async with await open_pool(self.roles.backup_url, name="backup") as backup:
            for table in DATA_MAP.all_tables:
                rows = await backup.fetch(f'SELECT * FROM "{table.name}"')
                found += [str(value) for row in rows for value in row.values()]
        return "\n".join(found)


async def _what_is_told(connection: Connection, campaign_id: UUID) -> Revision | News | Receipt:
    revision = await revision_of(connection, campaign_id)
    return revision or await news_of(connection, campaign_id) or a_receipt()


def _writer(settings: NotifierSettings) -> Writer[Revision | News | Receipt]:
    """Write a campaign of which nothing is there as a receipt; what it says is not the subject then."""
    stationery = Stationery(sender=settings.mail_from, vendor_name=settings.vendor_name)
    sheets = Sheets(
        vendor_name=settings.vendor_name,
        address=settings.mail_from,
        data_location="here",
        privacy_policy_url=None,
        your_data_url=None,
    )
    receipts = Receipts(stationery, sheets, PURGER)
    changes = PolicyChanges(stationery, sheets, settings.public_url)
    news = NewsLetters(stationery, sheets)

    def write(told: Revision | News | Receipt, recipient: Recipient, envelope: Envelope) -> Letter:
        match told:
            case Revision():
                return changes.write(told, recipient, envelope)
            case News():
                return news.write(told, recipient, envelope)
            case _:
                return receipts.write(WhatItSays(CODE, told.steps), recipient, envelope)

    return Writer(_what_is_told, write)


@asynccontextmanager
async def notifier_of(
    roles: Roles, folder: Path, sink: MailSink, **others: Any
) -> AsyncIterator[Notifier]:
    """Open a migrated database, and put a notifier on it."""
    clock = ManualClock(NOW)
    settings = settings_for(roles, folder, smtp_port=sink.smtp_port, **others)
    service = build(settings)
    async with (
        await open_pool(roles.runtime_url, name="runtime") as runtime,
        await open_pool(roles.worker_url, name="worker") as worker,
        await open_pool(roles.eraser_url, name="eraser") as eraser,
    ):
        async with worker.acquire() as connection:
            await ensure_epoch(connection, wall=NOW)
        assert settings.key_encryption_keys_file is not None
        keys = TenantKeys("notifier", KeyEncryptionKeys.load(settings.key_encryption_keys_file))
        context = Context(keys, "vendor.example", has_desk=True)
        units = Units("notifier", runtime, clock, context, lambda: None)
        resources = Resources(settings, clock, service.metrics, runtime, worker, "cluster", keys)
        doors = asyncio.Event()
        doors.set()
        app = build_app(service, doors)
        app.state.running = Running(resources, units, context, lambda _: None)
        mail = Deliveries(
            units=units,
            worker=worker,
            server=MailServer("127.0.0.1", sink.smtp_port, name="vendor.example"),
            writers={
                **writers(settings, export_links(settings)),
                Kind.POLICY_CHANGE: _writer(settings),
                Kind.PRODUCT_UPDATE: _writer(settings),
            },
            public_url=settings.public_url,
        )
        edge = edge_of(service, app, doors)
        yield Notifier(
            roles, runtime, worker, eraser, clock, keys, units, edge, sink, mail, Ledger()
        )
