"""A site's data is replaced by an import: what a person's word brings to the new tenant, and what not."""

import asyncio
from datetime import timedelta

import pytest
from typer.testing import CliRunner, Result

from chassis.database import connect
from chassis.keys import KeyEncryptionKeys, TenantKeys
from cli.main import command_line
from contracts.ledger import ReceiptStage
from contracts.purges import ClockKind, Phase, Scope
from devstack.journey import Journey
from devstack.stack import LocalStack
from services.config.context import CREDENTIALS
from tests.support.journey import Travellers, entrust, let_it_start, whole_ledger


@pytest.fixture
def staff(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command what a person at work has."""
    url = stack.databases["installer"].runtime_url
    monkeypatch.setenv("KEEPWORD_INSTALLER_DATABASE_URL", url)
    monkeypatch.setenv("KEEPWORD_CLOCK_OFFSET_FILE", str(stack.folder / "clock-offset"))
    monkeypatch.setenv("COLUMNS", "400")


async def tenants(*arguments: str) -> Result:
    """Run `keepword tenants` in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, command_line(), ["tenants", *arguments])


async def passwords_of(stack: LocalStack, journey: Journey) -> set[str]:
    """Open the credentials that config keeps of a tenant, by its own key."""
    keys = TenantKeys("config", KeyEncryptionKeys.load(stack.folder / "keys" / "config.json"))
    connection = await connect(stack.databases["config"].backup_url, name="journey")
    try:
        rows = await connection.fetch(
            "SELECT credentials FROM things WHERE tenant_id = $1", journey.tenant_id
        )
        opened = [
            await keys.open(connection, journey.tenant_id, CREDENTIALS, row["credentials"])
            for row in rows
        ]
    finally:
        await connection.close()
    return {each.decode() for each in opened}


async def stages_of(journey: Journey, purge_id: object) -> list[ReceiptStage]:
    entries = (await whole_ledger(journey)).entries
    receipts = [entry.receipt for entry in entries if entry.purge_id == purge_id]
    return [receipt.stage for receipt in receipts if receipt is not None]


async def test_by_a_persons_word_an_import_has_everything_and_the_old_tenant_is_gone(
    stack: LocalStack, customer: Travellers, staff: None
) -> None:
    old = customer("hooli")
    given = await entrust(old)
    new = await old.import_data()
    await new.install()
    assert new.tenant_id != old.tenant_id
    assert (await old.wait_for_plan()).clock == ClockKind.UNINSTALLED
    await new.add_datasource(
        "source 0", url="https://new.example.com/api", username="new", credentials="s3cret-of-new"
    )
    shown = await tenants("show", str(old.tenant_id))
    assert (shown.exit_code, str(new.tenant_id) in shown.output) == (0, True)

    linked = await tenants(
        "link", str(old.tenant_id), str(new.tenant_id), "--by", "kim", "--reason", "ticket 4711"
    )

    assert linked.exit_code == 0, linked.output
    closed = await old.wait_for_phase(Phase.CLOSED)
    await old.wait_until_gone()
    assert (closed.clock, closed.scope) == (ClockKind.MERGED, Scope.EVERYTHING)
    names = sorted(each["name"] for each in await new.datasources())
    assert names == ["source 0", "source 0 (moved)", "source 1"]
    assert await passwords_of(stack, new) == {"s3cret-of-new", *given.passwords}
    assert (await new.rows())["notifier.contacts"] == 1
    assert await old.receipt_mails(given.address) == []
    assert await stages_of(old, closed.purge_id) == list(ReceiptStage)
    assert await old.traces_of(old.client_key, *given.passwords, given.name, given.address) == []
    assert not (await new.brake()).engaged
    shown = await tenants("show", str(old.tenant_id))
    assert "This tenant is gone." in shown.output
    assert "ticket 4711" in shown.output


async def test_without_it_nothing_moves_and_the_old_tenant_is_purged_in_its_time(
    customer: Travellers,
) -> None:
    old = customer("initech")
    given = await entrust(old)
    new = await old.import_data()
    await new.install()
    plan = await old.wait_for_plan()
    assert plan.start_at - plan.clock_started_at > timedelta(days=100)

    await let_it_start(old, plan)
    closed = await old.wait_for_phase(Phase.CLOSED)
    await old.wait_until_gone()

    assert (closed.purge_id, closed.clock) == (plan.purge_id, ClockKind.UNINSTALLED)
    assert await new.datasources() == []
    assert "notifier.contacts" not in await new.rows()
    assert len(await old.receipt_mails(given.address)) == 1
    assert await stages_of(old, closed.purge_id) == list(ReceiptStage)
