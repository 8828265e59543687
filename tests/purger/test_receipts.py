"""What a receipt says in plain words: nothing open is told as done."""

from datetime import timedelta

from services.purger.receipts import Standing, tell
from tests.purger.builders import DAY, answer
from tests.purger.conftest import Purger


async def test_a_first_entry_without_an_open_step_still_waits_for_the_last(
    purger: Purger,
) -> None:
    await purger.finish_wave_one()
    entry = (await purger.ledger())[1]
    assert entry.receipt is not None
    steps = tuple(step for step in entry.receipt.steps if not step.open)
    receipt = entry.receipt.model_copy(update={"steps": steps})
    answered = entry.model_copy(update={"receipt": receipt})

    told = tell([answered], now=purger.clock.now())

    assert (told.standing, told.open_parts) == (Standing.OPEN, ())


async def test_an_open_step_is_named_and_late_once_its_last_day_is_over(purger: Purger) -> None:
    await purger.finish_wave_one()
    entry = (await purger.ledger())[1]
    assert entry.receipt is not None
    before = entry.receipt.erase_by - timedelta(seconds=1)

    told = tell([entry], now=before)

    assert told.standing is Standing.OPEN
    assert [part.owner for part in told.open_parts] == ["notifier"]
    assert tell([entry], now=entry.receipt.erase_by).standing is Standing.OVERDUE


async def test_a_late_receipt_names_what_is_open_and_counts_it_nowhere(purger: Purger) -> None:
    installer, *others = await purger.begin()
    for order in others:
        await purger.hear(answer(order, purger.clock.now()))
    erase_by = (await purger.state()).plans[0].erase_by
    purger.clock.set(erase_by - 5 * DAY)
    await purger.sweeps.write_late_receipts()
    entry = (await purger.ledger())[1]

    told = tell([entry], now=purger.clock.now())

    assert [part.what.split(":")[0] for part in told.open_parts] == ["The installation", "People"]
    assert {each.owner for each in told.answers} == {order.owner for order in others}
    assert installer.owner not in {each.owner for each in told.answers}


async def test_a_closed_receipt_is_closed_for_ever(purger: Purger) -> None:
    (contacts,) = await purger.finish_wave_one()
    await purger.hear(answer(contacts, purger.clock.now()))
    first, last = [entry for entry in await purger.ledger() if entry.receipt]

    told = tell([first, last], now=purger.clock.now() + 400 * DAY)

    assert (told.standing, told.open_parts) == (Standing.CLOSED, ())
    assert len(told.answers) == 4
