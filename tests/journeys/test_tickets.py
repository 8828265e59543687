"""A customer with support tickets leaves: the desk is empty of them, the neighbour's stay."""

import asyncio
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from cli.main import command_line
from contracts.classes import DataClass
from contracts.ledger import Receipt
from contracts.purges import Phase
from devstack.journey import Journey
from tests.support.journey import Travellers, everything_on_kafka, leave, let_it_start

LICENCE, NEIGHBOURS = "SEN-11223344", "SEN-55667788"
ADA, EVE = "Ada of Umbrella", "Eve of Tyrell"


async def receipt_of(journey: Journey, address: str) -> Receipt:
    mail = await journey.wait_for_receipt_mail(address)
    await journey.wait_for_phase(Phase.CLOSED)
    receipt = (await journey.receipt(mail.code))[-1].receipt
    assert receipt is not None
    return receipt


async def test_a_customer_with_tickets_leaves_and_its_neighbours_tickets_stay(
    customer: Travellers,
) -> None:
    leaving, staying = customer("umbrella"), customer("tyrell")
    for journey, licence, person in ((leaving, LICENCE, ADA), (staying, NEIGHBOURS, EVE)):
        await journey.install(licence=licence)
        await journey.add_contact(person, f"somebody@{journey.site}.example")
        await journey.open_ticket(licence, person)
    await leaving.open_ticket(LICENCE.removeprefix("SEN-"), ADA)
    shared = await leaving.open_ticket(f"{LICENCE}, {NEIGHBOURS}", "Both of Them")
    assert len(await leaving.tickets_naming(ADA)) == 2
    plan = await leave(leaving)

    # The desk is away when the purge begins, and that fails nothing.
    await leaving.move_desk("away")
    await let_it_start(leaving, plan)
    await leaving.wait_for_phase(Phase.ERASING)
    await leaving.until(lambda: tried_in_vain(leaving), "the desk was asked in vain")
    assert await phase_of(leaving) is Phase.ERASING
    await leaving.move_desk("back")
    receipt = await receipt_of(leaving, "somebody@umbrella.example")

    assert await leaving.tickets_naming(ADA) == []
    assert len(await leaving.tickets_naming(EVE)) == 1
    assert await leaving.tickets_naming("Both of Them") == [shared]
    [tickets] = [step for step in receipt.steps if step.step == "erase-notifier"]
    assert (tickets.open, tickets.counts) == (False, {DataClass.TICKETS: 2})
    await leaving.wait_until_gone()
    assert (await staying.rows())["notifier.licences"] == 1


async def test_a_person_does_what_the_desk_does_not_let_us_do_and_the_receipt_says_so(
    customer: Travellers, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = customer("soylent")
    await leaving.install(licence="SEN-99887766")
    await leaving.add_contact("Roth of Soylent", "roth@soylent.example")
    plan = await leave(leaving)
    await leaving.move_desk("away")
    await let_it_start(leaving, plan)
    await leaving.wait_for_phase(Phase.ERASING)

    roles = leaving.stack.databases["notifier"]
    monkeypatch.setenv("KEEPWORD_NOTIFIER_DATABASE_URL", roles.runtime_url)
    monkeypatch.setenv("COLUMNS", "400")
    listed = await leaving.until(lambda: waiting(plan.purge_id), "the tickets wait")
    assert "99887766" in listed
    word = ("--by", "Kim Keeper", "--evidence", "searched HELP by hand, none found")
    assert (await keepword("done", str(plan.purge_id), *word)).exit_code == 0

    receipt = await receipt_of(leaving, "roth@soylent.example")
    await leaving.move_desk("back")
    assert {step.step: step.by for step in receipt.steps if step.by} == {"erase-notifier": "person"}
    assert b"Kim Keeper" not in await everything_on_kafka(leaving.stack)


async def keepword(*arguments: str) -> Result:
    """Run the command in a thread, as it runs a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, command_line(), ["tickets", *arguments])


async def waiting(purge_id: UUID) -> str | None:
    listed = (await keepword("list")).output
    return listed if str(purge_id) in listed else None


async def phase_of(journey: Journey) -> Phase:
    [plan] = await journey.plans()
    return plan.phase


async def tried_in_vain(journey: Journey) -> bool | None:
    """Whether notifier has met the desk's absence."""
    log = journey.stack.log_of("notifier").read_text("utf-8")
    return True if "tickets not erased yet" in log else None
