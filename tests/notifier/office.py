"""The job that reads people, on a notifier and on a Marketplace of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
from prometheus_client import CollectorRegistry

from chassis.egress import Egress
from connect.marketplace import ReportSource
from connect.service_desk import plain_number
from devstack.atlassian import Atlassian, create_app
from devstack.atlassian.marketplace import ACCOUNT, DEVELOPER_ID, TOKEN, Faults, Marketplace
from services.notifier.jobs.contacts import ContactJobs, PeopleFigures
from services.notifier.store import contacts, tickets
from tests.connect.serving import serving
from tests.notifier.builders import Notifier

APP = "com.example.app"


def a_person(who: str, **others: Any) -> dict[str, Any]:
    """A person as the report has them, with what we do not keep."""
    told = {"name": f"{who.title()} Ex", "email": f"{who}@c.example", "phone": "+1 555 0100"}
    return {**told, "address1": "1 Secret Street", **others}


def a_row(number: str, *people: str, country: str = "France", **changed: Any) -> dict[str, Any]:
    """A row that names a technical, a billing and a partner contact, as far as given."""
    named = [a_person(name) for name in people] + [None] * 3
    return {
        "addonLicenseId": number,
        "addonKey": APP,
        "hosting": "Cloud",
        "lastUpdated": "2026-12-31",
        "status": "active",
        "contactDetails": {
            "company": "Customer",
            "country": country,
            "region": "EMEA",
            "technicalContact": named[0],
            "billingContact": named[1],
        },
        "partnerDetails": {"partnerName": "Partner", "billingContact": named[2]},
        "parentProductName": "Jira",
        "parentProductEdition": "Premium",
    } | changed


@dataclass(frozen=True)
class Office:
    """The job, what it reads, and whom notifier knows then."""

    notifier: Notifier
    jobs: ContactJobs
    source: ReportSource
    marketplace: Marketplace
    registry: CollectorRegistry

    async def read(self) -> int | None:
        return await self.jobs.read_report(self.source)

    def holds(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            self.marketplace.put(row)

    def has(self, **faults: Any) -> None:
        self.marketplace.faults = Faults(**faults)

    async def tenant(self, *numbers: str) -> UUID:
        """Know of a tenant with these licences, and of nobody of it."""
        tenant_id = await self.notifier.tenant()
        await self.licences(tenant_id, *numbers)
        return tenant_id

    async def licences(self, tenant_id: UUID, *numbers: str) -> None:
        async with self.notifier.units.begin() as uow:
            plain = sorted(map(plain_number, numbers))
            await tickets.remember_licences(uow.connection, tenant_id, plain)
            await contacts.note_licences_changed(uow.connection, tenant_id, now=uow.now)

    async def addresses(self, tenant_id: UUID) -> list[str]:
        return [address for _, address in await self.notifier.people(tenant_id)]

    async def audience(self, tenant_id: UUID) -> list[tuple[list[str], str]]:
        """Roles and language of a tenant's contacts, in the order of their addresses."""
        rows = await self.notifier.worker.fetch(
            "SELECT contact_id, roles, language FROM audience WHERE tenant_id = $1", tenant_id
        )
        by_id = {row["contact_id"]: (list(row["roles"]), row["language"]) for row in rows}
        return [by_id[row["contact_id"]] for row in await self.notifier.contacts(tenant_id)]

    def figure(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"keepword_{name}", labels)


async def never_sleep(_: float) -> None:
    """Go on at once."""


@asynccontextmanager
async def open_office(notifier: Notifier, folder: Path) -> AsyncIterator[Office]:
    token_file = folder / "token"
    token_file.write_text(f"{TOKEN}\n", "utf-8")
    registry = CollectorRegistry()
    async with httpx2.AsyncClient() as http:
        atlassian = Atlassian(http)
        async with serving(create_app(atlassian, "http://127.0.0.1:1", [APP])) as url:
            source = ReportSource(
                url, DEVELOPER_ID, ACCOUNT, token_file, Egress.to(url).client, never_sleep
            )
            jobs = ContactJobs(notifier.units, source, PeopleFigures(registry))
            yield Office(notifier, jobs, source, atlassian.marketplace, registry)
