"""Drills: databases come back from older copies, Kafka is lost, and nothing else comes back."""

import pytest

from contracts.classes import DataClass
from contracts.ledger import EntryKind, LedgerEntry, Restoration
from contracts.purges import Phase, Plan
from contracts.topics import SERVICES
from devstack.journey import Journey
from tests.support.drills import Drill
from tests.support.journey import (
    RELEASED_BY,
    Entrusted,
    entrust,
    leave,
    let_it_start,
    whole_ledger,
)

RECEIPTED = [
    EntryKind.TENANT_ERASED,
    EntryKind.RECEIPT,
    EntryKind.TENANT_ERASED,
    EntryKind.RECEIPT,
]
# What a service erases of a customer that `entrust` has installed.
ERASES = {
    "installer": {DataClass.INSTALLATION: 1},
    "config": {DataClass.CONTENT: 2, DataClass.ERRORS: 0},
    "notifier": {DataClass.CONTACTS: 1},
}


async def purged(journey: Journey) -> tuple[Plan, Entrusted]:
    """Let a customer come, leave and be purged, up to the last receipt."""
    given = await entrust(journey)
    await let_it_start(journey, await leave(journey))
    plan = await journey.wait_for_phase(Phase.CLOSED)
    await journey.wait_until_gone()
    return plan, given


async def entries_of(journey: Journey, plan: Plan) -> list[LedgerEntry]:
    ledger = await whole_ledger(journey)
    return [entry for entry in ledger.entries if entry.purge_id == plan.purge_id]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "restored",
    [
        ("installer", "purger"),
        *(pytest.param((service,), marks=pytest.mark.long) for service in SERVICES),
        pytest.param(SERVICES, marks=pytest.mark.long),
    ],
    ids="-".join,
)
async def test_nothing_comes_back_and_nothing_is_lost(
    drill: Drill, restored: tuple[str, ...]
) -> None:
    name = "-".join(restored)
    gone, late, staying, new = (
        drill.customer(f"{which}-{name}") for which in ("gone", "late", "staying", "new")
    )
    given = await entrust(gone)
    await entrust(late)
    await entrust(staying)
    kept = await staying.datasources()
    dumps = {service: await drill.dump(service) for service in restored}

    await let_it_start(gone, await leave(gone))
    done = await gone.wait_for_phase(Phase.CLOSED)
    await gone.wait_until_gone()
    plan = await leave(late)
    await new.install()
    before = await whole_ledger(gone)
    await drill.restore(dumps)

    await gone.wait_until_gone()
    assert await gone.traces_of(*given.secrets_of(gone)) == []
    assert len(await gone.receipt_mails(given.address)) == 1
    assert await staying.datasources() == kept
    still = await late.wait_for_plan()
    assert (still.purge_id, still.deadline) == (plan.purge_id, plan.deadline)
    if "installer" in restored:
        # Nobody knows its names any more, so it leaves in time.
        assert (await new.wait_for_plan()).deadline > drill.stack.now()
    else:
        assert await new.plans() == ()

    await expect_evidence(gone, done, restored)
    ledger = await whole_ledger(gone)
    assert ledger.entries[: len(before.entries)] == before.entries
    assert (await gone.brake()).engaged == ("purger" in restored)

    # All of it still works: who left in the lost days is purged in time, once, and told.
    await let_it_start(late, still)
    await late.wait_for_phase(Phase.CLOSED)
    recorded = [entry.kind for entry in await entries_of(late, still)]
    assert recorded == RECEIPTED
    await late.wait_until_gone()
    assert await staying.datasources() == kept
    assert len(await gone.receipt_mails(given.address)) == 1


async def expect_evidence(gone: Journey, done: Plan, restored: tuple[str, ...]) -> None:
    """The pair of receipts stands once, and beside it what had come back and was erased again."""
    owners = {service: ERASES[service] for service in restored if service in ERASES}
    told: dict[str, dict[DataClass, int]] = {}

    async def all_told() -> bool | None:
        entries = [e for e in await entries_of(gone, done) if e.kind is EntryKind.RESTORED]
        for entry in entries:
            restoration = Restoration.model_validate(entry.model_dump()["restoration"])
            told[restoration.service] = dict(restoration.counts)
        return True if told.keys() >= owners.keys() else None

    await gone.until(all_told, "the ledger says what came back")
    assert told == owners
    kinds = [entry.kind for entry in await entries_of(gone, done)]
    assert [kind for kind in kinds if kind is not EntryKind.RESTORED] == RECEIPTED
    ledger = await whole_ledger(gone)
    own = [
        entry
        for entry in ledger.entries
        if entry.kind is EntryKind.RESTORED
        and entry.model_dump()["restoration"]["service"] == "purger"
    ]
    assert ("purger" in restored) <= bool(own)


@pytest.mark.timeout(600)
async def test_with_kafka_lost_a_purge_under_way_ends_once_and_the_ledger_is_whole_again(
    drill: Drill,
) -> None:
    under_way, staying = drill.customer("under-way"), drill.customer("staying-on")
    earlier, _ = await purged(drill.customer("before-the-loss"))
    given = await entrust(under_way)
    await entrust(staying)
    kept = await staying.datasources()
    plan = await leave(under_way)
    # Config does not answer, so wave 1 is open.
    drill.stack.kill("config")
    await under_way.move_to(max(plan.start_at, drill.stack.now()))
    await under_way.wait_for_brake()
    await under_way.release_brake(*RELEASED_BY)
    await under_way.wait_for_phase(Phase.ERASING)
    before = await whole_ledger(under_way)

    await drill.lose_kafka()

    await under_way.wait_for_phase(Phase.CLOSED)
    await under_way.wait_until_gone()
    assert [entry.kind for entry in await entries_of(under_way, plan)] == RECEIPTED
    assert len(await under_way.receipt_mails(given.address)) == 1
    assert await under_way.traces_of(*given.secrets_of(under_way)) == []
    assert await staying.datasources() == kept
    ledger = await whole_ledger(under_way)
    assert ledger.entries[: len(before.entries)] == before.entries
    assert EntryKind.RESTORED not in {e.kind for e in ledger.entries[len(before.entries) :]}

    async def all_published() -> bool | None:
        return True if tuple(await drill.published()) == ledger.entries else None

    await under_way.until(all_published, "the topic has the whole ledger, each entry once")
    assert earlier.purge_id in {entry.purge_id for entry in ledger.entries}
    assert not (await under_way.brake()).engaged
