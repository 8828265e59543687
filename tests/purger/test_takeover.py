"""A purger that was restored goes on where the lost one had come to, and records nothing twice."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.epochs import ensure_epoch
from chassis.own_topics import Said
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import (
    GENESIS,
    BrokenChain,
    EntryKind,
    LedgerEntry,
    ReceiptStage,
    RestoredEntry,
    seal,
)
from contracts.purges import (
    DataErased,
    LegalBasis,
    Phase,
    PurgeRequested,
    PurgeStarted,
    WishedBy,
)
from contracts.tenants import ClassState, TenantState, TenantStatus, Version
from services.purger import takeover
from services.purger.context import Work
from services.purger.domain.takeover import ForkedLedgerError, entries_beyond, part_of
from services.purger.jobs import restate
from services.purger.planning import replan, replan_and_say
from services.purger.store import brake, purges, states
from services.purger.store import holds as store_of_holds
from services.purger.store import wishes as store_of_wishes
from services.purger.store.holds import KeptHold
from services.purger.takeover import continue_ledger, continue_purges
from tests.purger.builders import LEFT_AT, a_tenant, acceptance, answer
from tests.purger.conftest import Purger
from tests.purger.test_wishes import asked, withdrawn

PAIR = [
    EntryKind.TENANT_ERASED,
    EntryKind.RECEIPT,
    EntryKind.TENANT_ERASED,
    EntryKind.RECEIPT,
]


@dataclass
class Twins:
    """A purger that is lost, and one with an older copy of its database."""

    lost: Purger
    restored: Purger
    tenant: TenantState

    async def restore(self) -> None:
        """Let the older one take over what the lost one has said."""
        lost, restored = self.lost, self.restored
        restored.clock.set(lost.clock.now())
        async with restored.units.begin() as uow:
            await ensure_epoch(uow.connection, wall=uow.wall, force=True)
        await self.take_over()

    async def take_over(self) -> None:
        entries = await self.lost.ledger()
        async with self.restored.units.begin() as uow:
            await continue_ledger(uow, entries)
        async with self.restored.units.begin() as uow:
            said = Said(await self.lost.state(), uow.now)
            await continue_purges(uow, [said])
        async with self.restored.units.begin() as uow:
            await takeover.begin_next_life(uow)

    async def go_on(self) -> None:
        """Let the restored one ask, and everybody answer, until nothing is asked any more."""
        purger = self.restored
        asked = answered = 0
        for _ in range(6):
            purger.clock.advance(timedelta(hours=7))
            await purger.sweeps.ask_again()
            requests = await purger.said(PurgeRequested)
            orders = await purger.said(PurgeStarted)
            for request in requests[asked:]:
                await purger.hear(acceptance(request, purger.clock.now()))
            for order in orders[answered:]:
                await purger.hear(answer(order, purger.clock.now()))
            asked, answered = len(requests), len(orders)


@pytest.fixture
async def twins(purger: Purger, other_purger: Purger) -> Twins:
    """Both know a tenant that has left; what the one does from here on is lost."""
    tenant = a_tenant(left_at=LEFT_AT)
    await other_purger.hear(tenant)
    return Twins(purger, other_purger, tenant)


async def phase(purger: Purger) -> Phase:
    [plan] = (await purger.state()).plans
    return plan.phase


async def brake_reason(purger: Purger) -> str | None:
    async with purger.units.begin() as uow:
        return (await brake.read_brake(uow.connection)).reason


async def test_what_the_ledger_has_closed_is_not_ordered_for_ever(purger: Purger) -> None:
    """The copy was made while owners were asked, and their answers are in the lost days."""
    orders = await purger.begin()
    (plan,) = (await purger.state()).plans
    async with purger.units.begin() as uow:
        await purges.move_purges(uow.connection, [plan.purge_id], Phase.CLOSED, now=uow.now)
    for _ in range(3):
        purger.clock.advance(timedelta(days=1))
        await purger.sweeps.ask_again()
    assert len(await purger.said(PurgeStarted)) == len(orders)

    async with purger.units.begin() as uow:
        await purges.move_purges(uow.connection, [plan.purge_id], Phase.ERASING, now=uow.now)
    await purger.sweeps.ask_again()
    assert len(await purger.said(PurgeStarted)) == 2 * len(orders)


async def test_the_ledger_goes_on_from_the_last_entry_that_was_published(twins: Twins) -> None:
    await twins.lost.finish_wave_one(twins.tenant)
    published = await twins.lost.ledger()

    await twins.restore()

    continued = await twins.restored.ledger()
    assert continued[:-1] == published
    assert continued[-1].kind is EntryKind.RESTORED
    assert continued[-1].previous_hash == published[-1].hash
    told = RestoredEntry.model_validate(continued[-1].model_dump()).restoration
    assert (told.service, told.counts) == ("purger", {})
    assert await brake_reason(twins.restored) == "restored"


@pytest.mark.parametrize("lost_after", ["asking", "wave 1", "the first receipt", "the last one"])
async def test_a_purge_under_way_goes_on_to_one_pair_of_receipts(
    twins: Twins, lost_after: str
) -> None:
    match lost_after:
        case "asking":
            await twins.lost.ask(twins.tenant)
        case "wave 1":
            await twins.lost.begin(twins.tenant)
        case "the first receipt":
            await twins.lost.finish_wave_one(twins.tenant)
        case "the last one":
            for order in await twins.lost.finish_wave_one(twins.tenant):
                await twins.lost.hear(answer(order, twins.lost.clock.now()))
    published = await twins.lost.ledger()
    code = next((each.receipt.receipt_code for each in published if each.receipt), None)

    await twins.restore()
    await twins.go_on()

    entries = await twins.restored.ledger()
    assert entries[: len(published)] == published
    assert [each.kind for each in entries if each.kind is not EntryKind.RESTORED] == PAIR
    stages = [each.receipt for each in entries if each.receipt]
    assert [each.stage for each in stages] == list(ReceiptStage)
    codes = {each.receipt_code for each in stages}
    assert len(codes) == 1
    assert code is None or codes == {code}
    async with twins.restored.units.begin() as uow:
        plans = await states.plans_of(uow.connection, [twins.tenant.tenant_id])
    assert [plan.phase for plan in plans[twins.tenant.tenant_id][1]] == [Phase.CLOSED]


async def test_what_had_not_begun_waits_for_the_brake(twins: Twins) -> None:
    await twins.lost.hear(twins.tenant)
    twins.lost.clock.set((await twins.lost.state()).plans[0].start_at)

    await twins.restore()
    await twins.restored.sweeps.ask_for_due_purges()

    assert await twins.restored.said(PurgeRequested) == []
    assert await phase(twins.restored) is Phase.PLANNED


async def test_a_purge_whose_end_the_ledger_proves_is_closed_though_nobody_says_it_any_more(
    twins: Twins,
) -> None:
    for order in await twins.lost.finish_wave_one(twins.tenant):
        await twins.lost.hear(answer(order, twins.lost.clock.now()))
    entries = await twins.lost.ledger()
    async with twins.restored.units.begin() as uow:
        await ensure_epoch(uow.connection, wall=uow.wall, force=True)
        await continue_ledger(uow, entries)
    async with twins.restored.units.begin() as uow:
        await takeover.begin_next_life(uow)
        plans = await states.plans_of(uow.connection, [twins.tenant.tenant_id])
    assert [plan.phase for plan in plans[twins.tenant.tenant_id][1]] == [Phase.CLOSED]


async def test_what_the_ledger_has_closed_is_not_begun_anew_by_a_state_of_before(
    twins: Twins,
) -> None:
    for order in await twins.lost.finish_wave_one(twins.tenant):
        await twins.lost.hear(answer(order, twins.lost.clock.now()))
    entries = await twins.lost.ledger()
    (asking,) = await twins.lost.said(PurgeRequested)
    of_before = twins.tenant.model_copy(
        update={
            "version": Version(epoch=twins.tenant.version.epoch, n=99),
            "status": TenantStatus.PURGING,
            "purge_id": asking.purge_id,
            "classes": dict.fromkeys(TENANT_CLASSES, ClassState.PURGING),
        }
    )
    async with twins.restored.units.begin() as uow:
        await ensure_epoch(uow.connection, wall=uow.wall, force=True)
        await continue_ledger(uow, entries)

    await twins.restored.hear(of_before)
    await twins.restored.hear(acceptance(asking, twins.restored.clock.now()))

    async with twins.restored.units.begin() as uow:
        plans = await states.plans_of(uow.connection, [twins.tenant.tenant_id])
    assert [plan.phase for plan in plans[twins.tenant.tenant_id][1]] == [Phase.CLOSED]
    assert await twins.restored.said(PurgeStarted) == []
    assert await twins.restored.ledger() == entries


async def test_to_take_over_again_changes_nothing(twins: Twins) -> None:
    await twins.lost.finish_wave_one(twins.tenant)
    await twins.restore()
    before = await twins.restored.everything()
    await twins.take_over()
    assert await twins.restored.everything() == before


async def test_a_state_that_is_older_than_ours_is_left_alone(twins: Twins) -> None:
    await twins.lost.begin(twins.tenant)
    older = await twins.lost.state()
    await twins.restore()
    async with twins.restored.units.begin() as uow:
        plans = [plan.model_copy(update={"phase": Phase.WITHDRAWN}) for plan in older.plans]
        said = older.model_copy(update={"plans": tuple(plans)})
        assert await continue_purges(uow, [Said(said, uow.now)]) == 0


async def test_a_fork_starts_nothing(twins: Twins) -> None:
    await twins.lost.begin(twins.tenant)
    other = a_tenant(left_at=LEFT_AT)
    await twins.restored.begin(other)
    before = await twins.restored.everything()
    with pytest.raises(ForkedLedgerError, match="entry 1 of the topic is not the one"):
        await twins.take_over()
    assert await twins.restored.everything() == before


async def test_a_gap_starts_nothing(twins: Twins) -> None:
    await twins.lost.finish_wave_one(twins.tenant)
    entries = await twins.lost.ledger()
    with pytest.raises(ForkedLedgerError, match="entry 1 is missing"):
        entries_beyond(0, GENESIS, {}, entries[1:])


async def test_an_entry_that_another_key_signed_starts_nothing(twins: Twins) -> None:
    await twins.lost.begin(twins.tenant)
    [entry] = await twins.lost.ledger()
    forged = seal(entry, Ed25519PrivateKey.generate(), entry.key_id)
    with pytest.raises(BrokenChain, match="signature"):
        async with twins.restored.units.begin() as uow:
            await continue_ledger(uow, [forged])
    assert await twins.restored.ledger() == []


async def test_what_was_published_twice_counts_once(twins: Twins) -> None:
    await twins.lost.finish_wave_one(twins.tenant)
    entries = await twins.lost.ledger()
    assert entries_beyond(0, GENESIS, {}, [*entries[:2], *entries]) == entries


async def test_parts_read_from_entries_are_those_they_were_written_as(purger: Purger) -> None:
    for order in await purger.finish_wave_one():
        await purger.hear(answer(order, purger.clock.now()))
    await purger.hear(erased_again(await purger.said(PurgeStarted), purger))
    rows = await purger.runtime.fetch("SELECT part, entry FROM ledger ORDER BY number")
    assert [row["part"] for row in rows] == [
        part_of(LedgerEntry.decode(row["entry"])) for row in rows
    ]
    assert len({row["part"] for row in rows}) == 5


def erased_again(orders: list[PurgeStarted], purger: Purger, *, rows: int = 3) -> DataErased:
    """What an owner answers when the ledger made it erase what a restore had brought back."""
    answered = answer(orders[0], purger.clock.now(), rows=rows)
    return answered.model_copy(update={"restored_at": LEFT_AT})


async def test_what_came_back_and_was_erased_again_is_recorded_once(purger: Purger) -> None:
    orders = await purger.begin()
    again = erased_again(orders, purger)
    await purger.hear(again)
    await purger.hear(again)
    restored = [e for e in await purger.ledger() if e.kind is EntryKind.RESTORED]
    [told] = [RestoredEntry.model_validate(e.model_dump()).restoration for e in restored]
    assert restored[0].purge_id == again.purge_id
    assert (told.service, told.counts, told.restored_at) == (again.owner, again.counts, LEFT_AT)


async def test_evidence_is_kept_of_purges_that_are_forgotten(purger: Purger) -> None:
    orders = await purger.begin()
    again = erased_again(orders, purger).model_copy(update={"purge_id": uuid4()})
    await purger.hear(again)
    assert [e.purge_id for e in await purger.ledger()][1:] == [again.purge_id]


async def test_nothing_is_recorded_where_nothing_had_come_back(purger: Purger) -> None:
    orders = await purger.begin()
    await purger.hear(erased_again(orders, purger, rows=0))
    assert [e.kind for e in await purger.ledger()] == [EntryKind.TENANT_ERASED]


async def test_wishes_and_holds_that_stand_come_back_and_those_that_ended_do_not(
    twins: Twins,
) -> None:
    lost, restored, tenant_id = twins.lost, twins.restored, twins.tenant.tenant_id
    await lost.hear(twins.tenant)
    ended_wish, ended_hold = uuid4(), a_hold(tenant_id, DataClass.INSTALLATION)
    for each in (lost, restored):  # before the copy was made
        async with each.units.begin() as uow:
            await make_wish(uow, ended_wish, tenant_id)
            await store_of_holds.place_hold(uow.connection, ended_hold)
            await replan_and_say(uow, tenant_id)
    wish_id, hold = uuid4(), a_hold(tenant_id, DataClass.CONTENT)
    async with lost.units.begin() as uow:
        await store_of_wishes.withdraw_wish(
            uow.connection, ended_wish, tenant_id, made_by=WishedBy.CUSTOMER, now=uow.now
        )
        await store_of_holds.release_hold(
            uow.connection, ended_hold.hold_id, released_by="Ada", reason="over", now=uow.now
        )
        await make_wish(uow, wish_id, tenant_id)
        await store_of_holds.place_hold(uow.connection, hold)
        await replan_and_say(uow, tenant_id)
    expected = await lost.state()

    await twins.restore()

    async with restored.units.begin() as uow:
        wishes = await store_of_wishes.standing_wishes(uow.connection, [tenant_id])
        holds = await store_of_holds.standing_holds(uow.connection, [tenant_id])
        assert await purges.lock_plans(uow.connection, tenant_id) == sorted(
            expected.plans, key=lambda plan: plan.purge_id
        )
        # What the state means now is what stands: planning anew changes nothing.
        assert not await replan(uow, [twins.tenant])
    assert wishes[tenant_id] == expected.wishes
    assert [each.wish_id for each in expected.wishes] == [wish_id]
    assert holds[tenant_id] == expected.holds
    assert [each.hold_id for each in expected.holds] == [hold.hold_id]


async def test_a_wish_that_was_withdrawn_does_not_stand_when_it_is_heard_of_once_more(
    twins: Twins,
) -> None:
    first, second = [asked(twins.tenant) for _ in range(2)]
    for said in (twins.tenant, first, withdrawn(first), second):
        await twins.lost.hear(said)
    twins.lost.clock.set((await twins.lost.state()).plans[-1].start_at)
    await twins.lost.sweeps.ask_for_due_purges()
    (asking,) = await twins.lost.said(PurgeRequested)
    await twins.lost.hear(acceptance(asking, twins.lost.clock.now()))

    await twins.restore()
    for said in (twins.tenant, first, withdrawn(first), second):
        await twins.restored.hear(said)

    async with twins.restored.units.begin() as uow:
        wishes = await store_of_wishes.standing_wishes(uow.connection, [twins.tenant.tenant_id])
    assert [each.wish_id for each in wishes[twins.tenant.tenant_id]] == [second.wish_id]


async def test_a_hold_of_a_tenant_whose_state_has_not_come_again_yet_goes_on_being_said(
    purger: Purger, other_purger: Purger
) -> None:
    """Else a second restore, before that state comes, would know of no hold any more."""
    tenant = a_tenant()
    await purger.hear(tenant)
    hold = a_hold(tenant.tenant_id, DataClass.CONTENT)
    async with purger.units.begin() as uow:
        await store_of_holds.place_hold(uow.connection, hold)
        await replan_and_say(uow, tenant.tenant_id)
    restored = other_purger
    await Twins(purger, restored, tenant).restore()
    await restate(restored.units)

    assert [each.hold_id for each in (await restored.state()).holds] == [hold.hold_id]
    assert await restored.tombstones() == 0

    async with restored.units.begin() as uow:
        await store_of_holds.release_hold(
            uow.connection, hold.hold_id, released_by="Ada", reason="over", now=uow.now
        )
        await replan_and_say(uow, tenant.tenant_id)

    # Nothing else stands, and what stood said is taken back.
    assert await restored.tombstones() == 1


def a_hold(tenant_id: UUID, data_class: DataClass) -> KeptHold:
    return KeptHold(
        hold_id=uuid4(),
        tenant_id=tenant_id,
        classes=(data_class,),
        basis=LegalBasis.LEGAL_CLAIMS,
        reason="a claim",
        placed_by="Ada",
        placed_at=LEFT_AT,
        released_by=None,
        released_at=None,
    )


async def make_wish(uow: Work, wish_id: UUID, tenant_id: UUID) -> None:
    await store_of_wishes.record_wish(
        uow.connection,
        wish_id,
        tenant_id,
        made_by=WishedBy.CUSTOMER,
        asked_at=LEFT_AT + timedelta(days=2),
        now=uow.now,
    )
