"""Has people reminded of a purge before it starts; no purge waits for it, nor for what comes of it."""

from datetime import timedelta
from typing import Final

from chassis.jobs import Job
from chassis.unit_of_work import Units
from contracts.purges import PurgeReminder
from services.purger.context import Context, Work
from services.purger.domain.reminders import Reminder
from services.purger.store import purges as store

_AT_ONCE: Final = 200


def reminders_job(units: Units[Context]) -> Job:
    """Look once a minute whom to remind."""

    async def remind() -> int:
        return await remind_people(units)

    return Job("remind people", timedelta(minutes=1), remind)


async def remind_people(units: Units[Context]) -> int:
    """Say of each planned purge that nears its start that people are to be reminded; count them."""
    reminded, more = 0, True
    while more:
        async with units.begin() as uow:
            due, more = await store.claim_reminders(uow.connection, now=uow.now, limit=_AT_ONCE)
            for reminder in due:
                _say(uow, reminder)
        reminded += len(due)
    return reminded


def _say(uow: Work, reminder: Reminder) -> None:
    uow.outbox.add(
        PurgeReminder(
            purge_id=reminder.purge_id,
            step=reminder.step,
            tenant_id=reminder.tenant_id,
            classes=reminder.classes,
            clock=reminder.clock,
            start_at=reminder.start_at,
            erase_by=reminder.erase_by,
            days_before=reminder.days_before,
        )
    )
