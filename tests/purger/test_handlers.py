"""Message in, rows and messages out; on a real PostgreSQL."""

import asyncio
import json
import re
from datetime import timedelta
from itertools import permutations
from uuid import uuid4

import asyncpg
import pytest

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import EntryKind, ReceiptStage
from contracts.purges import Phase, PurgeRequested, PurgeStarted, PurgeState, Scope
from contracts.tenants import ClassState, Platform
from services.purger import handlers
from services.purger.jobs import ASKED_AGAIN_A_SECOND
from tests.purger.builders import (
    ACTIVE,
    DAY,
    LEFT_AT,
    a_tenant,
    acceptance,
    answer,
    ended,
    purging,
    refusal,
)
from tests.purger.conftest import SILENCE, CrashError, Purger


def phases(state: PurgeState) -> list[Phase]:
    return [plan.phase for plan in state.plans]


# -- planning -------------------------------------------------------------------------------------


async def test_an_installed_tenant_is_not_spoken_of(purger: Purger) -> None:
    await purger.hear(a_tenant())

    assert await purger.said(PurgeState) == []


async def test_a_tenant_that_left_has_its_purge_planned_and_said(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)

    await purger.hear(tenant)

    (state,) = await purger.said(PurgeState)
    assert state.tenant_id == tenant.tenant_id
    assert [plan.scope for plan in state.plans] == [Scope.EVERYTHING]
    assert phases(state) == [Phase.PLANNED]


async def test_licence_numbers_are_not_stored(purger: Purger) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT))

    stored = await purger.runtime.fetchval("SELECT state FROM tenants")
    assert "SEN-123" not in json.dumps(stored)


async def test_the_same_state_again_and_an_older_one_change_nothing(purger: Purger) -> None:
    tenant = a_tenant(n=3, left_at=LEFT_AT)
    await purger.hear(tenant)
    before = await purger.everything()

    await purger.hear(tenant)
    await purger.hear(a_tenant(n=2, tenant_id=tenant.tenant_id))

    assert await purger.everything() == before
    assert len(await purger.said(PurgeState)) == 1


async def test_a_reinstall_withdraws_the_purge_and_leaving_again_plans_a_new_one(
    purger: Purger,
) -> None:
    tenant = a_tenant(n=1, left_at=LEFT_AT)
    await purger.hear(tenant)
    await purger.hear(a_tenant(n=2, tenant_id=tenant.tenant_id))
    await purger.hear(a_tenant(n=3, tenant_id=tenant.tenant_id, left_at=LEFT_AT + DAY))

    states = await purger.said(PurgeState)

    assert [phases(state) for state in states] == [
        [Phase.PLANNED],
        [Phase.WITHDRAWN],
        [Phase.WITHDRAWN, Phase.PLANNED],
    ]
    versions = [state.version for state in states]
    assert versions == sorted(set(versions))


async def test_people_are_planned_apart_from_what_the_service_holds(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT, subscription=ACTIVE)
    await purger.hear(tenant)
    end = LEFT_AT + 40 * DAY
    await purger.hear(
        a_tenant(n=2, tenant_id=tenant.tenant_id, left_at=LEFT_AT, subscription=ended(end))
    )

    state = await purger.state()

    assert [(plan.scope, plan.clock_started_at) for plan in state.plans] == [
        (Scope.SERVICE_DATA, LEFT_AT),
        (Scope.PEOPLE, end),
    ]


async def test_content_of_a_tenant_that_moved_to_forge_is_purged_alone_while_it_stays(
    purger: Purger,
) -> None:
    tenant = a_tenant(platform=Platform.FORGE, platform_since=LEFT_AT)
    asked = await purger.ask(tenant)
    await purger.hear(acceptance(asked, purger.clock.now()), purging(tenant, asked))

    assert asked.classes == (DataClass.CONTENT,)
    (order,) = await purger.said(PurgeStarted)
    assert (order.step, order.wave, order.classes) == ("erase-config", 1, (DataClass.CONTENT,))
    await purger.hear(answer(order, purger.clock.now()))

    assert phases(await purger.state()) == [Phase.CLOSED]
    erased, *receipts = await purger.ledger()
    assert erased.classes == (DataClass.CONTENT,)
    assert [entry.receipt.stage for entry in receipts if entry.receipt] == [
        ReceiptStage.ERASED,
        ReceiptStage.CLOSED,
    ]
    assert await purger.tombstones() == 0


async def test_of_two_purges_asked_for_at_once_the_one_that_is_refused_is_asked_for_again(
    purger: Purger,
) -> None:
    tenant = a_tenant(platform=Platform.FORGE, platform_since=LEFT_AT + 60 * DAY, left_at=LEFT_AT)
    await purger.hear(tenant)
    purger.clock.advance(160 * DAY)
    await purger.sweeps.ask_for_due_purges()
    content, rest = sorted(await purger.said(PurgeRequested), key=lambda each: len(each.classes))
    after = purging(tenant, content)

    await purger.hear(acceptance(content, purger.clock.now()), after)
    await purger.hear(refusal(rest, purger.clock.now()))
    await purger.sweeps.ask_for_due_purges()

    again = (await purger.said(PurgeRequested))[-1]
    assert (again.purge_id, again.classes) == (rest.purge_id, rest.classes)
    assert again.tenant_version == after.version
    assert DataClass.CONTENT not in again.classes


async def test_a_refused_purge_is_withdrawn_if_the_newer_state_came_first(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    asked = await purger.ask(tenant)
    gone = {**tenant.classes, DataClass.CONTENT: ClassState.PURGING}
    await purger.hear(a_tenant(n=2, tenant_id=tenant.tenant_id, classes=gone))
    assert phases(await purger.state()) == [Phase.REQUESTED]

    await purger.hear(refusal(asked, purger.clock.now()))

    assert phases(await purger.state()) == [Phase.WITHDRAWN]


# -- wave 0 ---------------------------------------------------------------------------------------


async def test_the_installer_is_asked_at_the_start_and_not_before(purger: Purger) -> None:
    tenant = a_tenant(n=5, left_at=LEFT_AT)
    await purger.hear(tenant)
    start_at = (await purger.state()).plans[0].start_at

    purger.clock.set(start_at - timedelta(microseconds=1))
    assert await purger.sweeps.ask_for_due_purges() == 0
    purger.clock.set(start_at)
    assert await purger.sweeps.ask_for_due_purges() == 1
    assert await purger.sweeps.ask_for_due_purges() == 0

    (asked,) = await purger.said(PurgeRequested)
    assert asked.tenant_version == tenant.version
    assert asked.classes == TENANT_CLASSES
    assert asked.step == "accept"
    assert phases(await purger.state()) == [Phase.REQUESTED]


async def test_the_installer_is_asked_again_when_it_is_silent_ever_more_rarely(
    purger: Purger,
) -> None:
    asked = await purger.ask()

    purger.clock.advance(SILENCE)
    assert await purger.sweeps.ask_again() == 1
    purger.clock.advance(SILENCE)
    assert await purger.sweeps.ask_again() == 0
    purger.clock.advance(SILENCE)
    assert await purger.sweeps.ask_again() == 1

    assert await purger.said(PurgeRequested) == [asked] * 3


async def test_a_refused_purge_is_asked_for_again_at_the_newer_version(purger: Purger) -> None:
    asked = await purger.ask()
    await purger.hear(refusal(asked, purger.clock.now()))
    assert phases(await purger.state()) == [Phase.PLANNED]
    assert await purger.sweeps.ask_for_due_purges() == 0

    await purger.hear(a_tenant(n=2, tenant_id=asked.tenant_id, left_at=LEFT_AT))
    assert await purger.sweeps.ask_for_due_purges() == 1

    again = (await purger.said(PurgeRequested))[-1]
    assert again.purge_id == asked.purge_id
    assert again.tenant_version.n == 2


async def test_a_purge_refused_for_a_state_that_has_come_already_is_due_at_once(
    purger: Purger,
) -> None:
    asked = await purger.ask()
    newer = a_tenant(n=2, tenant_id=asked.tenant_id, left_at=LEFT_AT)

    await purger.hear(newer, refusal(asked, purger.clock.now()))

    assert await purger.sweeps.ask_for_due_purges() == 1
    assert (await purger.said(PurgeRequested))[-1].tenant_version.n == 2


async def test_a_purge_refused_for_a_state_that_does_not_come_is_asked_for_again_after_a_silence(
    purger: Purger,
) -> None:
    asked = await purger.ask()
    await purger.hear(refusal(asked, purger.clock.now()))
    purger.clock.advance(SILENCE - timedelta(seconds=1))
    assert await purger.sweeps.ask_for_due_purges() == 0

    purger.clock.advance(timedelta(seconds=1))

    assert await purger.sweeps.ask_for_due_purges() == 1


@pytest.mark.parametrize("reason", ["unknown-tenant", "not-live"])
async def test_a_purge_refused_for_another_reason_rests_though_no_newer_state_is_missed(
    purger: Purger, reason: str
) -> None:
    asked = await purger.ask()
    refused = refusal(asked, purger.clock.now()).model_copy(
        update={"reason": reason, "tenant_version": asked.tenant_version}
    )

    await purger.hear(refused)

    assert await purger.sweeps.ask_for_due_purges() == 0
    purger.clock.advance(SILENCE)
    assert await purger.sweeps.ask_for_due_purges() == 1


async def test_a_purge_refused_for_a_reinstall_is_withdrawn(purger: Purger) -> None:
    asked = await purger.ask()

    await purger.hear(a_tenant(n=2, tenant_id=asked.tenant_id), refusal(asked, purger.clock.now()))

    assert phases(await purger.state()) == [Phase.WITHDRAWN]
    assert await purger.ledger() == []


async def test_a_refusal_that_comes_after_the_acceptance_changes_nothing(purger: Purger) -> None:
    asked = await purger.ask()
    await purger.hear(acceptance(asked, purger.clock.now()))
    before = await purger.everything()

    await purger.hear(refusal(asked, purger.clock.now()))

    assert await purger.everything() == before


async def test_an_acceptance_counts_even_where_the_purge_was_withdrawn_meanwhile(
    purger: Purger,
) -> None:
    asked = await purger.ask()
    await purger.hear(a_tenant(n=2, tenant_id=asked.tenant_id))

    await purger.hear(acceptance(asked, purger.clock.now()))

    assert phases(await purger.state()) == [Phase.ERASING]


async def test_a_purge_that_was_forgotten_is_taken_up_and_asked_for_again(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    asked = await purger.ask(tenant)
    await purger.runtime.execute("DELETE FROM purges")
    await purger.runtime.execute("DELETE FROM tenants")
    await purger.hear(acceptance(asked, purger.clock.now()))
    assert await purger.ledger() == []

    await purger.hear(purging(tenant, asked))
    await purger.sweeps.ask_again()
    again = (await purger.said(PurgeRequested))[-1]
    await purger.hear(acceptance(again, purger.clock.now()))

    assert again.purge_id == asked.purge_id
    assert [entry.kind for entry in await purger.ledger()] == [EntryKind.TENANT_ERASED]


# -- wave 1 ---------------------------------------------------------------------------------------


async def test_the_ledger_and_the_owners_hear_of_an_accepted_purge(purger: Purger) -> None:
    orders = await purger.begin()

    (entry,) = await purger.ledger()
    assert entry.kind is EntryKind.TENANT_ERASED
    assert entry.tenant_id == orders[0].tenant_id
    assert entry.classes == TENANT_CLASSES[:4]
    assert {(order.step, order.owner, order.classes) for order in orders} == {
        ("erase-installer", "installer", (DataClass.INSTALLATION,)),
        ("erase-config", "config", (DataClass.CONTENT, DataClass.ERRORS)),
        ("erase-notifier", "notifier", (DataClass.TICKETS,)),
    }
    assert all(order.wave == 1 and order.receipt_code is None for order in orders)
    assert all(order.ledger_number == entry.number for order in orders)


async def test_the_purging_state_leaves_the_purge_alone_whichever_comes_first(
    purger: Purger,
) -> None:
    for state_first in (True, False):
        tenant = a_tenant(left_at=LEFT_AT)
        asked = await purger.ask(tenant)
        accepted, state = acceptance(asked, purger.clock.now()), purging(tenant, asked)

        await (purger.hear(state, accepted) if state_first else purger.hear(accepted, state))

        assert phases(await purger.state()) == [Phase.ERASING]
    assert len(await purger.ledger()) == 2


async def test_an_acceptance_twice_begins_once(purger: Purger) -> None:
    asked = await purger.ask()
    accepted = acceptance(asked, purger.clock.now())

    await purger.hear(accepted, accepted)
    await purger.hear(accepted)

    assert len(await purger.ledger()) == 1
    assert len(await purger.said(PurgeStarted)) == 3


async def test_a_silent_owner_is_told_again_the_others_are_not(purger: Purger) -> None:
    orders = await purger.begin()
    for order in orders[1:]:
        await purger.hear(answer(order, purger.clock.now()))
    purger.clock.advance(SILENCE)

    await purger.sweeps.ask_again()

    assert (await purger.said(PurgeStarted))[3:] == [orders[0]]


async def test_who_has_much_to_answer_is_asked_again_bit_by_bit_and_nobody_is_left_out(
    purger: Purger,
) -> None:
    orders = await purger.begin()
    purger.clock.advance(SILENCE)

    moment = timedelta(seconds=2 / ASKED_AGAIN_A_SECOND)
    assert [await purger.sweeps.ask_again(within=moment) for _ in range(3)] == [2, 1, 0]

    again = (await purger.said(PurgeStarted))[len(orders) :]
    assert sorted(again, key=str) == sorted(orders, key=str)


async def test_many_purges_go_through_their_waves_together(purger: Purger) -> None:
    asked = [await purger.ask(a_tenant(left_at=LEFT_AT)) for _ in range(3)]
    accepted = [acceptance(each, purger.clock.now()) for each in asked]
    await purger.hear_together(*accepted, accepted[0])
    for _ in ("wave one", "wave two"):
        orders = await purger.said(PurgeStarted)
        answers = [answer(order, purger.clock.now()) for order in orders]
        await purger.hear_together(*answers, *answers)

    ledger = await purger.ledger()
    assert [entry.kind for entry in ledger] == [
        *[EntryKind.TENANT_ERASED] * 3,
        *[EntryKind.RECEIPT] * 3,
        *[EntryKind.TENANT_ERASED] * 3,
        *[EntryKind.RECEIPT] * 3,
    ]
    assert {(entry.purge_id, str(entry.receipt.stage)) for entry in ledger if entry.receipt} == {
        (each.purge_id, stage) for each in asked for stage in ("erased", "closed")
    }
    assert len(await purger.said(PurgeStarted)) == 4 * len(asked)


async def test_a_crash_before_the_commit_leaves_nothing_behind(purger: Purger) -> None:
    asked = await purger.ask()
    before = await purger.everything()
    said = len(await purger.said(PurgeStarted))

    with pytest.raises(CrashError):
        await purger.hear(acceptance(asked, purger.clock.now()), then=CrashError())

    assert await purger.everything() == before
    assert len(await purger.said(PurgeStarted)) == said
    await purger.hear(acceptance(asked, purger.clock.now()))
    assert len(await purger.ledger()) == 1


# -- answers and receipts -------------------------------------------------------------------------


async def test_a_purge_of_everything_comes_to_its_end(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (contacts,) = await purger.finish_wave_one(tenant)

    assert (contacts.step, contacts.owner, contacts.wave) == ("erase-contacts", "notifier", 2)
    assert contacts.classes == (DataClass.CONTACTS,)
    assert phases(await purger.state()) == [Phase.ERASED]
    await purger.hear(answer(contacts, purger.clock.now()))

    first, receipt, people, last = await purger.ledger()
    assert first.kind is EntryKind.TENANT_ERASED
    assert receipt.receipt
    assert receipt.receipt.stage is ReceiptStage.ERASED
    assert [step.step for step in receipt.receipt.steps if step.open] == ["erase-contacts"]
    assert people.classes == (DataClass.CONTACTS,)
    assert people.number == contacts.ledger_number
    assert last.receipt
    assert last.receipt.stage is ReceiptStage.CLOSED
    assert not any(step.open for step in last.receipt.steps)
    assert {step.step: dict(step.counts) for step in last.receipt.steps}["erase-config"] == {
        DataClass.CONTENT: 3,
        DataClass.ERRORS: 3,
    }
    assert contacts.receipt_code == receipt.receipt.receipt_code == last.receipt.receipt_code
    assert await purger.tombstones() == 1


async def test_the_contacts_entry_carries_the_receipts_code(purger: Purger) -> None:
    (contacts,) = await purger.finish_wave_one()

    codes = [json.loads(entry.encode()).get("receipt_code") for entry in await purger.ledger()]

    assert codes == [None, None, contacts.receipt_code]
    # One that began with a dash would be an option of the command that verifies it.
    assert re.fullmatch("[0-9a-f]{32}", contacts.receipt_code or "")


async def test_receipts_name_no_tenant(purger: Purger) -> None:
    (contacts,) = await purger.finish_wave_one()
    await purger.hear(answer(contacts, purger.clock.now()))

    for entry in await purger.ledger():
        if entry.kind is EntryKind.RECEIPT:
            assert str(contacts.tenant_id) not in entry.encode().decode()


async def test_a_receipt_tells_what_a_person_gave_their_word_for(purger: Purger) -> None:
    orders = await purger.begin(a_tenant(left_at=LEFT_AT))
    for order in orders:
        given = answer(order, purger.clock.now())
        by = "person" if order.step == "erase-notifier" else None
        await purger.hear(given.model_copy(update={"by": by}))

    receipt = (await purger.ledger())[-2].receipt
    assert receipt is not None
    said = {step.step: step.by for step in receipt.steps}
    assert said == {
        "erase-installer": None,
        "erase-config": None,
        "erase-notifier": "person",
        "erase-contacts": None,
    }


async def test_a_purge_of_service_data_ends_without_people_and_is_still_spoken_of(
    purger: Purger,
) -> None:
    assert await purger.finish_wave_one(a_tenant(left_at=LEFT_AT, subscription=ACTIVE)) == []

    assert phases(await purger.state()) == [Phase.CLOSED]
    assert [entry.kind for entry in await purger.ledger()] == [
        EntryKind.TENANT_ERASED,
        EntryKind.RECEIPT,
        EntryKind.RECEIPT,
    ]
    assert await purger.tombstones() == 0


async def test_answers_may_come_in_any_order_and_twice(purger: Purger) -> None:
    for order_of_answers in permutations(range(3)):
        orders = await purger.begin(a_tenant(left_at=LEFT_AT))
        started = len(await purger.said(PurgeStarted))
        for n in order_of_answers:
            given = answer(orders[n], purger.clock.now())
            await purger.hear(given, given)
            await purger.hear(given)
        (contacts,) = (await purger.said(PurgeStarted))[started:]
        await purger.hear(*[answer(contacts, purger.clock.now())] * 2)

    entries = await purger.ledger()
    assert len(entries) == 6 * 4
    assert len({(e.purge_id, e.receipt.stage) for e in entries if e.receipt}) == 6 * 2


async def test_the_first_answer_stands(purger: Purger) -> None:
    orders = await purger.begin()
    await purger.hear(answer(orders[0], purger.clock.now(), rows=7))
    await purger.hear(answer(orders[0], purger.clock.now(), rows=0))
    for order in orders[1:]:
        await purger.hear(answer(order, purger.clock.now()))

    receipt = (await purger.ledger())[1].receipt
    assert receipt
    assert receipt.steps[0].counts == {DataClass.INSTALLATION: 7}


async def test_an_answer_for_a_closed_purge_changes_nothing(purger: Purger) -> None:
    (contacts,) = await purger.finish_wave_one()
    await purger.hear(answer(contacts, purger.clock.now()))
    before = await purger.everything()
    orders = await purger.said(PurgeStarted)

    await purger.hear(*[answer(order, purger.clock.now(), rows=99) for order in orders])

    assert await purger.everything() == before


async def test_an_answer_before_the_step_began_changes_nothing(purger: Purger) -> None:
    orders = await purger.begin()
    before = await purger.everything()
    early = orders[0].model_copy(
        update={"step": "erase-contacts", "owner": "notifier", "classes": (DataClass.CONTACTS,)}
    )

    await purger.hear(answer(early, purger.clock.now()))

    assert await purger.everything() == before


async def test_an_answer_from_another_owner_or_for_an_unknown_purge_changes_nothing(
    purger: Purger,
) -> None:
    orders = await purger.begin()
    before = await purger.everything()

    await purger.hear(
        answer(orders[0].model_copy(update={"owner": "notifier"}), purger.clock.now()),
        answer(orders[0].model_copy(update={"step": "erase-moon"}), purger.clock.now()),
        answer(orders[0].model_copy(update={"purge_id": uuid4()}), purger.clock.now()),
    )

    assert await purger.everything() == before


async def test_an_owner_that_still_sees_data_has_not_answered(purger: Purger) -> None:
    orders = await purger.begin()
    for order in orders:
        await purger.hear(answer(order, purger.clock.now(), remaining=1))

    assert phases(await purger.state()) == [Phase.ERASING]
    assert len(await purger.ledger()) == 1


async def test_five_days_before_the_last_day_open_steps_are_named_and_people_are_told(
    purger: Purger,
) -> None:
    orders = await purger.begin()
    await purger.hear(answer(orders[0], purger.clock.now()))
    erase_by = (await purger.state()).plans[0].erase_by

    purger.clock.set(erase_by - 5 * DAY - timedelta(seconds=1))
    assert await purger.sweeps.write_late_receipts() == 0
    purger.clock.set(erase_by - 5 * DAY)
    assert await purger.sweeps.write_late_receipts() == 1
    assert await purger.sweeps.write_late_receipts() == 0

    receipt = (await purger.ledger())[1].receipt
    assert receipt
    assert [step.step for step in receipt.steps if step.open] == [
        "erase-config",
        "erase-notifier",
        "erase-contacts",
    ]
    contacts = (await purger.said(PurgeStarted))[-1]
    assert contacts.step == "erase-contacts"
    for order in (contacts, *orders[1:]):
        await purger.hear(answer(order, purger.clock.now()))
    last = (await purger.ledger())[-1].receipt
    assert last
    assert last.stage is ReceiptStage.CLOSED
    assert not any(step.open for step in last.steps)


async def test_a_tombstone_drops_the_tenant_and_ends_what_is_said_of_it(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (contacts,) = await purger.finish_wave_one(tenant)
    async with purger.units.begin() as uow:
        await handlers.forget_tenants(tenant.tenant_id, uow)
    assert await purger.tombstones() == 0
    assert phases(await purger.state()) == [Phase.ERASED]

    await purger.hear(answer(contacts, purger.clock.now()))

    assert await purger.tombstones() == 1
    assert await purger.runtime.fetchval("SELECT count(*) FROM tenants") == 0
    purger.clock.advance(31 * DAY)
    assert await purger.sweeps.drop_old_purges() == 1
    for table in ("tenants", "purges", "steps", "purge_states"):
        assert await purger.runtime.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert len(await purger.ledger()) == 4


# -- the ledger -----------------------------------------------------------------------------------


async def test_the_ledger_has_no_gap_and_no_fork_when_many_append_at_once(purger: Purger) -> None:
    tenants = [a_tenant(left_at=LEFT_AT) for _ in range(9)]
    await purger.hear(*tenants)
    purger.clock.advance(180 * DAY)
    await purger.sweeps.ask_for_due_purges()
    asked = await purger.said(PurgeRequested)
    assert len(asked) == 9

    await asyncio.gather(*(purger.hear(acceptance(one, purger.clock.now())) for one in asked))
    orders = await purger.said(PurgeStarted)
    await asyncio.gather(*(purger.hear(answer(order, purger.clock.now())) for order in orders))

    entries = await purger.ledger()
    assert [entry.number for entry in entries] == list(range(1, 9 * 3 + 1))


async def test_an_append_that_fails_leaves_no_gap(purger: Purger) -> None:
    asked = await purger.ask()
    with pytest.raises(CrashError):
        await purger.hear(acceptance(asked, purger.clock.now()), then=CrashError())
    await purger.hear(acceptance(asked, purger.clock.now()))

    assert [entry.number for entry in await purger.ledger()] == [1]


async def test_a_part_of_a_purge_is_recorded_once_and_the_ledger_itself_refuses_a_second(
    purger: Purger,
) -> None:
    asked = await purger.ask()
    await purger.hear(acceptance(asked, purger.clock.now()))
    # As a restored database has it.
    await purger.runtime.execute("UPDATE purges SET phase = 'requested'")
    await purger.hear(acceptance(asked, purger.clock.now()))

    assert len(await purger.ledger()) == 1
    with pytest.raises(asyncpg.UniqueViolationError):
        await purger.runtime.execute(
            "INSERT INTO ledger SELECT number + 1, purge_id, part, receipt_code, entry FROM ledger"
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET entry = replace(entry, '1', '2')",
        "UPDATE ledger SET number = number + 1",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
    ],
)
@pytest.mark.parametrize("role", ["runtime", "owner"])
async def test_nobody_changes_what_the_ledger_says(
    purger: Purger, statement: str, role: str
) -> None:
    await purger.finish_wave_one()
    url = purger.roles.runtime_url if role == "runtime" else purger.roles.owner_url

    connection = await asyncpg.connect(url)
    try:
        with pytest.raises((asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)):
            await connection.execute(statement)
    finally:
        await connection.close()

    assert len(await purger.ledger()) == 3
