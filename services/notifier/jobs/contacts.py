"""Reads who stands beside which licence, keeps those people, and forgets who does no longer."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Gauge
from pydantic import ValidationError

from chassis import reports
from chassis.identifiers import uuid7
from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.reports import REPORT_DUE_EVERY, ReportBegun
from chassis.unit_of_work import UnitOfWork, Units
from connect.marketplace import (
    Named,
    NoPerson,
    PeopleBatch,
    PeopleRow,
    Person,
    ReportSource,
    pause_after,
)
from connect.service_desk import plain_number
from contracts.classes import DataClass
from services.notifier.context import Context
from services.notifier.domain.contacts import language_of, segment
from services.notifier.domain.people import (
    ADDRESS,
    ADDRESS_INDEX,
    NAME,
    Access,
    ContactInput,
    Language,
    Role,
    access_to_contacts,
    one_form,
)
from services.notifier.domain.suppressions import Reason
from services.notifier.requests import forget_person
from services.notifier.store import contacts as store
from services.notifier.store import people, suppressions

log = structlog.get_logger(__name__)

_LOOK_EVERY: Final = timedelta(hours=1)
_A_PAGE: Final = 50


class PeopleFigures:
    """What is known of people and of the report; no label names a tenant or a person."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, told: str, *labels: str) -> Gauge:
            return Gauge(name, told, labels, namespace=NAMESPACE, registry=registry)

        self.contacts = gauge("contacts", "People to write to, by their role.", "role")
        self.suppressed = gauge(
            "suppressed_addresses", "Addresses that are not written to, by the reason.", "reason"
        )
        self.without_contact = gauge(
            "tenants_without_contact", "Tenants of whom nobody is known to write to."
        )
        self.report_age = gauge(
            "people_report_age_seconds",
            "How long ago the last report of people began that was read to its end.",
        )
        self.unreadable = gauge(
            "people_report_rows_unreadable",
            "Rows of the last report of people that could not be read.",
        )
        self.refused = gauge(
            "people_report_contacts_refused",
            "People of the last report whose name or address is none.",
        )


@dataclass(slots=True)
class _Known:
    """One person of a tenant, as one batch names them."""

    wanted: ContactInput
    language: Language
    stands: set[tuple[str, Role]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ContactJobs:
    """The jobs of contacts; without a source there is no report to read."""

    units: Units[Context]
    source: ReportSource | None
    figures: PeopleFigures
    report_every: timedelta = REPORT_DUE_EVERY

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals; says so where no report can be read."""
        jobs = (
            Job("tidy reports", _LOOK_EVERY, self.tidy),
            Job("measure people", timedelta(minutes=1), self.measure),
        )
        if self.source is None:
            log.warning("report of people is not read, as no account of the marketplace is set")
            return jobs
        source, look = self.source, min(_LOOK_EVERY, self.report_every)
        return (Job("read report of people", look, lambda: self.read_report(source)), *jobs)

    async def read_report(self, source: ReportSource) -> int | None:
        """Read the report if it is due; return how many people it named, None where it is not due.

        What was read stays when the rest cannot be had. Who is named no longer
        is forgotten only by a report of everything that was understood whole.
        """
        report = await self._begin()
        if report is None:
            return None
        tally: Counter[str] = Counter(people=0, unreadable=0, refused=0, erased=0)
        try:
            async with (
                source.open() as marketplace,
                aclosing(marketplace.people(report.updated_since)) as batches,
            ):
                async for batch in batches:
                    tally.update(await self._take_up(report, batch))
        except Exception as failure:
            until = self.units.clock.wall() + pause_after(failure)
            await reports.leave_report(self.units.pool, report.report_id, until=until)
            raise
        if report.updated_since is None and not tally["unreadable"]:
            tally["forgotten"] = await self._forget_unnamed(report.report_id)
        await reports.end_report(self.units.pool, report.report_id, now=self.units.clock.now())
        self.figures.refused.set(tally["refused"])
        log.info("report of people read", everything=report.updated_since is None, **tally)
        return tally["people"]

    async def _begin(self) -> ReportBegun | None:
        async with self.units.begin() as uow:
            waits = await store.somebody_waits(uow.connection)
            return await reports.begin_report(
                uow.connection,
                now=uow.now,
                wall=uow.wall,
                every=self.report_every,
                full_every=timedelta() if waits else reports.EVERYTHING_EVERY,
            )

    async def _take_up(self, report: ReportBegun, batch: PeopleBatch) -> Counter[str]:
        """Give a batch's people to the tenants whose licences they stand beside."""
        numbered = [(row, numbers) for row in batch.rows if (numbers := _numbers_of(row))]
        unreadable = batch.unreadable + len(batch.rows) - len(numbered)
        tally = Counter(unreadable=unreadable)
        wanted = {number for _, numbers in numbered for number in numbers}
        rows_of = defaultdict[UUID, list[PeopleRow]](list)
        for holder in await store.holders_of(self.units.pool, wanted):
            for row, numbers in numbered:
                if row.addon_key == holder.addon_key and holder.numbers.intersection(numbers):
                    rows_of[holder.tenant_id].append(row)
        erased = set[bytes]()
        tenants = list(rows_of)
        for start in range(0, len(tenants), _A_PAGE):
            async with self.units.begin() as uow:
                page = {each: rows_of[each] for each in tenants[start : start + _A_PAGE]}
                tally += await _keep_people(uow, report.report_id, page, erased)
        for address_index in erased:
            tally["erased"] += await forget_person(self.units, address_index)
        async with self.units.begin() as uow:
            await reports.note_rows(
                uow.connection,
                report.report_id,
                read=len(batch.rows),
                unreadable=unreadable,
                wall=uow.wall,
            )
        return tally

    async def _forget_unnamed(self, report_id: UUID) -> int:
        forgotten, after = 0, None
        while True:
            async with self.units.begin() as uow:
                page = await store.tenants_with_unnamed(
                    uow.connection, report_id, after=after, limit=_A_PAGE
                )
                for tenant_id in await _open_among(uow, page):
                    await uow.act_for(tenant_id)
                    gone = await store.drop_unnamed(uow.connection, tenant_id, report_id)
                    forgotten += await store.forget_contacts(uow.connection, tenant_id, gone)
            if len(page) < _A_PAGE:
                return forgotten
            after = page[-1]

    async def tidy(self) -> None:
        """Forget old readings."""
        before = self.units.clock.now() - reports.REPORTS_KEPT
        await reports.drop_reports(self.units.pool, ended_before=before)

    async def measure(self) -> None:
        """Refresh the figures."""
        pool, figures = self.units.pool, self.figures
        by_role, by_reason = (
            await store.count_by_role(pool),
            await suppressions.count_by_reason(pool),
        )
        for role in Role:
            figures.contacts.labels(role.value).set(by_role.get(role, 0))
        for reason in Reason:
            figures.suppressed.labels(reason.value).set(by_reason.get(reason, 0))
        figures.without_contact.set(await store.count_without_contact(pool))
        last = await reports.last_report(pool)
        if last is not None:
            figures.report_age.set((self.units.clock.now() - last.began_at).total_seconds())
            figures.unreadable.set(last.rows_unreadable)


async def _open_among(uow: UnitOfWork[Context], tenants: Sequence[UUID]) -> list[UUID]:
    """Lock tenants, and say of which of them people may be kept."""
    await uow.lock_tenants(tenants)
    guarded = await uow.erased_classes(tenants)
    return [
        tenant_id
        for tenant_id in tenants
        if access_to_contacts(
            await people.tenant(uow.connection, tenant_id), guarded.get(tenant_id, frozenset())
        )
        is Access.OPEN
    ]


async def _keep_people(
    uow: UnitOfWork[Context],
    report_id: UUID,
    rows_of: dict[UUID, list[PeopleRow]],
    erased: set[bytes],
) -> Counter[str]:
    """Keep the people of these tenants' licences; add to ``erased`` who is to be forgotten."""
    tally: Counter[str] = Counter()
    still_open = set(await _open_among(uow, list(rows_of)))
    for tenant_id, rows in rows_of.items():
        if tenant_id in still_open:
            await uow.act_for(tenant_id)
            tally += await _keep_of_tenant(uow, report_id, tenant_id, rows, erased)
        else:
            named = sum(isinstance(one, Person) for row in rows for _, _, one in _people_of(row))
            uow.count_suppressed("import", DataClass.CONTACTS, named)
    return tally


async def _keep_of_tenant(
    uow: UnitOfWork[Context],
    report_id: UUID,
    tenant_id: UUID,
    rows: Sequence[PeopleRow],
    erased: set[bytes],
) -> Counter[str]:
    tally: Counter[str] = Counter()
    keys, known = uow.context.keys, dict[bytes, _Known]()
    for row in rows:
        await store.note_reported(
            uow.connection,
            tenant_id,
            report_id,
            product=segment(row.parent_product_name),
            edition=segment(row.parent_product_edition),
            region=segment(row.region),
        )
        for number, role, named in _people_of(row):
            if named is NoPerson.ERASED:
                erased |= await store.last_named(uow.connection, tenant_id, number, role)
                continue
            wanted = _checked(tenant_id, named)
            if wanted is None:
                tally["refused"] += 1
                await store.believe_named_still(uow.connection, tenant_id, report_id, number, role)
                continue
            index = keys.blind_index(ADDRESS_INDEX, one_form(wanted.address))
            person = known.setdefault(index, _Known(wanted, language_of(row.country)))
            person.stands.add((number, role))
    for index in await suppressions.erased_among(uow.connection, known.keys()):
        del known[index]
        tally["kept_out"] += 1
    for index, person in known.items():
        await _keep(uow, report_id, index, person)
    tally["people"] += len(known)
    return tally


async def _keep(
    uow: UnitOfWork[Context], report_id: UUID, address_index: bytes, person: _Known
) -> None:
    tenant_id, keys = person.wanted.tenant_id, uow.context.keys
    sealed = people.SealedContact(
        uuid7(uow.now),
        await keys.seal(uow.connection, tenant_id, NAME, person.wanted.name.encode(), now=uow.now),
        await keys.seal(
            uow.connection, tenant_id, ADDRESS, person.wanted.address.encode(), now=uow.now
        ),
    )
    roles = tuple(sorted({role for _, role in person.stands}))
    standing = people.Standing(address_index, roles, person.language)
    contact_id, _ = await people.keep_contact(
        uow.connection, tenant_id, sealed, standing, now=uow.now
    )
    await store.name_contact(uow.connection, tenant_id, contact_id, report_id, person.stands)


def _checked(tenant_id: UUID, named: Named) -> ContactInput | None:
    """Read a person as a contact; None where the address is none, or name or address are too long."""
    if not isinstance(named, Person):
        return None
    try:
        return ContactInput(
            tenant_id=tenant_id, name=named.name or named.email, address=named.email
        )
    except ValidationError:
        return None


def _people_of(row: PeopleRow) -> Iterator[tuple[str, Role, Named]]:
    """Give whom a row names, with the licence's number and their role."""
    number = _numbers_of(row)[0]
    named = (
        (Role.TECHNICAL, row.technical),
        (Role.BILLING, row.billing),
        (Role.PARTNER, row.partner),
    )
    for role, person in named:
        if person is not NoPerson.ABSENT:
            yield number, role, person


def _numbers_of(row: PeopleRow) -> list[str]:
    """List the numbers of a row's licence in one form, that by which it is known again first."""
    numbers = (
        row.addon_licence_id,
        row.licence_id,
        row.app_entitlement_number,
        row.app_entitlement_id,
    )
    return [plain_number(number) for number in numbers if number]
