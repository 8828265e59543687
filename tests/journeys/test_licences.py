from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from chassis.database import connect
from contracts.purges import ClockKind, Phase
from devstack.journey import Journey
from devstack.stack import APP_KEY, LocalStack, start_local_stack
from tests.support.journey import without_given_servers

SEN = "SEN-40302010"
ADDRESS = "ada@hooli.example"
ROW = {
    "addonLicenseId": "40302010",
    "licenseId": SEN,
    "addonKey": APP_KEY,
    "hosting": "Server",
    "licenseType": "COMMERCIAL",
    "status": "active",
}


@pytest.fixture(scope="module")
async def licensed_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A stack whose installer and notifier read the Marketplace's report."""
    folder: Path = tmp_path_factory.mktemp("licences")
    async with await start_local_stack(
        folder, environment=without_given_servers(), licences=True
    ) as running:
        yield running


async def test_people_of_a_licence_alone_move_to_the_installation_that_comes_later(
    licensed_stack: LocalStack,
) -> None:
    stack = licensed_stack
    async with httpx2.AsyncClient() as http:
        ada = {"name": "Ada of Hooli", "email": ADDRESS}
        row = ROW | {
            "lastUpdated": stack.now().date().isoformat(),
            "contactDetails": {"country": "Germany", "technicalContact": ada},
        }
        await http.post(f"{stack.endpoints.atlassian}/marketplace/licences", json=row)
        alone = Journey(stack, http, "hooli")
        alone._tenant_id = await alone.until(lambda: tenant_of_licence(stack), "it is a tenant")
        await alone.until(lambda: has_people(alone, 1), "its person is known")
        assert await alone.plans() == ()

        await http.post(
            f"{stack.endpoints.atlassian}/sites/hooli/install",
            params={"app": APP_KEY, "sen": SEN},
        )
        living = Journey(stack, http, "hooli")
        await living.install()
        closed = await alone.wait_for_phase(Phase.CLOSED)
        await alone.wait_until_gone()

        assert closed.clock == ClockKind.MERGED
        assert living.tenant_id != alone.tenant_id
        assert await tenant_of_licence(stack) == living.tenant_id
        # Ada moved, and the report names whoever administers the site.
        await living.until(lambda: has_people(living, 2), "both are known")
        assert await living.receipt_mails(ADDRESS) == []
        assert not (await living.brake()).engaged


async def has_people(journey: Journey, count: int) -> bool | None:
    """Whether so many people of the tenant are known; None while they are not."""
    return (await journey.rows()).get("notifier.contacts") == count or None


async def tenant_of_licence(stack: LocalStack) -> UUID | None:
    """Whose the licence is that the report named first."""
    connection = await connect(stack.databases["installer"].backup_url, name="journey")
    try:
        found: UUID | None = await connection.fetchval(
            "SELECT tenant_id FROM licences WHERE number = $1", ROW["addonLicenseId"]
        )
        return found
    finally:
        await connection.close()
