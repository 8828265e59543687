"""Compares what the owners of data hold with what they should hold, and mends what differs.

An owner says every few hours of which tenants it holds data, as digests of buckets. Where a digest
is not the one that we expect, the owner lists the bucket. What changes while it is counted looks
like a difference and is none, so nothing is done before two rounds, an hour apart, have found the
same. What mends it is what exists: an order of the ledger again, a state again.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Gauge

from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.unit_of_work import Units
from contracts.censuses import CensusDoubted, CensusListed, CensusTaken, StatesDoubted, Tally
from contracts.classes import DataClass
from contracts.purges import Scope
from services.purger.context import Context, Work
from services.purger.domain.reconciliation import (
    ROUNDS_APART,
    DifferenceKind,
    Expected,
    Mend,
    Seen,
    Unexplained,
    difference,
    judge_difference,
)
from services.purger.domain.steps import StepPlan, steps_of
from services.purger.progress import order_erasure
from services.purger.store import reconciliation as store

log = structlog.get_logger(__name__)

MOST_STATES_A_MESSAGE: Final = 1_000


async def compare(uow: Work, census: CensusTaken) -> None:
    """Ask for lists of the buckets whose digests are not the expected ones; settle the others."""
    doubted: dict[DataClass, tuple[int, ...]] = {}
    for tally in census.tallies:
        if _step_of(census.owner, tally.data_class) is None:
            log.error("census of what is another's", owner=census.owner, of=tally.data_class)
            continue
        expected = await store.expected_tally(uow.connection, tally.data_class)
        buckets = _differing(tally, expected)
        if buckets:
            doubted[tally.data_class] = buckets
        await store.note_differences(
            uow.connection,
            census.owner,
            tally.data_class,
            buckets=set(range(len(tally.digests))) - set(buckets),
            found={},
            wall=uow.wall,
        )
    await store.begin_comparison(uow.connection, census.owner, census.census_id, doubted)
    await store.finish_comparison(uow.connection, census.owner, census.census_id, wall=uow.wall)
    for data_class, buckets in doubted.items():
        uow.outbox.add(
            CensusDoubted(
                owner=census.owner,
                census_id=census.census_id,
                data_class=data_class,
                buckets=buckets,
            )
        )


def _differing(said: Tally, expected: Tally) -> tuple[int, ...]:
    pairs = zip(said.digests, expected.digests, strict=True)
    return tuple(bucket for bucket, (one, other) in enumerate(pairs) if one != other)


async def settle(uow: Work, listed: CensusListed) -> None:
    """Compare listed buckets tenant by tenant with what we know now; mend what has stood."""
    step = _step_of(listed.owner, listed.data_class)
    if step is None:
        log.error("list of what is another's", owner=listed.owner, of=listed.data_class)
        return
    held = {tenant.tenant_id: tenant.version for tenant in listed.tenants}
    expected = await store.expected_in(
        uow.connection, listed.data_class, step=step.step, buckets=listed.buckets, besides=held
    )
    found = {
        tenant_id: (kind, held.get(tenant_id))
        for tenant_id in expected.keys() | held.keys()
        if (
            kind := difference(
                listed.owner, held.get(tenant_id), expected.get(tenant_id, Expected())
            )
        )
    }
    seen = await store.note_differences(
        uow.connection,
        listed.owner,
        listed.data_class,
        buckets=listed.buckets,
        found=found,
        wall=uow.wall,
    )
    await _judge(uow, step, listed.data_class, seen)
    if listed.last:
        await store.close_class(uow.connection, listed.owner, listed.census_id, listed.data_class)
        await store.finish_comparison(uow.connection, listed.owner, listed.census_id, wall=uow.wall)


async def _judge(uow: Work, step: StepPlan, data_class: DataClass, seen: Sequence[Seen]) -> None:
    to_mend = []
    for each in seen:
        match judge_difference(each, uow.wall):
            case Mend():
                to_mend.append(each)
            case Unexplained():
                log.error(
                    "difference not explained",
                    kind=each.kind,
                    owner=step.owner,
                    of=data_class,
                    tenant_id=each.tenant_id,
                )
            case None:
                pass
    if not to_mend:
        return
    mended_at = uow.wall
    again = [each.tenant_id for each in to_mend if each.kind is DifferenceKind.ERASED_BUT_HELD]
    for order in await store.orders_from_ledger(uow.connection, step, data_class, again):
        order_erasure(uow, order)
    _doubt_states(uow, [each.tenant_id for each in to_mend if each.tenant_id not in set(again)])
    await store.note_mending(
        uow.connection,
        step.owner,
        data_class,
        [each.tenant_id for each in to_mend],
        wall=mended_at,
    )
    log.warning(
        "differences are being mended",
        owner=step.owner,
        of=data_class,
        erased_again=len(again),
        restated=len(to_mend) - len(again),
    )


def _doubt_states(uow: Work, tenant_ids: Sequence[UUID]) -> None:
    for start in range(0, len(tenant_ids), MOST_STATES_A_MESSAGE):
        page = tenant_ids[start : start + MOST_STATES_A_MESSAGE]
        uow.outbox.add(StatesDoubted(tenant_ids=tuple(page)))


def _step_of(owner: str, data_class: DataClass) -> StepPlan | None:
    """The step in which an owner erases a class; None where the class is not its own."""
    steps = steps_of(Scope.EVERYTHING)
    return next((s for s in steps if s.owner == owner and data_class in s.classes), None)


# -- figures ----------------------------------------------------------------------------------


class ReconciliationFigures:
    """What the comparison has come to; labels name kinds and services, never a tenant."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.differences = Gauge(
            "reconciliation_differences",
            "Differences between services that nothing explains and nothing has mended, by kind.",
            ("kind",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.completed_timestamp_seconds = Gauge(
            "reconciliation_completed_timestamp_seconds",
            "Wall time at which an owner's census was last compared to its end.",
            ("owner",),
            namespace=NAMESPACE,
            registry=registry,
        )


def reconciliation_jobs(units: Units[Context], figures: ReconciliationFigures) -> Collection[Job]:
    """The job that sets the figures, with its interval."""

    async def measure() -> None:
        async with units.begin() as uow:
            counts = await store.count_unexplained(
                uow.connection, mended_before=uow.wall - ROUNDS_APART
            )
            finished = await store.last_comparisons(uow.connection)
        for kind in DifferenceKind:
            figures.differences.labels(kind).set(counts.get(kind, 0))
        for owner, finished_at in finished.items():
            figures.completed_timestamp_seconds.labels(owner).set(finished_at.timestamp())

    return (Job("measure reconciliation", timedelta(minutes=1), measure),)
