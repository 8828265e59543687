"""Makes up for what a restore lost, from purger's own topics: the ledger, and the purges under way."""

from collections.abc import Sequence
from contextlib import aclosing

import structlog

from chassis.broker import KafkaAccess
from chassis.epochs import behind_since
from chassis.own_topics import Record, Said, last_said, pages_of
from chassis.service import Running
from chassis.unit_of_work import Units
from contracts.envelope import from_headers
from contracts.ledger import LedgerEntry, LedgerHead, verify_chain
from contracts.purges import PurgeState
from contracts.registry import by_ce_type
from contracts.topics import PURGER_LEDGER, PURGER_PURGES
from services.purger import ledger
from services.purger.context import Context, Work
from services.purger.domain.takeover import entries_beyond, part_of, plan_taken_over
from services.purger.store import brake, takeover
from services.purger.store import ledger as store_of_ledger
from services.purger.store import purges as store_of_purges
from services.purger.store.ledger import NewEntry, Publication

log = structlog.get_logger(__name__)

_TENANTS_AT_ONCE = 200
WHY_BRAKED = "restored"


async def take_over(purger: Running[Context], kafka: KafkaAccess) -> None:
    """Continue the ledger and the purges from where they had come before the restore.

    Afterwards the ledger says that there was one, what had begun is asked for
    again, and what has not begun waits for two people. Done again it changes
    nothing. Raises ``ForkedLedgerError`` or ``BrokenChain`` before anything is said.
    """
    units = purger.units
    entries = await _take_over_ledger(units, kafka, purger.resources.cluster_id)
    purges = await _take_over_purges(units, kafka)
    async with units.begin() as uow:
        await begin_next_life(uow)
    log.error("restored, two people have to release the brake", entries=entries, purges=purges)


async def _take_over_ledger(units: Units[Context], kafka: KafkaAccess, cluster_id: str) -> int:
    taken = 0
    async with aclosing(pages_of(kafka, PURGER_LEDGER)) as pages:
        async for _, page in pages:
            said = _entries_in(page)
            if not said:
                continue
            async with units.begin() as uow:
                taken += await continue_ledger(uow, said)
            async with units.begin() as uow:
                await _note_published(uow, cluster_id, said[-1])
    return taken


def _entries_in(page: Sequence[Record]) -> list[LedgerEntry]:
    entries = []
    for record in page:
        known = by_ce_type(from_headers(record.headers).type)
        if record.value is not None and known is not None and known.model is not LedgerHead:
            entries.append(LedgerEntry.decode(record.value))
    return entries


async def continue_ledger(uow: Work, said: Sequence[LedgerEntry]) -> int:
    """Append what these entries of the topic have beyond ours; return how many that were."""
    end = await store_of_ledger.lock_ledger(uow.connection)
    known = await store_of_ledger.entry_hashes(uow.connection, {entry.number for entry in said})
    beyond = entries_beyond(end.number, end.hash, known, said)
    verify_chain(beyond, uow.context.ledger_key().public_keys, start_hash=end.hash)
    if beyond:
        await store_of_ledger.append_entries(
            uow.connection, [NewEntry(entry, part_of(entry)) for entry in beyond]
        )
    return len(beyond)


async def _note_published(uow: Work, cluster_id: str, last: LedgerEntry) -> None:
    """Say nothing again that stands on the topic already."""
    said = await store_of_ledger.lock_publication(uow.connection)
    if said.cluster_id == cluster_id and said.number < last.number:
        await store_of_ledger.save_publication(
            uow.connection, Publication(cluster_id, last.number, last.hash, said.head_said_at)
        )


async def _take_over_purges(units: Units[Context], kafka: KafkaAccess) -> int:
    taken = 0
    async with aclosing(last_said(kafka, PURGER_PURGES, PurgeState)) as partitions:
        async for partition in partitions:
            for first in range(0, len(partition), _TENANTS_AT_ONCE):
                async with units.begin() as uow:
                    page = partition[first : first + _TENANTS_AT_ONCE]
                    taken += await continue_purges(uow, page)
    return taken


async def continue_purges(uow: Work, page: Sequence[Said[PurgeState]]) -> int:
    """Take over what these states say that is newer than what we know; return how many were."""
    tenant_ids = [said.state.tenant_id for said in page]
    versions = await takeover.versions_said(uow.connection, tenant_ids)
    newer = [
        said.state
        for said in page
        if said.state.tenant_id not in versions
        or versions[said.state.tenant_id] < said.state.version
    ]
    for state in newer:
        own = await store_of_purges.lock_plans(uow.connection, state.tenant_id)
        known = {plan.purge_id: plan for plan in own}
        for said in state.plans:
            plan = plan_taken_over(said, known.get(said.purge_id))
            if plan is not None:
                await takeover.take_over_plan(uow.connection, state.tenant_id, plan, now=uow.now)
        await takeover.take_over_wishes(
            uow.connection, state.tenant_id, state.wishes, state.withdrawn_wishes, now=uow.now
        )
        await takeover.take_over_holds(
            uow.connection, state.tenant_id, state.holds, why=WHY_BRAKED, now=uow.now
        )
        await takeover.take_over_version(uow.connection, state.tenant_id, state.version)
    return len(newer)


async def begin_next_life(uow: Work) -> None:
    """Let purges agree with the ledger, record the restore there, and engage the brake."""
    restored_at = await behind_since(uow.connection)
    assert restored_at is not None
    await takeover.agree_with_ledger(uow.connection, now=uow.now)
    await ledger.record_own_restore(uow, restored_at)
    if (await brake.lock_brake(uow.connection)).engaged_at is None:
        await brake.engage_brake(uow.connection, WHY_BRAKED, now=uow.now)
