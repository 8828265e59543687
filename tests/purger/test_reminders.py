"""People are reminded of a purge before it starts, once each time, and no purge waits for it."""

from datetime import datetime
from unittest.mock import Mock
from uuid import uuid4

import pytest

from contracts.classes import DataClass
from contracts.purges import ErasureAsked, PurgeReminder, PurgeRequested
from contracts.tenants import TenantState, Version
from services.purger.planning import replan_and_say
from services.purger.reminders import remind_people
from services.purger.store import holds, purges
from tests.purger.builders import ACTIVE, DAY, LEFT_AT, a_tenant
from tests.purger.conftest import CrashError, Purger


async def start_of(purger: Purger, tenant: TenantState) -> datetime:
    """Let a tenant leave; return when its purge starts."""
    await purger.hear(tenant)
    return (await purger.state()).plans[0].start_at


async def steps_said(purger: Purger) -> list[str]:
    return [reminder.step for reminder in await purger.said(PurgeReminder)]


async def test_people_are_reminded_30_and_7_days_before_and_once_each(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    start_at = await start_of(purger, tenant)
    said = []
    for before in (30 * DAY + DAY / 24, 30 * DAY, 10 * DAY, 7 * DAY, DAY):
        purger.clock.set(start_at - before)
        await remind_people(purger.units)
        await remind_people(purger.units)
        said.append(await steps_said(purger))
    assert said == [
        [],
        ["remind-30"],
        ["remind-30"],
        ["remind-30", "remind-7"],
        ["remind-30", "remind-7"],
    ]
    reminder = (await purger.said(PurgeReminder))[0]
    plan = (await purger.state()).plans[0]
    assert reminder == PurgeReminder(
        purge_id=plan.purge_id,
        step="remind-30",
        tenant_id=tenant.tenant_id,
        classes=plan.takes,
        clock="uninstalled",
        start_at=plan.start_at,
        erase_by=plan.erase_by,
        days_before=30,
    )


async def test_after_a_silence_only_the_nearest_reminder_is_sent(purger: Purger) -> None:
    start_at = await start_of(purger, a_tenant(left_at=LEFT_AT))
    purger.clock.set(start_at - 3 * DAY)
    assert await remind_people(purger.units) == 1
    assert await remind_people(purger.units) == 0
    assert await steps_said(purger) == ["remind-7"]


async def test_nobody_is_reminded_of_what_has_begun_or_should_have(purger: Purger) -> None:
    start_at = await start_of(purger, a_tenant(left_at=LEFT_AT))
    purger.clock.set(start_at)
    assert await remind_people(purger.units) == 0
    await purger.sweeps.ask_for_due_purges()
    assert len(await purger.said(PurgeRequested)) == 1
    assert await remind_people(purger.units) == 0


async def test_a_withdrawn_purge_is_not_reminded_of(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    start_at = await start_of(purger, tenant)
    await purger.hear(tenant.model_copy(update={"departure": None, "version": _next(tenant)}))
    purger.clock.set(start_at - 7 * DAY)
    assert await remind_people(purger.units) == 0


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_hold_keeps_its_classes_out_and_brings_no_second_reminder(
    purger: Purger, moment: str
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    start_at = await start_of(purger, tenant)
    purger.clock.set(start_at - 20 * DAY)
    if moment == "after":
        assert await remind_people(purger.units) == 1
    await place_hold(purger, tenant, DataClass.CONTENT)
    assert await remind_people(purger.units) == (0 if moment == "after" else 1)
    purger.clock.set(start_at - 7 * DAY)
    assert await remind_people(purger.units) == 1
    last = (await purger.said(PurgeReminder))[-1]
    assert DataClass.CONTENT not in last.classes
    assert DataClass.INSTALLATION in last.classes


async def test_what_is_held_wholly_is_not_reminded_of(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    start_at = await start_of(purger, tenant)
    await place_hold(purger, tenant, *tenant.classes)
    purger.clock.set(start_at - 7 * DAY)
    assert await remind_people(purger.units) == 0


async def test_who_asked_for_erasure_or_moves_is_not_reminded(purger: Purger) -> None:
    asked = a_tenant(subscription=ACTIVE)
    await purger.hear(asked)
    wish = ErasureAsked(wish_id=uuid4(), tenant_id=asked.tenant_id, asked_at=purger.clock.now())
    await purger.hear(wish)
    await purger.hear(a_tenant(left_at=purger.clock.now() + 6 * DAY, merged_into=uuid4()))
    assert await remind_people(purger.units) == 0


async def test_two_replicas_remind_once_and_no_locked_purge_is_waited_for(purger: Purger) -> None:
    start_at = await start_of(purger, a_tenant(left_at=LEFT_AT))
    purger.clock.set(start_at - 30 * DAY)
    async with purger.units.begin() as first, purger.units.begin() as second:
        taken, _ = await purges.claim_reminders(first.connection, now=first.now, limit=10)
        others, _ = await purges.claim_reminders(second.connection, now=second.now, limit=10)
    assert (len(taken), others) == (1, [])


async def test_more_than_one_statement_takes_are_all_reminded(
    purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.purger.reminders._AT_ONCE", 2)
    for _ in range(5):
        start_at = await start_of(purger, a_tenant(left_at=LEFT_AT))
    purger.clock.set(start_at - 30 * DAY)
    assert await remind_people(purger.units) == 5


async def test_a_reminder_that_is_not_committed_is_sent_later(
    purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_at = await start_of(purger, a_tenant(left_at=LEFT_AT))
    purger.clock.set(start_at - 30 * DAY)
    with monkeypatch.context() as patch:
        patch.setattr("services.purger.reminders._say", Mock(side_effect=CrashError))
        with pytest.raises(CrashError):
            await remind_people(purger.units)
    assert await remind_people(purger.units) == 1


async def place_hold(purger: Purger, tenant: TenantState, *classes: DataClass) -> None:
    async with purger.units.begin() as uow:
        await uow.lock_tenant_exclusively(tenant.tenant_id)
        hold = holds.KeptHold(
            uuid4(), tenant.tenant_id, classes, "legal-claims", "file 7", "Ada", uow.now, None, None
        )
        await holds.place_hold(uow.connection, hold)
        await replan_and_say(uow, tenant.tenant_id)


def _next(tenant: TenantState) -> Version:
    return tenant.version.model_copy(update={"n": tenant.version.n + 1})
