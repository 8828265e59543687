"""An owner's act in a purge: guarded, keyed, complete, looked at again, answered once or more."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg import Connection

from chassis import erasure
from chassis.clock import ManualClock
from chassis.erasure import (
    NOBODY,
    BlindVerificationError,
    EraserJob,
    ErasureOrder,
    accept_erasure,
    accept_erasures,
)
from contracts.classes import DataClass
from contracts.messages import Kind
from contracts.purges import DataErased
from tests.support.chassis import SAMPLE_MAP, Sample

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINE = ("notes", "tenant_keys", "inbox", "dead_letters", "dead_letter_versions")


def an_order(tenant_id: UUID, **changes: object) -> ErasureOrder:
    given = {
        "purge_id": uuid4(),
        "step": "erase-sample",
        "tenant_id": tenant_id,
        "classes": (DataClass.CONTENT,),
        "ledger_number": 1,
    }
    return ErasureOrder(**(given | changes))  # type: ignore[arg-type]


def an_eraser(sample: Sample, **changes: object) -> EraserJob[None]:
    given = {
        "units": sample.units(),
        "worker": sample.worker,
        "eraser": sample.eraser,
        "data_map": SAMPLE_MAP,
        "key_class": DataClass.CONTENT,
    }
    return EraserJob(**(given | changes))  # type: ignore[arg-type]


async def note(sample: Sample, tenant_id: UUID, count: int = 3) -> None:
    async with sample.units().begin() as uow:
        await uow.act_for(tenant_id)
        for _ in range(count):
            await uow.connection.execute(
                "INSERT INTO notes VALUES ($1, $2, 'secret plan')", tenant_id, uuid4()
            )
        await uow.connection.execute(
            "INSERT INTO tenant_keys VALUES ($1, 'wrapped', 'kek', $2)", tenant_id, NOW
        )
        await uow.connection.execute(
            "INSERT INTO inbox VALUES ('c', $1, $2, $3)", uuid4(), tenant_id, NOW
        )
        letter = await uow.connection.fetchval(
            "INSERT INTO dead_letters (dead_letter_id, consumer, handler, topic, partition,"
            " record_offset, tenant_id, headers, reason, fingerprint, attempts, first_failed_at)"
            " VALUES (gen_random_uuid(), 'c', 'h', 't', 0, 0, $1, '[]', 'r', 'f', 1, $2)"
            " RETURNING dead_letter_id",
            tenant_id,
            NOW,
        )
        await uow.connection.execute(
            "INSERT INTO dead_letter_versions VALUES ($1, 2, $2, 'mended', $3)",
            letter,
            tenant_id,
            NOW,
        )


async def accept(sample: Sample, order: ErasureOrder, **options: bool) -> bool:
    async with sample.units().begin() as uow:
        return await accept_erasure(uow, order, **options)


async def left_of(sample: Sample, tenant_id: UUID) -> dict[str, int]:
    return {
        table: await sample.eraser.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant_id
        )
        for table in MINE
    }


async def answers(sample: Sample) -> list[DataErased]:
    rows = await sample.worker.fetch(
        "SELECT payload FROM outbox WHERE type = 'keepword.data-erased.v1' ORDER BY position"
    )
    return [DataErased.decode(row["payload"]) for row in rows]


async def test_one_tenant_is_erased_with_its_key_and_the_other_is_untouched(
    sample: Sample,
) -> None:
    leaving, staying = uuid4(), uuid4()
    for tenant in (leaving, staying):
        await note(sample, tenant)
    order = an_order(leaving)
    assert await accept(sample, order)
    assert await an_eraser(sample).run() == 1
    assert await left_of(sample, leaving) == dict.fromkeys(MINE, 0)
    assert await left_of(sample, staying) == dict.fromkeys(MINE, 1) | {"notes": 3}
    [answer] = await answers(sample)
    assert (answer.purge_id, answer.remaining) == (order.purge_id, 0)
    assert answer.counts == {DataClass.CONTENT: 3}
    assert answer.data_map_hash == SAMPLE_MAP.hash()


async def test_an_order_that_comes_again_is_looked_at_and_answered_again_with_the_same_counts(
    sample: Sample,
) -> None:
    clock = ManualClock(NOW)
    sample = sample.at(clock)
    tenant = uuid4()
    await note(sample, tenant)
    order = an_order(tenant)
    await accept(sample, order)
    await an_eraser(sample).run()
    clock.advance(timedelta(minutes=1))
    assert not await accept(sample, order)
    await an_eraser(sample).run()
    first, second = await answers(sample)
    assert first.counts == second.counts == {DataClass.CONTENT: 3}


async def test_an_order_that_comes_again_while_its_answer_is_on_its_way_makes_no_other(
    sample: Sample,
) -> None:
    clock = ManualClock(NOW)
    sample = sample.at(clock)
    order = an_order(uuid4())
    await accept(sample, order)
    await an_eraser(sample).run()
    clock.advance(timedelta(seconds=10))
    await accept(sample, order)
    assert await an_eraser(sample).run() == 0
    assert len(await answers(sample)) == 1


async def test_many_orders_are_accepted_at_once_and_one_that_comes_twice_is_one(
    sample: Sample,
) -> None:
    known, new = an_order(uuid4()), an_order(uuid4())
    await accept(sample, known)
    async with sample.units().begin() as uow:
        assert await accept_erasures(uow, [new, known, new]) == {new.name}
        assert await accept_erasures(uow, []) == set()
    assert await an_eraser(sample).run() == 2
    assert {answer.purge_id for answer in await answers(sample)} == {known.purge_id, new.purge_id}


async def test_the_ledger_repeating_an_order_that_is_done_makes_no_answer(sample: Sample) -> None:
    tenant = uuid4()
    order = an_order(tenant)
    await accept(sample, order)
    await an_eraser(sample).run()
    await accept(sample, order, answer_again=False)
    assert await an_eraser(sample).run() == 0
    assert len(await answers(sample)) == 1


async def test_many_tenants_are_erased_together_and_each_has_its_own_count(sample: Sample) -> None:
    tenants = {uuid4(): count for count in range(1, 6)}
    for tenant, count in tenants.items():
        await note(sample, tenant, count)
        await accept(sample, an_order(tenant))
    assert await an_eraser(sample).run() == 5
    assert {a.tenant_id: a.counts[DataClass.CONTENT] for a in await answers(sample)} == tenants


async def test_no_statement_deletes_more_than_its_share(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    execute = Connection.execute

    async def counting(self: Any, query: str, *rest: Any, **more: Any) -> str:
        status: str = await execute(self, query, *rest, **more)
        if "DELETE FROM notes" in query:
            sizes.append(int(status.removeprefix("DELETE ")))
        return status

    monkeypatch.setattr(Connection, "execute", counting)
    monkeypatch.setattr(erasure, "_ROWS_A_STATEMENT", 2)
    tenant = uuid4()
    await note(sample, tenant, 5)
    await accept(sample, an_order(tenant))

    await an_eraser(sample).run()

    assert sizes == [2, 2, 1]
    assert (await left_of(sample, tenant))["notes"] == 0
    assert [answer.counts for answer in await answers(sample)] == [{DataClass.CONTENT: 5}]


@pytest.mark.parametrize(("rest", "rests"), [(0.0, False), (2.0, True)])
async def test_it_rests_after_each_full_statement_unless_at_full_speed(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, rest: float, rests: bool
) -> None:
    """Other tenants wait for the same disk; a small erasure is one statement and rests never."""
    rested: list[float] = []

    async def note_rest(seconds: float) -> None:
        rested.append(seconds)

    monkeypatch.setattr(erasure, "_ROWS_A_STATEMENT", 2)
    monkeypatch.setattr(erasure, "sleep", note_rest)
    small, large = uuid4(), uuid4()
    for tenant, rows in ((small, 1), (large, 5)):
        await note(sample, tenant, rows)
        await accept(sample, an_order(tenant))
        await an_eraser(sample, rest=rest).run()
        assert len(rested) == (0 if tenant is small else 2)
    assert all(seconds > 0 for seconds in rested) is rests
    assert (await left_of(sample, large))["notes"] == 0


async def test_from_the_guards_commit_on_no_writer_gets_through(sample: Sample) -> None:
    """A writer that waited for the lock sees the guard in its second statement."""
    tenant = uuid4()
    order = an_order(tenant)
    writer_waits = asyncio.Event()

    async def write_late() -> frozenset[DataClass]:
        async with sample.units().begin() as uow:
            await uow.connection.execute("SELECT 1")
            writer_waits.set()
            await uow.lock_tenants([tenant])
            return (await uow.erased_classes([tenant])).get(tenant, frozenset())

    async with sample.units().begin() as uow:
        await accept_erasure(uow, order)
        late = asyncio.create_task(write_late())
        await writer_waits.wait()
    assert await late == {DataClass.CONTENT}


async def test_an_erasure_waits_for_a_writer_that_was_there_first(sample: Sample) -> None:
    tenant = uuid4()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def write_first() -> None:
        async with sample.units().begin() as uow:
            await uow.lock_tenants([tenant])
            assert not await uow.erased_classes([tenant])
            entered.set()
            await leave.wait()
            await uow.act_for(tenant)
            await uow.connection.execute("INSERT INTO notes VALUES ($1, $2, 'x')", tenant, uuid4())

    writer = asyncio.create_task(write_first())
    await entered.wait()
    erasing = asyncio.create_task(accept(sample, an_order(tenant)))
    assert not (await asyncio.wait({erasing}, timeout=0.2))[0]
    leave.set()
    await asyncio.gather(writer, erasing)
    await an_eraser(sample).run()
    assert (await left_of(sample, tenant))["notes"] == 0


async def test_a_role_that_would_not_see_rows_may_not_say_that_there_are_none(
    sample: Sample,
) -> None:
    await accept(sample, an_order(uuid4()))
    await sample.eraser.execute("DELETE FROM notes WHERE tenant_id = $1", NOBODY)
    with pytest.raises(BlindVerificationError, match="notes"):
        await an_eraser(sample).run()
    assert await answers(sample) == []


async def test_a_worker_that_dies_delays_an_erasure_by_one_lease(sample: Sample) -> None:
    clock = ManualClock(NOW)
    at = sample.at(clock)
    tenant = uuid4()
    await note(at, tenant)
    await accept(at, an_order(tenant))
    dead = an_eraser(at, units=at.units())
    assert len(await dead._claim()) == 1  # and never comes back
    assert await an_eraser(at, units=at.units()).run() == 0
    clock.advance(timedelta(minutes=3))
    assert await an_eraser(at, units=at.units()).run() == 1


async def test_an_owner_may_let_an_erasure_wait_and_is_asked_again_after_a_moment(
    sample: Sample,
) -> None:
    clock = ManualClock(NOW)
    at = sample.at(clock)
    order = an_order(uuid4())
    allowed: set[tuple[UUID, str]] = {(order.purge_id, "another step of it")}
    asked = []

    async def ready(connection: object, orders: Sequence[ErasureOrder]) -> set[tuple[UUID, str]]:
        asked.append([each.name for each in orders])
        return allowed

    await accept(at, order)
    job = an_eraser(at, units=at.units(), ready=ready)
    for _ in range(3):
        assert await job.run() == 0
    assert asked == [[order.name]]
    clock.advance(timedelta(seconds=3))
    assert await job.run() == 0
    allowed.add(order.name)
    clock.advance(timedelta(seconds=3))
    assert await job.run() == 1
    assert asked == [[order.name]] * 3


async def test_messages_about_the_tenant_go_once_they_are_sent_and_not_before(
    sample: Sample,
) -> None:
    tenant = uuid4()
    async with sample.worker.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO outbox (written_at, epoch, topic, kind, record_key, tenant_id, ce_id, type,
                                headers, payload, data_class)
            SELECT $1, max(epoch), 't', $4, 'k', $2, $3, 'x', '[]', NULL, 'content'
              FROM relay_epochs
            """,
            datetime.now(UTC),
            tenant,
            uuid4(),
            Kind.EVENT,
        )
    await note(sample, tenant)
    await accept(sample, an_order(tenant))
    assert await an_eraser(sample).run() == 0
    assert await answers(sample) == []
    await sample.worker.execute(
        "UPDATE relay_cursor SET (xid, position) ="
        " (SELECT max(xid::text::numeric)::text::xid8, max(position) FROM outbox)"
    )
    assert await an_eraser(sample).run() == 1
    assert not await sample.worker.fetchval(
        "SELECT count(*) FROM outbox WHERE tenant_id = $1 AND data_class = 'content'", tenant
    )
    # The notes went with the first run, which was not clean.
    assert [each.counts for each in await answers(sample)] == [{DataClass.CONTENT: 3}]


@pytest.mark.parametrize("left", [3, 1, 0])
async def test_what_a_worker_erased_that_died_is_counted_by_the_one_that_takes_over(
    sample: Sample, left: int
) -> None:
    tenant, clock = uuid4(), ManualClock(datetime.now(UTC))
    sample = sample.at(clock)
    await note(sample, tenant, 3)
    await accept(sample, an_order(tenant))
    dying = an_eraser(sample)
    # It dies when so many are left, of the three that it has noted.
    [claim] = await dying._claim()
    await dying._note_counts([claim], {tenant: {DataClass.CONTENT: 3}})
    await sample.eraser.execute(
        "DELETE FROM notes WHERE ctid = ANY(ARRAY(SELECT ctid FROM notes"
        " WHERE tenant_id = $1 LIMIT $2))",
        tenant,
        3 - left,
    )
    assert await an_eraser(sample).run() == 0
    clock.advance(timedelta(minutes=3))
    assert await an_eraser(sample).run() == 1
    assert [each.counts for each in await answers(sample)] == [{DataClass.CONTENT: 3}]


async def test_a_worker_whose_claim_was_taken_over_erases_nothing(sample: Sample) -> None:
    tenant, clock = uuid4(), ManualClock(datetime.now(UTC))
    sample = sample.at(clock)
    await note(sample, tenant, 3)
    await accept(sample, an_order(tenant))
    slow = an_eraser(sample)
    claims = await slow._claim()
    clock.advance(timedelta(minutes=3))
    assert await an_eraser(sample)._claim()
    assert await slow._carry_out(claims) == 0
    assert await left_of(sample, tenant) == dict.fromkeys(MINE, 1) | {"notes": 3}


async def test_a_consumer_that_holds_an_order_holds_up_no_other(sample: Sample) -> None:
    """Two that wait for each other's rows are a deadlock, and the claims then wait for a lease."""
    orders = [an_order(uuid4()) for _ in range(3)]
    for order in orders:
        await accept(sample, order)

    async def none_is_ready(connection: object, orders: object) -> set[tuple[UUID, str]]:
        return set()

    waiting = an_eraser(sample, ready=none_is_ready)
    async with sample.units().begin() as uow:
        claims = await waiting._claim()
        await accept_erasure(uow, orders[1])
        releasing = asyncio.create_task(waiting._release(claims))
        while await sample.worker.fetchval(_CLAIMED) > 1:
            await asyncio.sleep(0.01)
        # Had the job waited for that row while it held these, this would wait for the job.
        await accept_erasure(uow, orders[0])
        await accept_erasure(uow, orders[2])
    await releasing
    assert await sample.worker.fetchval(_CLAIMED) == 0
    assert await an_eraser(sample).run() == 3
    assert len(await answers(sample)) == 3


_CLAIMED = "SELECT count(*) FROM erasures WHERE claim_token IS NOT NULL"


async def test_the_runtime_role_sees_only_the_tenant_it_acts_for(sample: Sample) -> None:
    mine, other = uuid4(), uuid4()
    for tenant in (mine, other):
        await note(sample, tenant)
    async with sample.units().begin() as uow:
        assert await uow.connection.fetchval("SELECT count(*) FROM notes") == 0
        await uow.act_for(mine)
        assert {r["tenant_id"] for r in await uow.connection.fetch("SELECT * FROM notes")} == {mine}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sample.worker.fetch("SELECT * FROM notes")


async def test_an_answer_tells_of_the_restore_that_brought_back_what_was_erased(
    sample: Sample,
) -> None:
    await accept(sample, an_order(uuid4(), restored_at=NOW))
    await accept(sample, an_order(uuid4(), step="erase-other"))
    await an_eraser(sample).run()
    assert {answer.step: answer.restored_at for answer in await answers(sample)} == {
        "erase-sample": NOW,
        "erase-other": None,
    }
