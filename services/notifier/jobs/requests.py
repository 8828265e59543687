"""Counts requests that wait, forgets old ones, and forgets again who was erased before a restore."""

from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.unit_of_work import Units
from services.notifier.context import Context
from services.notifier.domain.requests import LINK_LASTS, RECORD_KEPT
from services.notifier.requests import forget_person
from services.notifier.store import requests as store

log = structlog.get_logger(__name__)

_A_PAGE: Final = 100


class Requests:
    """The jobs about people's requests, with their figures, of which no label names anybody."""

    def __init__(self, units: Units[Context], registry: CollectorRegistry) -> None:
        self._units = units

        def gauge(name: str, told: str) -> Gauge:
            return Gauge(name, told, namespace=NAMESPACE, registry=registry)

        self.open = gauge("person_requests_open", "People's requests that wait for our staff.")
        self.overdue = gauge("person_requests_overdue", "Those of them whose last day is over.")

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("forget erased people", timedelta(minutes=1), self.forget_again),
            Job("count requests", timedelta(minutes=10), self.count),
            Job("tidy requests", timedelta(hours=1), self.tidy),
        )

    async def forget_again(self) -> int:
        """Forget everywhere who asked to be forgotten and is a contact all the same; count them.

        That happens where a restore brought them back, where a report named them at the same
        moment, or where we were stopped halfway.
        """
        found = await store.erased_and_still_known(self._units.pool, limit=_A_PAGE)
        for address_index in found:
            await forget_person(self._units, address_index)
        if found:
            log.warning("people forgotten again", people=len(found))
        return len(found)

    async def count(self) -> None:
        """Refresh the figures; an overdue request is an error."""
        today = self._units.clock.now().date()
        waiting = await store.count_waiting(self._units.pool, today=today)
        self.open.set(waiting.open)
        self.overdue.set(waiting.overdue)
        if waiting.overdue:
            log.error("people's requests are overdue", overdue=waiting.overdue)

    async def tidy(self) -> None:
        """Forget requests that were answered long ago, and those whose link nobody used."""
        now = self._units.clock.now()
        await store.drop_requests(
            self._units.pool, answered_before=now - RECORD_KEPT, lapsed_before=now - LINK_LASTS
        )
