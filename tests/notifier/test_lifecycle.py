"""People are told of what happens to their tenant, once, by what stands and not by what came."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.deadlines import RULE_VERSION
from contracts.purges import (
    Hold,
    Phase,
    Plan,
    PurgeReminder,
    PurgeState,
    Scope,
    Wish,
)
from contracts.tenants import TenantStatus, Version
from devstack.mail import Answer, Moment
from services.notifier.domain.lifecycle import Event, Facts, may_have_been_told, news_of, reminder
from services.notifier.handlers import (
    forget_purges,
    forget_tenant,
    remind_people,
    tell_of_purges,
)
from services.notifier.jobs.lifecycle import Lifecycle
from services.notifier.store import lifecycle as store
from services.notifier.takeover import doubt_deliveries
from tests.notifier.builders import NOW, Notifier, Purge
from tests.notifier.test_takeover import begin_epoch, doors_open
from tests.support.chassis import a_tenant

DAY = timedelta(days=1)
START = NOW + 30 * DAY
END = START + 14 * DAY


def a_plan(purge_id: UUID, **changes: Any) -> Plan:
    return Plan(
        **{
            "purge_id": purge_id,
            "scope": Scope.EVERYTHING,
            "clock": "uninstalled",
            "clock_started_at": NOW - 100 * DAY,
            "rule_version": RULE_VERSION,
            "deadline": END + 14 * DAY,
            "erase_by": END,
            "start_at": START,
            "phase": Phase.PLANNED,
            **changes,
        }
    )


def a_state(tenant_id: UUID, *plans: Plan, **others: Any) -> PurgeState:
    return PurgeState(tenant_id=tenant_id, version=Version(epoch=1, n=1), plans=plans, **others)


def a_hold(**others: Any) -> Hold:
    given = {
        "hold_id": uuid4(),
        "classes": (DataClass.CONTENT,),
        "basis": "legal-claims",
        "placed_at": NOW,
    }
    return Hold(**(given | others))


def a_wish() -> Wish:
    return Wish(wish_id=uuid4(), asked_at=NOW, by="customer")


def a_command(tenant_id: UUID, purge_id: UUID, days: int = 30, **changes: Any) -> PurgeReminder:
    given: dict[str, Any] = {
        "purge_id": purge_id,
        "step": f"remind-{days}",
        "tenant_id": tenant_id,
        "classes": TENANT_CLASSES,
        "clock": "uninstalled",
        "start_at": START,
        "erase_by": END,
        "days_before": days,
    }
    return PurgeReminder(**(given | changes))


# -- the rules -----------------------------------------------------------------------------------


def told_by(state: PurgeState, told: Any = None, now: datetime = NOW) -> list[str]:
    return [notice.event.value for notice in news_of(state, told or {}, now=now)]


def test_what_stands_and_was_told_is_no_news() -> None:
    hold, wish = a_hold(), a_wish()
    state = a_state(uuid4(), a_plan(uuid4()), holds=(hold,), wishes=(wish,))
    assert told_by(state) == ["hold-placed", "erasure-asked"]
    told = {
        (Event.HOLD_PLACED, str(hold.hold_id)): Facts(),
        (Event.ERASURE_ASKED, str(wish.wish_id)): Facts(),
    }
    assert told_by(state, told) == []
    empty = a_state(state.tenant_id)
    assert told_by(empty, told) == ["hold-released", "erasure-withdrawn"]
    ended = {
        (Event.HOLD_RELEASED, str(hold.hold_id)): Facts(),
        (Event.ERASURE_WITHDRAWN, str(wish.wish_id)): Facts(),
    }
    assert told_by(empty, told | ended) == []
    assert told_by(empty) == []


def test_a_wish_that_is_past_return_is_not_told() -> None:
    state = a_state(uuid4(), a_plan(uuid4(), phase=Phase.ERASING), wishes=(a_wish(),))
    assert told_by(state) == []


def test_a_wish_says_until_when_it_can_be_withdrawn_unless_all_is_held() -> None:
    wish = a_wish()
    [asked] = news_of(a_state(uuid4(), a_plan(uuid4()), wishes=(wish,)), {}, now=NOW)
    assert (asked.facts.start_at, asked.facts.erase_by, asked.expires_at) == (START, END, START)
    [held] = news_of(a_state(uuid4(), a_plan(uuid4(), held=True), wishes=(wish,)), {}, now=NOW)
    assert held.facts.start_at is None


REMINDED = Facts(classes=TENANT_CLASSES)


def test_a_reminded_purge_that_is_withdrawn_is_cancelled_once() -> None:
    purge_id = uuid4()
    told = {(Event.REMINDER, f"{purge_id}/remind-{days}"): REMINDED for days in (30, 7)}
    gone = a_state(uuid4(), a_plan(purge_id, phase=Phase.WITHDRAWN))
    [notice] = news_of(gone, told, now=NOW)
    assert (notice.event, notice.subject, len(notice.answers)) == (
        Event.WELCOME_BACK,
        str(purge_id),
        2,
    )
    assert told_by(gone, told | {(Event.WELCOME_BACK, str(purge_id)): Facts()}) == []
    assert told_by(a_state(uuid4()), told) == ["welcome-back"]


@pytest.mark.parametrize("phase", [Phase.PLANNED, Phase.REQUESTED, Phase.ERASING, Phase.CLOSED])
def test_a_purge_that_goes_on_is_not_cancelled(phase: Phase) -> None:
    purge_id = uuid4()
    told = {(Event.REMINDER, f"{purge_id}/remind-30"): REMINDED}
    assert told_by(a_state(uuid4(), a_plan(purge_id, phase=phase)), told) == []


def test_a_purge_that_was_planned_anew_is_not_cancelled() -> None:
    purge_id = uuid4()
    told = {(Event.REMINDER, f"{purge_id}/remind-30"): REMINDED}
    before = a_plan(purge_id, phase=Phase.WITHDRAWN)
    held = a_plan(uuid4(), scope=Scope.SERVICE_DATA, classes=(DataClass.CONTENT,), held=True)
    assert told_by(a_state(uuid4(), before, held), told) == []
    moved = held.model_copy(update={"held": False, "clock": "forge-content"})
    assert told_by(a_state(uuid4(), before, moved), told) == ["welcome-back"]


def test_two_purges_that_are_cancelled_are_one_word() -> None:
    first, second = uuid4(), uuid4()
    told = {(Event.REMINDER, f"{each}/remind-7"): REMINDED for each in (first, second)}
    [notice] = news_of(a_state(uuid4()), told, now=NOW)
    assert set(notice.subject.split()) == {str(first), str(second)}
    assert told_by(a_state(uuid4()), told | {(notice.event, notice.subject): Facts()}) == []


def test_nobody_is_reminded_when_it_has_begun() -> None:
    command = a_command(uuid4(), uuid4())
    assert reminder(command, now=START - DAY) is not None
    assert reminder(command, now=START) is None


def test_after_a_restore_only_what_is_newer_is_surely_news() -> None:
    assert not may_have_been_told(NOW, restored_at=None, now=NOW)
    assert may_have_been_told(NOW, restored_at=NOW, now=NOW + 9 * DAY)
    assert not may_have_been_told(NOW + DAY, restored_at=NOW, now=NOW + DAY)
    assert may_have_been_told(None, restored_at=NOW, now=NOW + DAY)
    assert not may_have_been_told(None, restored_at=NOW, now=NOW + 2 * DAY)


# -- on the database -----------------------------------------------------------------------------


async def say(notifier: Notifier, state: PurgeState) -> None:
    async with notifier.units.begin() as uow:
        await tell_of_purges(state, uow)


async def remind(notifier: Notifier, command: PurgeReminder) -> None:
    async with notifier.units.begin() as uow:
        await remind_people(command, uow)


def life(notifier: Notifier) -> Lifecycle:
    return Lifecycle(notifier.units, notifier.worker)


async def sent(notifier: Notifier) -> list[str]:
    """Send what is due; give the first words of all subjects so far."""
    await notifier.mail.run()
    return [" ".join(mail.subject.split()[:2]) for mail in notifier.mails]


async def installed(notifier: Notifier, *addresses: str) -> UUID:
    """A tenant that has just been installed, with these people."""
    tenant_id = await notifier.hear(a_tenant())
    for address in addresses:
        await notifier.post(tenant_id=str(tenant_id), name="Ada Ex", address=address)
    return tenant_id


async def test_the_first_people_of_a_tenant_are_welcomed_once(notifier: Notifier) -> None:
    tenant_id = await installed(notifier)
    assert await life(notifier).welcome_people() == 0
    for address in ("ada@c.example", "bob@c.example"):
        await notifier.post(tenant_id=str(tenant_id), name="Ada Ex", address=address)
    assert await life(notifier).welcome_people() == 1
    assert await sent(notifier) == ["Welcome, and"] * 2
    assert "San Francisco, USA" in notifier.mails[0].text

    await notifier.post(tenant_id=str(tenant_id), name="Cy", address="cy@c.example")
    await notifier.hear(a_tenant(tenant_id=tenant_id, n=2))
    assert await life(notifier).welcome_people() == 0
    assert len(await sent(notifier)) == 2


async def test_a_german_reader_is_told_in_german(notifier: Notifier) -> None:
    tenant_id = await installed(notifier, "ada@c.example")
    await notifier.worker.execute("UPDATE audience SET language = 'de'")
    await remind(notifier, a_command(tenant_id, uuid4()))
    assert await sent(notifier) == ["Ihre Daten"]
    assert "23. Dezember 2026" in notifier.mails[0].text


async def test_who_left_or_is_on_the_way_out_is_not_welcomed(notifier: Notifier) -> None:
    left = await notifier.hear(a_tenant().model_copy(update={"status": TenantStatus.UNINSTALLED}))
    await notifier.post(tenant_id=str(left), name="Ada", address="ada@c.example")
    going = await installed(notifier, "bob@c.example")
    await notifier.obey(Purge(going).wave_2())
    assert await life(notifier).welcome_people() == 1
    assert await notifier.worker.fetchval("SELECT count(*) FROM notices") == 0


async def test_nobody_is_welcomed_again_after_a_restore(notifier: Notifier) -> None:
    await begin_epoch(notifier)
    await doubt_deliveries(notifier.units)
    await doors_open(notifier)
    await installed(notifier, "ada@c.example")
    assert await life(notifier).welcome_people() == 0
    newer = a_tenant().model_copy(update={"created_at": NOW + DAY})
    await notifier.hear(newer)
    await notifier.post(tenant_id=str(newer.tenant_id), name="Bo", address="bo@c.example")
    assert await life(notifier).welcome_people() == 1


async def test_who_moves_to_another_tenant_is_not_welcomed_there(notifier: Notifier) -> None:
    old = await installed(notifier, "ada@c.example")
    await life(notifier).welcome_people()
    new = await installed(notifier)
    await notifier.obey(Purge(old).wave_2(merged_into=new))
    assert await notifier.move_people() == 1
    assert await life(notifier).welcome_people() == 0


async def test_a_reminder_is_mailed_once_however_often_it_is_asked_for(notifier: Notifier) -> None:
    tenant_id, purge_id = await installed(notifier, "ada@c.example"), uuid4()
    for days in (30, 30, 7, 30):
        await remind(notifier, a_command(tenant_id, purge_id, days))
    assert await sent(notifier) == ["Your data"] * 2
    assert "23 December 2026" in notifier.mails[0].subject
    assert len({dict(mail.headers)["Message-ID"] for mail in notifier.mails}) == 2


async def test_a_reminder_delays_no_erasure(notifier: Notifier) -> None:
    tenant_id = await installed(notifier, "ada@c.example")
    purge = Purge(tenant_id)
    await remind(notifier, a_command(tenant_id, purge.purge_id))
    notifier.sink.mailbox.fail_next(Answer.DEFER, Moment.BEFORE_DATA)
    await notifier.mail.run()
    await notifier.read_receipt(purge)
    await notifier.obey(purge.wave_2())
    await notifier.mail.run()
    assert await notifier.states(purge) == ["sent"]
    assert await notifier.erase() == 1
    for table in ("notices", "lifecycles", "deliveries"):
        assert await notifier.worker.fetchval(f"SELECT count(*) FROM {table}") == 0
    await remind(notifier, a_command(tenant_id, purge.purge_id, 7))
    assert await notifier.worker.fetchval("SELECT count(*) FROM notices") == 0


async def test_who_was_reminded_is_welcomed_back_and_nobody_else(notifier: Notifier) -> None:
    tenant_id, purge_id = await installed(notifier, "ada@c.example"), uuid4()
    await remind(notifier, a_command(tenant_id, purge_id))
    await sent(notifier)
    await notifier.post(tenant_id=str(tenant_id), name="Bob", address="bob@c.example")
    gone = a_state(tenant_id, a_plan(purge_id, phase=Phase.WITHDRAWN))
    await say(notifier, gone)
    await say(notifier, gone)
    assert await sent(notifier) == ["Your data", "Welcome back:"]
    assert notifier.mails[1].recipients == ("ada@c.example",)
    await remind(notifier, a_command(tenant_id, purge_id, 7))
    assert len(await sent(notifier)) == 2


async def test_a_reminder_that_was_overtaken_is_not_sent_nor_taken_back(
    notifier: Notifier,
) -> None:
    tenant_id, purge_id = await installed(notifier, "ada@c.example"), uuid4()
    await remind(notifier, a_command(tenant_id, purge_id))
    await say(notifier, a_state(tenant_id, a_plan(purge_id, phase=Phase.WITHDRAWN)))
    assert await sent(notifier) == []


async def test_a_hold_and_a_wish_are_told_with_their_end(notifier: Notifier) -> None:
    tenant_id = await installed(notifier, "ada@c.example")
    hold, wish = a_hold(), a_wish()
    plan = a_plan(uuid4(), clock="erasure-asked")
    state = a_state(tenant_id, plan, holds=(hold,), wishes=(wish,))
    await say(notifier, state)
    await say(notifier, state)
    assert sorted(await sent(notifier)) == ["We have", "Your data"]
    await say(notifier, a_state(tenant_id))
    assert sorted(await sent(notifier)) == ["The legal", "The request", "We have", "Your data"]
    texts = {mail.subject.split()[0]: mail.text for mail in notifier.mails}
    assert "Article 17(3)(e)" in " ".join(texts["We"].split())
    assert "2026, 12:00 UTC" in texts["Your"]


async def test_after_a_restore_what_may_have_been_told_is_uncertain(notifier: Notifier) -> None:
    tenant_id, hold = await installed(notifier, "ada@c.example"), a_hold()
    await begin_epoch(notifier)
    await doubt_deliveries(notifier.units)
    await doors_open(notifier)
    plan = a_plan(uuid4())
    await say(notifier, a_state(tenant_id, plan, holds=(hold,)))
    await remind(notifier, a_command(tenant_id, plan.purge_id))
    assert await sent(notifier) == []
    states = await notifier.worker.fetch("SELECT DISTINCT state FROM deliveries")
    assert [row["state"] for row in states] == ["uncertain"]
    notifier.clock.advance(2 * DAY)
    later = a_hold(placed_at=notifier.clock.now())
    await say(notifier, a_state(tenant_id, plan, holds=(hold, later)))
    assert await sent(notifier) == ["We have"]


async def test_old_news_is_not_sent(notifier: Notifier) -> None:
    tenant_id = await installed(notifier, "ada@c.example")
    await remind(notifier, a_command(tenant_id, uuid4()))
    notifier.clock.advance(30 * DAY)
    assert await life(notifier).stop_old_news() == 1
    assert await life(notifier).stop_old_news() == 0
    assert await sent(notifier) == []
    await life(notifier).tidy()
    assert await notifier.worker.fetchval("SELECT count(*) FROM campaigns") == 1
    notifier.clock.advance(DAY)
    await life(notifier).tidy()
    assert await notifier.worker.fetchval("SELECT count(*) FROM campaigns") == 0


@pytest.mark.parametrize("forget", [forget_tenant, forget_purges])
async def test_a_tombstone_leaves_nothing_of_what_was_told(notifier: Notifier, forget: Any) -> None:
    tenant_id = await installed(notifier, "ada@c.example")
    await say(notifier, a_state(tenant_id, holds=(a_hold(),)))
    async with notifier.units.begin() as uow:
        await forget(tenant_id, uow)
    for table in ("notices", "lifecycles"):
        assert await notifier.worker.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_notice_that_is_forgotten_is_no_word(notifier: Notifier) -> None:
    async with notifier.units.begin() as uow:
        assert await store.word_of(uow.connection, uuid4()) is None
