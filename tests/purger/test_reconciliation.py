"""What an owner holds is compared with what it should hold; two rounds decide, and then it is mended."""

from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from contracts.censuses import (
    BUCKETS,
    CensusDoubted,
    CensusListed,
    CensusTaken,
    HeldTenant,
    StatesDoubted,
    Tally,
)
from contracts.classes import DataClass
from contracts.purges import PurgeStarted
from contracts.tenants import TenantState, Version
from services.purger.reconciliation import ReconciliationFigures, reconciliation_jobs
from tests.purger.builders import LEFT_AT, a_tenant, answer
from tests.purger.conftest import Purger

ROUND = timedelta(hours=6)
Held = Mapping[UUID, Version]


def held(*tenants: TenantState) -> dict[UUID, Version]:
    return {tenant.tenant_id: tenant.version for tenant in tenants}


def a_census(
    holds: Held, *, owner: str = "config", of: DataClass = DataClass.CONTENT
) -> CensusTaken:
    """A census as the contract describes it, made without the SQL that makes ours."""
    buckets: list[list[str]] = [[] for _ in range(BUCKETS)]
    for tenant_id, version in sorted(holds.items(), key=lambda item: item[0].bytes):
        buckets[tenant_id.bytes[15]].append(f"{tenant_id} {version.epoch} {version.n}")
    digests = tuple(sha256(",".join(bucket).encode()).hexdigest() for bucket in buckets)
    tally = Tally(data_class=of, tenants=len(holds), digests=digests)
    return CensusTaken(owner=owner, census_id=uuid4(), taken_at=LEFT_AT, tallies=(tally,))


def a_list(doubt: CensusDoubted, holds: Held) -> CensusListed:
    tenants = tuple(
        HeldTenant(tenant_id=tenant_id, version=version)
        for tenant_id, version in holds.items()
        if tenant_id.bytes[15] in doubt.buckets
    )
    return CensusListed(
        **doubt.model_dump(include={"owner", "census_id", "data_class", "buckets"}),
        tenants=tenants,
        last=True,
    )


async def a_round(purger: Purger, holds: Held, **of: object) -> CensusDoubted | None:
    """Take a census, and answer what is doubted of it; then hours go by."""
    before = len(await purger.said(CensusDoubted))
    await purger.hear(a_census(holds, **of))  # type: ignore[arg-type]
    doubts = (await purger.said(CensusDoubted))[before:]
    for doubt in doubts:
        await purger.hear(a_list(doubt, holds))
    purger.clock.advance(ROUND)
    return doubts[0] if doubts else None


async def differences(purger: Purger) -> list[tuple[str, UUID]]:
    rows = await purger.runtime.fetch("SELECT kind, tenant_id FROM differences ORDER BY kind")
    return [(row["kind"], row["tenant_id"]) for row in rows]


async def figures(purger: Purger) -> dict[str, float]:
    registry = CollectorRegistry()
    (job,) = reconciliation_jobs(purger.units, ReconciliationFigures(registry))
    await job.run()
    return {
        "_".join([sample.name.removeprefix("keepword_reconciliation_"), *sample.labels.values()]): (
            sample.value
        )
        for metric in registry.collect()
        for sample in metric.samples
        if sample.value
    }


async def a_purged_tenant(purger: Purger) -> tuple[TenantState, list[PurgeStarted]]:
    """A tenant whose every owner has erased it; with the orders by which they did."""
    tenant = a_tenant(left_at=LEFT_AT)
    orders = await purger.begin(tenant)
    for order in orders:
        await purger.hear(answer(order, purger.clock.now()))
    wave_2 = (await purger.said(PurgeStarted))[-1]
    await purger.hear(answer(wave_2, purger.clock.now()))
    return tenant, [*orders, wave_2]


async def test_owners_that_hold_what_they_should_are_asked_nothing(purger: Purger) -> None:
    tenants = [a_tenant(n=n) for n in range(1, 40)]
    await purger.hear(*tenants)

    assert await a_round(purger, held(*tenants)) is None
    assert await differences(purger) == []
    assert await figures(purger) == {
        "completed_timestamp_seconds_config": (purger.clock.wall() - ROUND).timestamp()
    }


async def test_only_buckets_that_differ_are_doubted(purger: Purger) -> None:
    tenants = [a_tenant() for _ in range(20)]
    await purger.hear(*tenants)
    stranger = uuid4()

    doubt = await a_round(purger, held(*tenants) | {stranger: Version(epoch=0, n=0)})

    assert doubt is not None
    assert doubt.buckets == (stranger.bytes[15],)


async def test_a_comparison_is_finished_when_every_list_has_come(purger: Purger) -> None:
    await purger.hear(a_tenant())
    census = a_census({})
    await purger.hear(census)
    assert await figures(purger) == {}
    (doubt,) = await purger.said(CensusDoubted)
    listed = a_list(doubt, {})
    await purger.hear(listed.model_copy(update={"last": False}))
    assert await figures(purger) == {}
    await purger.hear(listed)
    assert (await figures(purger)).keys() == {"completed_timestamp_seconds_config"}


async def test_what_is_held_of_an_erased_tenant_is_ordered_to_be_erased_again(
    purger: Purger,
) -> None:
    tenant, orders = await a_purged_tenant(purger)
    before = len(await purger.said(PurgeStarted))

    await a_round(purger, held(tenant))
    assert await differences(purger) == [("erased-but-held", tenant.tenant_id)]
    assert len(await purger.said(PurgeStarted)) == before
    await a_round(purger, held(tenant))

    (again,) = (await purger.said(PurgeStarted))[before:]
    (first,) = [order for order in orders if order.owner == "config"]
    assert (again.purge_id, again.step, again.ledger_number) == (
        first.purge_id,
        first.step,
        first.ledger_number,
    )
    assert again.classes == first.classes
    # The owner answers, and the purge that is long closed stays as it is.
    pictured = await purger.ledger()
    await purger.hear(answer(again, purger.clock.now(), rows=1))
    assert await purger.ledger() == pictured
    await a_round(purger, {})
    assert await differences(purger) == []


async def test_contacts_that_came_back_are_erased_again_under_their_receipts_code(
    purger: Purger,
) -> None:
    tenant, orders = await a_purged_tenant(purger)
    before = len(await purger.said(PurgeStarted))
    for _ in range(2):
        await a_round(purger, held(tenant), owner="notifier", of=DataClass.CONTACTS)
    (again,) = (await purger.said(PurgeStarted))[before:]
    assert again == orders[-1]
    assert again.receipt_code is not None


async def test_an_erasure_that_is_not_answered_yet_is_no_difference(purger: Purger) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    orders = await purger.begin(tenant)
    for _ in range(3):
        await a_round(purger, held(tenant))
    assert await differences(purger) == []
    assert await purger.said(PurgeStarted) == orders


async def test_a_tenant_that_an_owner_does_not_know_is_restated(purger: Purger) -> None:
    known, unknown = a_tenant(), a_tenant()
    await purger.hear(known, unknown)
    for _ in range(2):
        assert await purger.said(StatesDoubted) == []
        await a_round(purger, held(known))
    assert await purger.said(StatesDoubted) == [StatesDoubted(tenant_ids=(unknown.tenant_id,))]


async def test_a_version_that_lags_is_restated_whoever_lags(purger: Purger) -> None:
    tenant = a_tenant(n=5)
    await purger.hear(tenant)
    for n, owner, of in (
        (4, "config", DataClass.CONTENT),
        (6, "installer", DataClass.INSTALLATION),
    ):
        before = len(await purger.said(StatesDoubted))
        for _ in range(2):
            version = {tenant.tenant_id: Version(epoch=1, n=n)}
            await a_round(purger, version, owner=owner, of=of)
        assert len(await purger.said(StatesDoubted)) == before + 1


async def test_what_moves_between_rounds_is_no_difference(purger: Purger) -> None:
    tenant = a_tenant(n=9)
    await purger.hear(tenant)
    for n in range(1, 6):
        await a_round(purger, {tenant.tenant_id: Version(epoch=1, n=n)})
    assert await purger.said(StatesDoubted) == []


async def test_two_rounds_of_two_replicas_are_not_far_enough_apart(purger: Purger) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    for _ in range(3):
        await a_round(purger, {})
        purger.clock.advance(timedelta(minutes=1) - ROUND)
    # Business time may jump meanwhile.
    purger.clock.jump(timedelta(days=90))
    await a_round(purger, {})
    assert await purger.said(StatesDoubted) == []


async def test_what_has_passed_by_itself_is_forgotten_and_begins_anew(purger: Purger) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    for holds in ({}, held(tenant), {}):
        await a_round(purger, holds)
    assert await differences(purger) == [("not-held", tenant.tenant_id)]
    assert await purger.said(StatesDoubted) == []


async def test_what_nothing_mends_is_an_error_and_a_figure_until_it_is_gone(
    purger: Purger,
) -> None:
    stranger = {uuid4(): Version(epoch=0, n=0)}
    for _ in range(2):
        await a_round(purger, stranger)
    assert len(await purger.said(StatesDoubted)) == 1
    assert "differences_unknown" not in await figures(purger)

    with capture_logs() as logs:
        await a_round(purger, stranger)

    [said] = [entry for entry in logs if entry["log_level"] == "error"]
    assert (said["event"], said["kind"], said["owner"]) == (
        "difference not explained",
        "unknown",
        "config",
    )
    assert (await figures(purger))["differences_unknown"] == 1
    # It is mended once, not in each round.
    assert len(await purger.said(StatesDoubted)) == 1
    await a_round(purger, {})
    assert "differences_unknown" not in await figures(purger)


async def test_a_list_that_comes_again_changes_nothing_more(purger: Purger) -> None:
    tenant, _ = await a_purged_tenant(purger)
    doubt = await a_round(purger, held(tenant))
    assert doubt is not None
    await purger.hear(a_list(doubt, held(tenant)))
    before = len(await purger.said(PurgeStarted))
    picture = await purger.everything()
    await purger.hear(a_list(doubt, held(tenant)).model_copy(update={"last": False}))
    assert len(await purger.said(PurgeStarted)) == before
    assert await purger.everything() == picture


@pytest.mark.parametrize(
    ("owner", "of"), [("config", DataClass.CONTACTS), ("nobody", DataClass.CONTENT)]
)
async def test_who_speaks_of_what_is_not_its_own_is_not_believed(
    purger: Purger, owner: str, of: DataClass
) -> None:
    with capture_logs() as logs:
        assert await a_round(purger, {uuid4(): Version(epoch=0, n=0)}, owner=owner, of=of) is None
    assert "census of what is another's" in [entry["event"] for entry in logs]
    assert await differences(purger) == []
