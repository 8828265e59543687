"""Makes up for what a restore lost, from the installer's own topic."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import assert_never

import structlog

from chassis.broker import KafkaAccess
from chassis.own_topics import Said, last_said
from chassis.service import Running
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.tenants import ClassState, TenantState
from contracts.topics import INSTALLER_TENANTS
from services.installer.domain.takeover import Adopt, Bury, Renew, decide_take_over
from services.installer.domain.timelines import Entry
from services.installer.door import Door
from services.installer.store import access, timelines
from services.installer.store import tenants as store

log = structlog.get_logger(__name__)

_TENANTS_A_PAGE = 200


async def take_over(installer: Running[Door], kafka: KafkaAccess) -> None:
    """Bring every tenant to where it had come before the restore; done again it changes nothing.

    Call it before the ledger is applied, which writes newer versions over what
    is missed. All is said again afterwards, so nothing but tombstones is said here.
    """
    taken = 0
    async with aclosing(last_said(kafka, INSTALLER_TENANTS, TenantState)) as partitions:
        async for partition in partitions:
            ordered = sorted(partition, key=lambda said: said.state.tenant_id)
            for first in range(0, len(ordered), _TENANTS_A_PAGE):
                async with installer.units.begin() as uow:
                    page = ordered[first : first + _TENANTS_A_PAGE]
                    taken += await take_over_states(uow, page)
    async with installer.units.begin() as uow:
        refused = await access.count_losses_anew(uow.connection)
    log.warning("restored, states taken over from the topic", tenants=taken, refused=refused)


async def take_over_states(uow: UnitOfWork[Door], page: Sequence[Said[TenantState]]) -> int:
    """Take over what these states know better, in the order of their ids; count them."""
    guarded = await uow.erased_classes([said.state.tenant_id for said in page])
    taken = 0
    for said in page:
        tenant_id = said.state.tenant_id
        known = await store.lock_tenant(uow.connection, tenant_id)
        decision = decide_take_over(
            known,
            said.state,
            said_at=said.said_at,
            erased=guarded.get(tenant_id, frozenset()),
        )
        match decision:
            case None:
                continue
            case Renew(state, seen_at):
                await store.write_state(uow.connection, state)
                await store.note_whether_installed(uow.connection, state)
                if seen_at is not None:
                    await store.note_seen(uow.connection, tenant_id, now=seen_at)
                await _remember_purge(uow, state)
            case Adopt(state):
                await store.add_orphan(uow.connection, state)
                await _remember_purge(uow, state)
                if state.classes[DataClass.INSTALLATION] is ClassState.LIVE:
                    await timelines.add_entry(
                        uow.connection, tenant_id, Entry.ORPHANED, now=uow.now
                    )
                log.error("tenant orphaned, somebody has to look", tenant_id=tenant_id)
            case Bury():
                store.say_gone(uow, tenant_id)
            case other:
                assert_never(other)
        taken += 1
    return taken


async def _remember_purge(uow: UnitOfWork[Door], state: TenantState) -> None:
    """Know the purge that took a tenant past the point of no return, by which receipts find it."""
    classes = [each for each, is_at in state.classes.items() if is_at is ClassState.PURGING]
    if state.purge_id is not None and classes:
        await store.record_purge(
            uow.connection, state.purge_id, state.tenant_id, classes, now=uow.now
        )
