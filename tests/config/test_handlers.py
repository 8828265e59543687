"""What config does about messages, up to the proof that a tenant's content is gone."""

import json
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from chassis.erasure import NOBODY, BlindVerificationError
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import DataErased, PurgeStarted
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.domain.access import Tenant
from services.config.handlers import erase_content, forget_tenants, remember_tenants
from services.config.store import tenants
from tests.config.builders import PATH, Config, a_datasource, an_order
from tests.support.chassis import a_tenant

LEASE = timedelta(minutes=3)


async def known(config: Config, tenant_id: UUID) -> Tenant | None:
    async with config.units.begin() as uow:
        return await tenants.tenant(uow.connection, tenant_id)


async def fill(config: Config, tenant_id: UUID, *names: str) -> None:
    async with config.client(tenant_id) as client:
        for name in names:
            answer = await client.post(PATH, json=a_datasource(name=name))
            assert answer.status_code == 201


async def answers(config: Config, tenant_id: UUID) -> list[DataErased]:
    rows = await config.worker.fetch(
        "SELECT payload FROM outbox WHERE tenant_id = $1 ORDER BY position", tenant_id
    )
    return [DataErased.decode(row["payload"]) for row in rows]


def a_command(tenant_id: UUID) -> PurgeStarted:
    order = an_order(tenant_id)
    return PurgeStarted(
        purge_id=order.purge_id,
        step=order.step,
        wave=1,
        tenant_id=tenant_id,
        owner="config",
        classes=order.classes,
        ledger_number=order.ledger_number,
    )


async def test_a_tenant_is_known_as_it_is_now(config: Config) -> None:
    state = a_tenant()
    async with config.units.begin() as uow:
        await remember_tenants(state, uow)
    assert await known(config, state.tenant_id) == Tenant(
        state.tenant_id, TenantStatus.INSTALLED, Platform.CONNECT, ClassState.LIVE
    )

    purging = state.model_copy(
        update={
            "status": TenantStatus.PURGING,
            "classes": dict.fromkeys(TENANT_CLASSES, ClassState.PURGING),
        }
    )
    async with config.units.begin() as uow:
        await remember_tenants(purging, uow)
    assert await known(config, state.tenant_id) == Tenant(
        state.tenant_id, TenantStatus.PURGING, Platform.CONNECT, ClassState.PURGING
    )


async def test_a_tombstone_is_the_end_of_what_is_known(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.units.begin() as uow:
        await forget_tenants(tenant_id, uow)
    assert await known(config, tenant_id) is None


async def test_a_purge_erases_one_tenant_and_leaves_the_other_as_it_was(config: Config) -> None:
    going, staying = await config.tenant(), await config.tenant()
    await fill(config, going, "a", "b")
    await fill(config, staying, "a", "b")
    before = await config.rows(staying)
    command = a_command(going)

    async with config.units.begin() as uow:
        await erase_content(command, uow)
    await config.eraser_job().run()

    assert await config.rows(going) == []
    assert await known(config, going) is None
    assert await config.rows(staying) == before
    assert await known(config, staying) is not None
    keys = await config.worker.fetch("SELECT tenant_id FROM tenant_keys")
    assert going not in {row["tenant_id"] for row in keys}
    assert staying in {row["tenant_id"] for row in keys}

    (answer,) = await answers(config, going)
    assert (answer.purge_id, answer.step, answer.owner) == (
        command.purge_id,
        "erase-config",
        "config",
    )
    # The two datasources; what we knew of the tenant went too, and was not the customer's.
    assert answer.counts == {DataClass.CONTENT: 2, DataClass.ERRORS: 0}
    assert answer.remaining == 0


async def test_a_command_that_comes_again_is_answered_again_with_the_same_counts(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    await fill(config, tenant_id, "a")
    command = a_command(tenant_id)
    for _ in range(2):
        async with config.units.begin() as uow:
            await erase_content(command, uow)
        await config.eraser_job().run()
        config.clock.advance(timedelta(minutes=1))
    first, second = await answers(config, tenant_id)
    assert first.counts == second.counts == {DataClass.CONTENT: 1, DataClass.ERRORS: 0}


async def test_no_answer_says_what_was_erased_in_words(config: Config) -> None:
    tenant_id = await config.tenant()
    await fill(config, tenant_id, "a")
    await config.order_erasure(tenant_id)
    await config.eraser_job().run()
    rows = await config.worker.fetch("SELECT payload FROM outbox WHERE tenant_id = $1", tenant_id)
    said = json.dumps([row["payload"].decode() for row in rows])
    assert "correct-horse" not in said
    assert "customer.test" not in said


async def test_an_erasure_is_not_called_verified_by_an_eye_that_may_be_blind(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    await fill(config, tenant_id, "a")
    await config.order_erasure(tenant_id)
    owner = await asyncpg.connect(config.roles.owner_url)
    try:
        await owner.execute("DROP POLICY eraser_sees_all ON things")
        with pytest.raises(BlindVerificationError):
            await config.eraser_job().run()
        assert await answers(config, tenant_id) == []
    finally:
        await owner.execute(
            "CREATE POLICY eraser_sees_all ON things FOR SELECT TO config_eraser USING (true)"
        )
        await owner.close()

    # With its eyes back, once the claim has run out, it finishes.
    config.clock.advance(LEASE)
    await config.eraser_job().run()
    assert await config.rows(tenant_id) == []
    assert len(await answers(config, tenant_id)) == 1


async def test_without_its_planted_row_no_table_is_called_clean(config: Config) -> None:
    tenant_id = await config.tenant()
    await config.order_erasure(tenant_id)
    tables = ("things", "thing_versions", "thing_references")
    planted = {
        name: await config.eraser.fetch(f"SELECT * FROM {name} WHERE tenant_id = $1", NOBODY)
        for name in tables
    }
    # With it goes what refers to it.
    await config.eraser.execute("DELETE FROM things WHERE tenant_id = $1", NOBODY)
    try:
        with pytest.raises(BlindVerificationError):
            await config.eraser_job().run()
    finally:
        async with config.units.begin() as uow:
            await uow.act_for(NOBODY)
            for name in tables:
                (row,) = planted[name]
                places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
                await uow.connection.execute(f"INSERT INTO {name} VALUES ({places})", *row)
    config.clock.advance(LEASE)
    await config.eraser_job().run()
