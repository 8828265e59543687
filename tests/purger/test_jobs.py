"""The brake, the ledger's publication, and what a start says."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from contracts.ledger import GENESIS, LedgerEntry, LedgerHead
from contracts.purges import PurgeRequested, PurgeStarted, PurgeState
from services.purger import jobs
from services.purger.jobs import HEAD_SAID_EVERY, Sweeps, restart, restate
from services.purger.store import brake as store
from services.purger.store import ledger
from tests.purger.builders import ACTIVE, DAY, LEFT_AT, a_tenant, acceptance, answer
from tests.purger.conftest import CLUSTER, CrashError, Purger

HOUR = timedelta(hours=1)


async def asked_for(purger: Purger) -> int:
    return len(await purger.said(PurgeRequested))


async def let_time_pass(purger: Purger, by: timedelta) -> None:
    """Move both clocks, with a sweep before and after."""
    await purger.sweeps.ask_for_due_purges()
    purger.clock.advance(by)
    await purger.sweeps.ask_for_due_purges()


async def engaged(purger: Purger) -> str | None:
    async with purger.units.begin() as uow:
        return (await store.read_brake(uow.connection)).reason


async def release(purger: Purger) -> None:
    async with purger.units.begin() as uow:
        await store.release_brake(uow.connection, now=uow.now)


async def tenants_that_left(purger: Purger, count: int, *, of: int) -> None:
    for _ in range(count):
        await purger.hear(a_tenant(left_at=LEFT_AT))
    await purger.hear(*[a_tenant() for _ in range(of - count)])


# -- the brake ------------------------------------------------------------------------------------


async def test_purges_start_while_both_clocks_run_alike(purger: Purger) -> None:
    await tenants_that_left(purger, 9, of=20)

    await let_time_pass(purger, 170 * DAY)

    assert await asked_for(purger) == 9
    assert await engaged(purger) is None


async def test_all_that_is_due_is_asked_for_in_one_sweep(
    purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_AT_ONCE", 2)
    await tenants_that_left(purger, 5, of=20)
    await purger.sweeps.ask_for_due_purges()
    purger.clock.advance(170 * DAY)

    assert await purger.sweeps.ask_for_due_purges() == 5


async def test_a_clock_that_jumps_holds_every_purge_until_it_is_released(purger: Purger) -> None:
    await tenants_that_left(purger, 1, of=20)
    await purger.sweeps.ask_for_due_purges()
    purger.clock.jump(170 * DAY)

    with capture_logs() as lines:
        await purger.sweeps.ask_for_due_purges()
        await purger.sweeps.ask_for_due_purges()

    assert await asked_for(purger) == 0
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", "brake engaged"),
        ("error", "brake holds purges"),
    ]
    assert await engaged(purger) == "clock-jumped"
    await release(purger)
    await purger.sweeps.ask_for_due_purges()
    assert await asked_for(purger) == 1


async def test_a_jump_between_two_processes_on_one_database_is_seen(purger: Purger) -> None:
    await Sweeps(purger.units, CLUSTER).ask_for_due_purges()
    purger.clock.advance(DAY)
    purger.clock.jump(HOUR + timedelta(seconds=1))

    await Sweeps(purger.units, CLUSTER).ask_for_due_purges()

    assert await engaged(purger) == "clock-jumped"


async def test_too_many_tenants_at_once_are_held(purger: Purger) -> None:
    await tenants_that_left(purger, 10, of=20)

    await let_time_pass(purger, 170 * DAY)

    assert await asked_for(purger) == 0
    assert await engaged(purger) == "too-many-due"


async def test_tenants_that_come_drop_by_drop_are_counted_over_a_day(purger: Purger) -> None:
    await tenants_that_left(purger, 9, of=20)
    await let_time_pass(purger, 170 * DAY)
    await purger.hear(a_tenant(left_at=LEFT_AT), a_tenant(left_at=LEFT_AT))
    purger.clock.advance(HOUR)

    await purger.sweeps.ask_for_due_purges()

    assert await asked_for(purger) == 9
    assert await engaged(purger) == "too-many-due"


async def test_a_day_later_as_many_may_leave_again(purger: Purger) -> None:
    await tenants_that_left(purger, 9, of=20)
    await let_time_pass(purger, 170 * DAY)
    await purger.hear(a_tenant(left_at=LEFT_AT))
    purger.clock.advance(DAY)

    await purger.sweeps.ask_for_due_purges()

    assert await asked_for(purger) == 10


async def test_what_was_released_passes_and_what_comes_after_is_counted_anew(
    purger: Purger,
) -> None:
    await tenants_that_left(purger, 12, of=20)
    await let_time_pass(purger, 170 * DAY)
    await release(purger)
    for _ in range(12):
        await purger.hear(a_tenant(left_at=LEFT_AT - 30 * DAY))

    await purger.sweeps.ask_for_due_purges()

    assert await engaged(purger) == "too-many-due"
    assert await asked_for(purger) == 0
    await release(purger)
    await purger.sweeps.ask_for_due_purges()
    assert await asked_for(purger) == 24


async def test_what_is_under_way_is_not_held(purger: Purger) -> None:
    orders = await purger.begin()
    purger.clock.jump(2 * HOUR)
    await purger.sweeps.ask_for_due_purges()
    assert await engaged(purger) == "clock-jumped"

    for order in orders:
        await purger.hear(answer(order, purger.clock.now()))
    purger.clock.advance(HOUR)

    assert await purger.sweeps.ask_again() == 1


# -- the ledger's publication -----------------------------------------------------------------


async def test_entries_are_said_once_and_in_order(purger: Purger) -> None:
    await restart(purger.units, CLUSTER)
    await purger.finish_wave_one()

    assert await purger.sweeps.publish_ledger() == 3
    assert await purger.sweeps.publish_ledger() == 0

    assert await purger.said(LedgerEntry) == await purger.ledger()


async def test_an_empty_ledger_has_a_head_too(purger: Purger) -> None:
    await restart(purger.units, CLUSTER)

    (head,) = await purger.said(LedgerHead)
    assert (head.number, head.hash, head.cluster_id) == (0, GENESIS, CLUSTER)


async def test_each_start_and_each_day_says_how_long_the_ledger_is(purger: Purger) -> None:
    await restart(purger.units, CLUSTER)
    await purger.finish_wave_one()
    await restart(purger.units, CLUSTER)
    await purger.sweeps.publish_ledger()
    purger.clock.advance(HEAD_SAID_EVERY - timedelta(seconds=1))
    await purger.sweeps.publish_ledger()
    assert [head.number for head in await purger.said(LedgerHead)] == [0, 3]

    purger.clock.advance(timedelta(seconds=1))
    await purger.sweeps.publish_ledger()

    heads = await purger.said(LedgerHead)
    assert [head.number for head in heads] == [0, 3, 3]
    assert heads[-1].hash == (await purger.ledger())[-1].hash


async def test_a_new_kafka_cluster_hears_the_whole_ledger_and_then_its_head(
    purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.purger.ledger._ENTRIES_A_PAGE", 2)
    await restart(purger.units, CLUSTER)
    await purger.finish_wave_one()
    await purger.sweeps.publish_ledger()

    await restart(purger.units, "cluster-two")

    said = await purger.said(LedgerEntry)
    assert said[3:] == await purger.ledger()
    last = (await purger.said(LedgerHead))[-1]
    assert (last.number, last.cluster_id) == (3, "cluster-two")


async def test_a_crash_while_the_ledger_is_said_says_nothing_and_forgets_nothing(
    purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await restart(purger.units, CLUSTER)
    await purger.finish_wave_one()

    async def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "save_publication", crash)
        with pytest.raises(CrashError):
            await purger.sweeps.publish_ledger()

    assert await purger.said(LedgerEntry) == []
    assert await purger.sweeps.publish_ledger() == 3


# -- start and restating ------------------------------------------------------------------------


async def test_a_start_asks_again_for_all_that_is_open(purger: Purger) -> None:
    orders = await purger.begin()
    await purger.hear(answer(orders[0], purger.clock.now()))
    asked = await purger.ask(a_tenant(left_at=LEFT_AT))

    await restart(purger.units, CLUSTER)
    await purger.sweeps.ask_again()

    assert (await purger.said(PurgeRequested))[-1] == asked
    assert (await purger.said(PurgeStarted))[3:] == orders[1:]


async def test_restating_says_every_tenants_purges_with_newer_versions(
    purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_AT_ONCE", 2)
    for _ in range(5):
        await purger.hear(a_tenant(left_at=LEFT_AT, subscription=ACTIVE))
    before = {state.tenant_id: state for state in await purger.said(PurgeState)}

    await restate(purger.units)

    after = {state.tenant_id: state for state in (await purger.said(PurgeState))[5:]}
    assert after.keys() == before.keys()
    for tenant_id, state in after.items():
        assert state.plans == before[tenant_id].plans
        assert state.version > before[tenant_id].version


async def test_a_tenant_of_whom_nothing_is_left_is_not_restated(purger: Purger) -> None:
    (contacts,) = await purger.finish_wave_one()
    await purger.hear(answer(contacts, purger.clock.now()))
    said = len(await purger.said(PurgeState))

    await restate(purger.units)

    assert len(await purger.said(PurgeState)) == said


async def test_a_version_begins_with_the_present_epoch(purger: Purger) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT))

    version = (await purger.state()).version

    assert version.epoch == await purger.runtime.fetchval("SELECT max(epoch) FROM relay_epochs")


async def test_purges_that_are_over_are_kept_while_the_tenant_has_others(purger: Purger) -> None:
    await purger.finish_wave_one(a_tenant(left_at=LEFT_AT, subscription=ACTIVE))
    purger.clock.advance(31 * DAY)

    assert await purger.sweeps.drop_old_purges() == 0


async def test_no_purge_is_asked_for_twice_by_two_sweeps_at_once(purger: Purger) -> None:
    await purger.hear(*[a_tenant(left_at=LEFT_AT) for _ in range(5)])
    purger.clock.advance(170 * DAY)

    assert sorted([await purger.sweeps.ask_for_due_purges() for _ in range(2)]) == [0, 5]

    for asked in await purger.said(PurgeRequested):
        await purger.hear(acceptance(asked, purger.clock.now()))
    assert len(await purger.ledger()) == 5
