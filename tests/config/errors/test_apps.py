"""Which app a tenant's reports are of, from the first word of the tenant to the last."""

from uuid import UUID

from contracts.classes import DataClass
from services.config.handlers import forget_tenants, remember_tenants
from services.config.routes.errors import ENVELOPES, TOKENS
from services.config.store.errors import reporters
from tests.config.builders import Config
from tests.config.errors.tenants import rows
from tests.support.chassis import a_tenant


async def app_of(config: Config, tenant_id: UUID) -> str:
    async with config.units.begin() as uow:
        return (await reporters(uow.connection, [tenant_id]))[tenant_id].app


async def test_the_app_is_known_with_the_tenant_and_forgotten_with_it(config: Config) -> None:
    state = a_tenant()
    async with config.units.begin() as uow:
        await remember_tenants(state, uow)
    assert await app_of(config, state.tenant_id) == state.addon_key

    # A census would take it for a fault if a tenant had nothing of a class.
    assert len(await rows(config, "error_apps", state.tenant_id)) == 1
    async with config.units.begin() as uow:
        await forget_tenants(state.tenant_id, uow)
    assert await rows(config, "error_apps", state.tenant_id) == []


async def test_a_tenant_told_of_before_has_no_app_yet_and_may_report(config: Config) -> None:
    assert await app_of(config, await config.tenant()) == ""


async def test_where_errors_alone_are_erased_the_app_does_not_come_back(config: Config) -> None:
    state = a_tenant()
    async with config.units.begin() as uow:
        await remember_tenants(state, uow)
    # What is held of the other class goes on being told of.
    await config.worker.execute(
        "INSERT INTO erased_tenants VALUES ($1, $2, 1, gen_random_uuid(), $3)",
        state.tenant_id,
        DataClass.ERRORS,
        config.clock.now(),
    )
    await config.eraser.execute("DELETE FROM error_apps WHERE tenant_id = $1", state.tenant_id)
    async with config.units.begin() as uow:
        await remember_tenants(state, uow)
    assert await rows(config, "error_apps", state.tenant_id) == []
    async with config.client(state.tenant_id) as client:
        assert (await client.post(TOKENS)).status_code == 410


async def test_the_document_tells_of_both_doors(config: Config) -> None:
    document = config.fastapi.openapi()
    assert {"200", "400", "403", "410", "413", "415", "429", "503"} <= set(
        document["paths"][ENVELOPES]["post"]["responses"]
    )
    assert TOKENS in document["paths"]
