"""A customer with support tickets leaves: the desk is empty of them, the neighbour's stay."""

from contracts.classes import DataClass
from contracts.ledger import Receipt
from contracts.purges import Phase
from devstack.journey import Journey
from tests.support.journey import Travellers, leave, let_it_start

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


async def phase_of(journey: Journey) -> Phase:
    [plan] = await journey.plans()
    return plan.phase


async def tried_in_vain(journey: Journey) -> bool | None:
    """Whether notifier has met the desk's absence."""
    log = journey.stack.log_of("notifier").read_text("utf-8")
    return True if "tickets not erased yet" in log else None
