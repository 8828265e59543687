"""Licences, installations and a Marketplace for tests of licences."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
from prometheus_client import CollectorRegistry

from chassis.egress import Egress
from chassis.unit_of_work import Units
from connect.marketplace import ReportSource
from contracts.tenants import TenantState
from devstack.atlassian import Atlassian, create_app
from devstack.atlassian.marketplace import ACCOUNT, DEVELOPER_ID, TOKEN, Faults, Marketplace
from services.installer.domain.licences import Licence, LicenceName
from services.installer.domain.tenants import Installation
from services.installer.door import Door, hear_installed
from services.installer.jobs.licences import LicenceFigures, LicenceJobs
from services.installer.store import licences as store
from services.installer.subscriptions import join_licences
from tests.installer.conftest import APP, OTHER_APP, Database, serving

ENTITLEMENT = "5f0f0d8e-0000-4000-8000-000000000001"


def a_licence(number: str = "100200", **changed: Any) -> Licence:
    """An active cloud licence that leads to no tenant by itself."""
    licence = Licence(
        name=LicenceName(APP, number),
        sen=None,
        entitlement_id=None,
        entitlement_number=None,
        hosting="cloud",
        status="active",
        licence_type="COMMERCIAL",
        ends_on=None,
        cloud_id=None,
        site_host=None,
        last_updated=date(2026, 11, 1),
    )
    return replace(licence, **changed)


def a_row(number: str = "100200", **changed: Any) -> dict[str, Any]:
    """A row of the report, with the people that it names."""
    person = {"email": "person@customer.example", "name": "A Person"}
    return {
        "addonLicenseId": number,
        "addonKey": APP,
        "hosting": "Cloud",
        "lastUpdated": "2026-11-01",
        "licenseType": "COMMERCIAL",
        "status": "active",
        "contactDetails": {"company": "Customer", "technicalContact": person},
    } | changed


async def install(units: Units[Door], database: Database, client_key: str, **changed: Any) -> UUID:
    """Install a site; return its tenant."""
    await hear_installed(
        units,
        Installation(
            addon_key=APP,
            product_type="jira",
            client_key=client_key,
            base_url=f"https://{client_key}.atlassian.net",
            service_entitlement_number=changed.get("sen"),
            shared_secret="ATCOone",
            oauth_client_id=None,
            entitlement_id=changed.get("entitlement_id"),
            entitlement_number=changed.get("entitlement_number"),
        ),
    )
    return (await database.tenants(client_key))[-1]


@dataclass(frozen=True)
class Office:
    """The licence jobs on a database, and the Marketplace that they read."""

    jobs: LicenceJobs
    source: ReportSource
    marketplace: Marketplace
    database: Database
    registry: CollectorRegistry

    async def read(self) -> int | None:
        return await self.jobs.read_report(self.source)

    def holds(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            self.marketplace.put(row)

    def has(self, **faults: Any) -> None:
        self.marketplace.faults = Faults(**faults)

    async def take_up(self, *licences: Licence) -> None:
        """Store and join licences as a report would."""
        units = self.jobs.units
        async with units.begin() as uow:
            await store.save_licences(
                uow.connection, licences, now=uow.now, last_day_past=date(2000, 1, 1)
            )
        async with units.begin() as uow:
            await join_licences(uow, [each.name for each in licences])

    async def whose(self, number: str = "100200") -> tuple[UUID | None, str | None, bool]:
        row = await self.database.owner.fetchrow(
            "SELECT tenant_id, matched_by, weak FROM licences WHERE number = $1", number
        )
        assert row is not None
        return tuple(row)

    async def numbers(self) -> list[str]:
        rows = await self.database.owner.fetch("SELECT number FROM licences ORDER BY number")
        return [row["number"] for row in rows]

    async def state(self, tenant_id: UUID) -> TenantState:
        """What was said last of a tenant's state."""
        said = [each.message for each in await self.database.said(tenant_id)]
        return [message for message in said if isinstance(message, TenantState)][-1]

    async def types(self, tenant_id: UUID) -> list[str]:
        return [said.type for said in await self.database.said(tenant_id)]

    async def report(self) -> dict[str, Any]:
        row = await self.database.owner.fetchrow(
            "SELECT * FROM licence_reports ORDER BY began_at DESC, report_id DESC LIMIT 1"
        )
        assert row is not None
        return dict(row)

    async def tenant_named(self, number: str = "100200") -> UUID:
        tenant_id = (await self.whose(number))[0]
        assert tenant_id is not None
        return tenant_id


async def never_sleep(_: float) -> None:
    """Go on at once."""


@asynccontextmanager
async def open_office(
    database: Database, units: Units[Door], http: httpx2.AsyncClient, folder: Path
) -> AsyncIterator[Office]:
    """Put the jobs on a database and on a Marketplace of its own."""
    atlassian = Atlassian(http)
    token_file = folder / "token"
    token_file.write_text(f"{TOKEN}\n", "utf-8")
    registry = CollectorRegistry()
    async with serving(create_app(atlassian, "http://127.0.0.1:1", [APP])) as url:
        source = ReportSource(
            url, DEVELOPER_ID, ACCOUNT, token_file, Egress.to(url).client, never_sleep
        )
        apps = frozenset({APP, OTHER_APP})
        jobs = LicenceJobs(units, apps, source, LicenceFigures(registry))
        yield Office(jobs, source, atlassian.marketplace, database, registry)
