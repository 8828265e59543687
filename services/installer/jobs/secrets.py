"""Forgets the secrets that sites have replaced."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from chassis.jobs import Job
from chassis.unit_of_work import Units
from services.installer.door import Door
from services.installer.store import tenants as store

_EVERY: Final = timedelta(minutes=5)


def secret_jobs(units: Units[Door]) -> Sequence[Job]:
    """Give the job that forgets each replaced secret once its time is over.

    It counts no more by then; this is about not keeping it.
    """

    async def forget() -> None:
        await store.forget_replaced_secrets(units.pool, wall=units.clock.wall())

    return [Job("forget replaced secrets", _EVERY, forget)]
