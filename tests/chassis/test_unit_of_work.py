"""What a unit of work says is said with the rest of it, in order, or not at all."""

import asyncio
from random import Random
from uuid import uuid4

import pytest

from chassis.outbox import MAX_PAYLOAD_BYTES
from contracts.ledger import GENESIS, LedgerHead
from contracts.tenants import TenantState
from tests.support.chassis import Sample, a_tenant


async def said(sample: Sample) -> list[tuple[str, str, str]]:
    rows = await sample.worker.fetch("SELECT * FROM outbox ORDER BY xid, position")
    return [(row["topic"], row["type"], row["record_key"]) for row in rows]


async def test_messages_lie_in_the_outbox_in_the_order_in_which_they_were_said(
    sample: Sample,
) -> None:
    woken: list[int] = []
    tenant = a_tenant()
    async with sample.units(lambda: woken.append(1)).begin() as uow:
        uow.outbox.add(tenant, type_name="tenant-installed")
        uow.outbox.add(tenant, type_name="tenant-uninstalled")
        uow.outbox.tombstone(TenantState, tenant.tenant_id)
        assert woken == []
    key = str(tenant.tenant_id)
    assert await said(sample) == [
        ("installer.tenants.v1", "keepword.tenant-installed.v1", key),
        ("installer.tenants.v1", "keepword.tenant-uninstalled.v1", key),
        ("installer.tenants.v1", "keepword.tenant-installed.v1", key),
    ]
    assert woken == [1]
    row = await sample.worker.fetchrow("SELECT * FROM outbox WHERE payload IS NULL")
    assert row is not None
    assert row["data_class"] == "installation"
    assert dict(row["headers"])["ce_subject"] == key


async def test_what_was_said_in_a_transaction_that_failed_was_not_said(sample: Sample) -> None:
    woken: list[int] = []

    async def fail() -> None:
        async with sample.units(lambda: woken.append(1)).begin() as uow:
            uow.outbox.add(a_tenant(), type_name="tenant-installed")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await said(sample) == []
    assert woken == []


async def test_a_silent_unit_of_work_wakes_nobody(sample: Sample) -> None:
    woken: list[int] = []
    async with sample.units(lambda: woken.append(1)).begin():
        pass
    assert woken == []


async def test_a_message_that_kafka_would_refuse_is_refused_where_it_is_said(
    sample: Sample,
) -> None:
    licences = tuple(f"SEN-{n:016}" for n in range(MAX_PAYLOAD_BYTES // 20))
    large = a_tenant().model_copy(update={"licence_numbers": licences})
    async with sample.units().begin() as uow:
        with pytest.raises(ValueError, match="split it"):
            uow.outbox.add(large, type_name="tenant-updated")


async def test_a_model_of_several_types_needs_the_one_that_is_meant(sample: Sample) -> None:
    async with sample.units().begin() as uow:
        with pytest.raises(ValueError, match="name the one meant"):
            uow.outbox.add(a_tenant())
        with pytest.raises(LookupError):
            uow.outbox.add(
                LedgerHead(number=0, hash=GENESIS, cluster_id="c", at=uow.now)
            )  # installer does not own the ledger


async def test_batches_that_lock_the_same_tenants_in_any_order_do_not_wait_for_each_other(
    sample: Sample,
) -> None:
    tenants = [uuid4() for _ in range(20)]

    async def lock(order: list[object]) -> None:
        async with sample.units().begin() as uow:
            await uow.lock_tenants(order)  # type: ignore[arg-type]
            await uow.lock_tenants(reversed(order))  # type: ignore[arg-type]

    await asyncio.wait_for(
        asyncio.gather(*(lock(list(tenants[n:] + tenants[:n])) for n in range(10))), 20
    )


async def test_batches_that_lock_the_same_tenants_never_wait_for_each_other_in_a_circle(
    sample: Sample,
) -> None:
    tenants = [uuid4() for _ in range(12)]
    chance = Random(7)

    async def lock_some() -> None:
        for _ in range(20):
            some = chance.sample(tenants, 8)
            async with sample.units().begin() as uow:
                # One that is written to and ordered about in one batch is locked once, for both.
                await uow.lock_tenants(some[:5], exclusively=some[4:])
                await asyncio.sleep(0)

    await asyncio.gather(*(lock_some() for _ in range(6)))


async def test_who_locks_a_tenant_exclusively_is_alone_with_it(sample: Sample) -> None:
    tenant = uuid4()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def stay() -> None:
        async with sample.units().begin() as uow:
            await uow.lock_tenants([tenant], exclusively=[tenant])
            entered.set()
            await leave.wait()

    async def write() -> None:
        async with sample.units().begin() as uow:
            await uow.lock_tenants([tenant])

    staying = asyncio.create_task(stay())
    await entered.wait()
    writing = asyncio.create_task(write())
    assert not (await asyncio.wait({writing}, timeout=0.2))[0]
    leave.set()
    await asyncio.gather(staying, writing)
