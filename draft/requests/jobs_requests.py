"""Counts people's requests that wait for an answer, and forgets those answered long ago."""

from datetime import timedelta

from prometheus_client import CollectorRegistry, Gauge

from chassis.database import Pool
from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.unit_of_work import Units
from services.notifier.context import Context
from services.notifier.domain.requests import RECORD_KEPT
from services.notifier.store import requests as store


class Requests:
    """The jobs about people's requests, with their figures."""

    def __init__(self, units: Units[Context], worker: Pool, registry: CollectorRegistry) -> None:
        self._units = units
        self._worker = worker
        self._open = Gauge(
            "person_requests_open",
            "Requests of people about their own data that wait for an answer.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self._overdue = Gauge(
            "person_requests_overdue",
            "Those of them whose last day is over.",
            namespace=NAMESPACE,
            registry=registry,
        )

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("count requests", timedelta(minutes=1), self.count),
            Job("tidy requests", timedelta(hours=1), self.tidy),
        )

    async def count(self) -> None:
        """Refresh the figures."""
        counted = await store.count_open(self._worker, today=self._units.clock.now().date())
        self._open.set(counted.open)
        self._overdue.set(counted.overdue)

    async def tidy(self) -> None:
        """Forget requests that were answered three years ago."""
        await store.drop_requests(
            self._worker, answered_before=self._units.clock.now() - RECORD_KEPT
        )
