"""Reads the Marketplace's licence report, and gives each licence to whom it belongs."""

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from chassis import reports
from chassis.identifiers import uuid7
from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.reports import REPORT_DUE_EVERY, ReportBegun
from chassis.unit_of_work import Units
from connect.marketplace import (
    LicenceBatch,
    LicenceRow,
    ReportSource,
    pause_after,
)
from contracts.classes import DataClass
from services.installer.domain import licences as domain
from services.installer.domain.licences import Licence, LicenceName
from services.installer.door import Door
from services.installer.store import licences as store
from services.installer.subscriptions import join_licences, licence_hash, renew_subscriptions

log = structlog.get_logger(__name__)

LOOK_EVERY: Final = timedelta(hours=1)

_A_PAGE: Final = 200
_KINDS: Final = ("strong", "weak", "none")


class LicenceFigures:
    """What is known of licences and of the report; no label names a tenant."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.licences = Gauge(
            "licences",
            "Licences of the Marketplace's report, by how their installation is known.",
            ("addon_key", "matched"),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.report_age = Gauge(
            "licence_report_age_seconds",
            "How long ago the last report began that was read to its end.",
            namespace=NAMESPACE,
            registry=registry,
        )
        self.unreadable = Gauge(
            "licence_report_rows_unreadable",
            "Rows of the last report that could not be read.",
            namespace=NAMESPACE,
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class LicenceJobs:
    """The jobs of licences; without a source there is no report to read."""

    units: Units[Door]
    addon_keys: frozenset[str]
    source: ReportSource | None
    figures: LicenceFigures
    report_every: timedelta = REPORT_DUE_EVERY

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals; says so where no report can be read."""
        look = min(LOOK_EVERY, self.report_every)
        jobs = (
            Job("match licences", look, self.match),
            Job("tidy licences", LOOK_EVERY, self.tidy),
            Job("measure licences", timedelta(minutes=1), self.measure),
        )
        if self.source is None:
            log.warning("licence report is not read, as no account of the marketplace is set")
            return jobs
        source = self.source
        return (Job("read licence report", look, lambda: self.read_report(source)), *jobs)

    async def read_report(self, source: ReportSource) -> int | None:
        """Read the report if it is due; return how many licences it held.

        What was read stays when the rest cannot be had, and is read again the
        next time: to take a licence up twice changes nothing.
        """
        report = await self._begin()
        if report is None:
            return None
        tally = Counter(licences=0, unreadable=0, of_other_apps=0, purged_before=0)
        try:
            async with (
                source.open() as marketplace,
                aclosing(marketplace.licences(report.updated_since)) as batches,
            ):
                async for batch in batches:
                    tally.update(await self._take_up(report, batch))
        except Exception as failure:
            until = self.units.clock.wall() + pause_after(failure)
            await reports.leave_report(self.units.pool, report.report_id, until=until)
            raise
        await reports.end_report(self.units.pool, report.report_id, now=self.units.clock.now())
        log.info("licence report read", everything=report.updated_since is None, **tally)
        await self.make_lone_tenants()
        return tally["licences"]

    async def _begin(self) -> ReportBegun | None:
        async with self.units.begin() as uow:
            return await reports.begin_report(
                uow.connection,
                now=uow.now,
                wall=uow.wall,
                every=self.report_every,
            )

    async def _take_up(self, report: ReportBegun, batch: LicenceBatch) -> dict[str, int]:
        """Store a batch's licences, then join them: licences are locked after their tenants."""
        ours = [row for row in batch.rows if row.addon_key in self.addon_keys]
        today = self.units.clock.wall().date()
        licences = [licence for row in ours if (licence := _licence_of(row, today)) is not None]
        unreadable = batch.unreadable + len(ours) - len(licences)
        by_name = {licence.name: licence for licence in licences}
        async with self.units.begin() as uow:
            fresh = await self._without_purged(by_name)
            purged = len(by_name) - len(fresh)
            uow.count_suppressed("import", DataClass.INSTALLATION, purged)
            await store.save_licences(
                uow.connection, fresh, now=uow.now, last_day_past=domain.last_day_past(uow.now)
            )
            await reports.note_rows(
                uow.connection,
                report.report_id,
                read=len(batch.rows),
                unreadable=unreadable,
                wall=uow.wall,
            )
        names = list(by_name)
        for start in range(0, len(names), _A_PAGE):
            async with self.units.begin() as uow:
                await join_licences(uow, names[start : start + _A_PAGE])
        return {
            "licences": len(batch.rows),
            "unreadable": unreadable,
            "of_other_apps": len(batch.rows) - len(ours),
            "purged_before": purged,
        }

    async def _without_purged(self, by_name: dict[LicenceName, Licence]) -> list[Licence]:
        keys = self.units.context.keys
        hashes = {name: licence_hash(keys, name) for name in by_name}
        purged = await store.purged_at(self.units.pool, hashes.values())
        return [
            licence
            for name, licence in by_name.items()
            if hashes[name] not in purged or domain.may_return(licence, purged[hashes[name]])
        ]

    async def match(self) -> int:
        """Look for the installations of licences that have none, or none that is sure.

        Then those become tenants that are to stand alone. Returns how many
        licences were given to another.
        """
        pool = self.units.pool
        await store.note_lost_installations(pool)
        changed, after = 0, None
        while names := await store.joinable_licences(pool, after=after, limit=_A_PAGE):
            async with self.units.begin() as uow:
                changed += await join_licences(uow, names)
            after = names[-1]
        await self.make_lone_tenants()
        await self._renew_who_came_or_went()
        return changed

    async def make_lone_tenants(self) -> int:
        """Make tenants of licences that have no installation; return how many."""
        made = 0
        while True:
            async with self.units.begin() as uow:
                licences = await store.lock_lone_licences(
                    uow.connection,
                    seen_before=uow.now - domain.CLOUD_WAITS,
                    last_day_past=domain.last_day_past(uow.now),
                    limit=_A_PAGE,
                )
                epoch = await uow.epoch()
                await store.add_lone_tenants(
                    uow,
                    {
                        licence.name: domain.lone_tenant(
                            uuid7(uow.wall), licence, epoch=epoch, now=uow.now
                        )
                        for licence in licences
                    },
                )
            made += len(licences)
            if len(licences) < _A_PAGE:
                return made

    async def _renew_who_came_or_went(self) -> None:
        after = None
        while page := await store.out_of_step(self.units.pool, after=after, limit=_A_PAGE):
            async with self.units.begin() as uow:
                await renew_subscriptions(uow, page)
            after = page[-1]

    async def tidy(self) -> None:
        """Forget licences that are nobody's and over, old hashes of purged ones, old readings."""
        now = self.units.clock.now()
        await store.drop_old(
            self.units.pool,
            last_day_past=domain.last_day_past(now),
            purged_before=now - domain.PURGED_KEPT,
        )
        await reports.drop_reports(self.units.pool, ended_before=now - reports.REPORTS_KEPT)

    async def measure(self) -> None:
        """Refresh the figures."""
        counts = await store.count_licences(self.units.pool)
        for addon_key in self.addon_keys:
            for kind in _KINDS:
                gauge = self.figures.licences.labels(addon_key, kind)
                gauge.set(counts.get((addon_key, kind), 0))
        last = await reports.last_report(self.units.pool)
        if last is not None:
            age = self.units.clock.now() - last.began_at
            self.figures.report_age.set(age.total_seconds())
            self.figures.unreadable.set(last.rows_unreadable)


def _licence_of(row: LicenceRow, today: date) -> Licence | None:
    """Read a row as a licence; None for one without any number to know it by again."""
    numbers: Sequence[str | None] = (
        row.addon_licence_id,
        row.licence_id,
        row.app_entitlement_number,
        row.app_entitlement_id,
    )
    number = next(filter(None, numbers), None)
    if number is None:
        return None
    return Licence(
        name=LicenceName(row.addon_key, number),
        sen=row.licence_id,
        entitlement_id=row.app_entitlement_id,
        entitlement_number=row.app_entitlement_number,
        hosting=row.hosting or domain.UNKNOWN,
        status=row.status,
        licence_type=row.licence_type or domain.UNKNOWN,
        ends_on=row.maintenance_end_date,
        cloud_id=row.cloud_id,
        site_host=row.cloud_site_hostname,
        last_updated=row.last_updated or today,
    )
