"""`keepword mail` on a real database of notifier."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner

from chassis.migrations import migrate
from cli.main import command_line
from services.notifier.data_map import DATA_MAP
from tests.support.stack import Databases

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
async def campaign(databases: Databases) -> tuple[str, UUID]:
    """The database's URL, and a paused campaign with one message in doubt and one planned."""
    roles = (await databases("notifier"))["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    owner, campaign_id = await asyncpg.connect(roles.owner_url), uuid4()
    await owner.execute(
        "INSERT INTO campaigns VALUES ($1, 'policy-change', 'paused', $2)", campaign_id, NOW
    )
    for index, state, doubts in ((b"\xad\xa0" * 16, "uncertain", 1), (b"bob", "planned", 0)):
        await owner.execute(
            "INSERT INTO deliveries (delivery_id, campaign_id, tenant_id, contact_id,"
            " address_index, kind, state, doubts, planned_at, next_attempt_at)"
            " VALUES (gen_random_uuid(), $1, $1, $1, $2, 'policy-change', $3, $4, $5, $5)",
            campaign_id,
            index,
            state,
            doubts,
            NOW,
        )
    await owner.close()
    return roles.runtime_url, campaign_id


async def run(url: str, *arguments: str) -> tuple[int, str]:
    environment = {"KEEPWORD_NOTIFIER_DATABASE_URL": url, "COLUMNS": "200"}
    result = await asyncio.to_thread(
        CliRunner().invoke, command_line(), ["mail", *arguments], env=environment
    )
    return result.exit_code, result.output


async def test_campaigns_and_doubts_are_shown_and_a_paused_one_goes_on_once(
    campaign: tuple[str, UUID],
) -> None:
    url, campaign_id = campaign
    status, said = await run(url, "list")
    assert status == 0
    for word in (str(campaign_id), "policy-change", "paused", "planned 1, uncertain 1"):
        assert word in said

    status, said = await run(url, "uncertain")
    assert status == 0
    assert ("ada0" * 4) in said
    assert "Messages in doubt: 1." in said

    status, said = await run(url, "resume", str(campaign_id), "--dry-run")
    assert (status, "Mails to be sent: 2. It stays paused." in said) == (0, True)
    assert (await run(url, "resume", str(campaign_id)))[0] == 0
    status, said = await run(url, "resume", str(campaign_id))
    assert status == 1
    assert "not paused" in said
    assert "sending" in (await run(url, "list"))[1]
