"""Writes reports together: who waits for the answer knows that its report is on the disk."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

import structlog

from chassis.database import TRANSIENT_ERRORS
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from services.config.context import Context
from services.config.domain.access import Access, access_to_content
from services.config.domain.error_reports import Report, fingerprint_of
from services.config.store import errors as store

log = structlog.get_logger(__name__)

_A_TRANSACTION: Final = 500
_MOST_WAITING: Final = 4_000


class Verdict(StrEnum):
    """What became of a report."""

    STORED = "stored"
    GOING = "going"
    """The tenant's reports are being erased, or are erased."""
    CLOSED = "closed"
    """The tenant is not served here, so nothing is kept of it."""
    AWAY = "away"
    """There is no room now, or no database: try again."""
    FAILED = "failed"


async def remember_apps(uow: UnitOfWork[Context], apps: Mapping[UUID, str]) -> None:
    """Know of which app each tenant's reports are, unless these are erased; the tenants are locked.

    A class can be erased alone, where another one is held.
    """
    erased = await uow.erased_classes(apps)
    kept = {
        tenant_id: app
        for tenant_id, app in apps.items()
        if DataClass.ERRORS not in erased.get(tenant_id, frozenset())
    }
    await store.save_apps(uow.connection, kept)


def access_to_errors(reporter: store.Reporter | None, erased: frozenset[DataClass]) -> Access:
    """Say whether a tenant's error reports may be stored, by the guard first and then its state.

    They go to whom content may go: both are erased together, and neither is kept of a Forge app.
    """
    if DataClass.ERRORS in erased:
        return Access.GOING
    return access_to_content(reporter.tenant if reporter else None, erased)


@dataclass(frozen=True, slots=True)
class _Waiting:
    tenant_id: UUID
    report: Report
    verdict: "asyncio.Future[Verdict]"


class Intake:
    """Takes reports one by one and writes them by the hundred.

    While one transaction is on its way, those who come wait for the next one; alone, one waits for
    nobody. When too many wait there is no room, so memory does not grow with the number of callers.
    """

    def __init__(self, *, most_waiting: int = _MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def take(self, units: Units[Context], tenant_id: UUID, report: Report) -> Verdict:
        """Write a report, and say once its transaction has ended what became of it."""
        if len(self._waiting) >= self._most_waiting:
            return Verdict.AWAY
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(tenant_id, report, verdict))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(units), name="error reports")
        return await verdict

    async def _write_all(self, units: Units[Context]) -> None:
        while self._waiting:
            batch = self._waiting[:_A_TRANSACTION]
            del self._waiting[:_A_TRANSACTION]
            verdicts = await self._write(units, batch)
            for waiting, verdict in zip(batch, verdicts, strict=True):
                # Who went away meanwhile has cancelled it.
                if not waiting.verdict.done():
                    waiting.verdict.set_result(verdict)

    async def _write(self, units: Units[Context], batch: Sequence[_Waiting]) -> list[Verdict]:
        try:
            return await _write_together(units, batch)
        except TRANSIENT_ERRORS as failure:
            log.warning("error reports not written", error=type(failure).__name__)
            return [Verdict.AWAY] * len(batch)
        except Exception as failure:
            if len(batch) == 1:
                log.exception("error report not written", error=type(failure).__name__)
                return [Verdict.FAILED]
        # One of them is to blame, and the others are not.
        return [verdict for each in batch for verdict in await self._write(units, [each])]


async def _write_together(units: Units[Context], batch: Sequence[_Waiting]) -> list[Verdict]:
    tenant_ids = {waiting.tenant_id for waiting in batch}
    async with units.begin() as uow:
        await uow.lock_tenants(tenant_ids)
        erased = await uow.erased_classes(tenant_ids)
        reporters = await store.reporters(uow.connection, tenant_ids)
        access = {
            tenant_id: access_to_errors(
                reporters.get(tenant_id), erased.get(tenant_id, frozenset())
            )
            for tenant_id in tenant_ids
        }
        taken = [
            _taken(reporters[waiting.tenant_id], waiting.report)
            for waiting in batch
            if access[waiting.tenant_id] is Access.OPEN
        ]
        if taken:
            await uow.act_for(*{each.tenant_id for each in taken})
            await store.add_reports(uow.connection, taken, now=uow.now)
        verdicts = [_verdict(access[waiting.tenant_id]) for waiting in batch]
        if suppressed := verdicts.count(Verdict.GOING):
            uow.count_suppressed("route", DataClass.ERRORS, suppressed)
    return verdicts


def _taken(reporter: store.Reporter, report: Report) -> store.Taken:
    fingerprint = fingerprint_of(reporter.app, report)
    return store.Taken(reporter.tenant.tenant_id, reporter.app, fingerprint, report)


def _verdict(access: Access) -> Verdict:
    match access:
        case Access.OPEN:
            return Verdict.STORED
        case Access.GOING:
            return Verdict.GOING
        case _:
            return Verdict.CLOSED
