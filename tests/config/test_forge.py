"""A tenant that has moved to Forge: it writes nothing new, takes out what it has, and is erased."""

from typing import Any
from uuid import UUID

from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.domain.access import Tenant
from services.config.domain.kinds import KINDS
from tests.config.archives import an_archive, export_of, fill, unpacked
from tests.config.builders import Config, a_converter, a_datasource
from tests.support.chassis import suppressed

ANY = {"if-match": "*"}
CONVERTERS = "/api/v1/converters"


async def moved_to_forge(config: Config) -> UUID:
    tenant_id = await config.tenant()
    await fill(config, tenant_id)
    await config.know(Tenant(tenant_id, TenantStatus.INSTALLED, Platform.FORGE, ClassState.LIVE))
    return tenant_id


async def test_what_it_has_is_read_and_exported_and_nothing_is_written(config: Config) -> None:
    tenant_id = await moved_to_forge(config)
    before = await config.rows(tenant_id)
    async with config.client(tenant_id) as client:
        for kind in KINDS:
            [item] = (await client.get(f"/api/v1/{kind.plural}")).json()["items"]
            assert (await client.get(f"/api/v1/{kind.plural}/{item['id']}")).status_code == 200
        [converter] = (await client.get(CONVERTERS)).json()["items"]
        address = f"{CONVERTERS}/{converter['id']}"
        assert (await client.get(f"{address}/versions/1/difference")).status_code == 200
        archive = an_archive({"converters": [a_converter(id=converter["id"], text="new")]})
        preview = (await client.post("/api/v1/imports/previews", content=archive)).json()
        answers: list[Any] = [
            await client.post("/api/v1/datasources", json=a_datasource(name="new")),
            await client.post(CONVERTERS, json=a_converter(), headers={"idempotency-key": "k"}),
            await client.put(address, json=a_converter(), headers=ANY),
            await client.delete(address, headers=ANY),
            await client.post(f"{address}/duplicates"),
            await client.put(f"{address}/place", json={"after": None}),
            await client.post(f"{address}/versions/1/restore", headers=ANY),
            await client.post(
                "/api/v1/imports", content=archive, params={"preview": preview["preview"]}
            ),
        ]
    assert {answer.status_code for answer in answers} == {403}
    assert all("can be read and exported" in answer.json()["detail"] for answer in answers)
    assert len(unpacked(await export_of(config, tenant_id))["queries.json"]) == 1
    assert await config.rows(tenant_id) == before
    # It is no erasure that they met.
    assert suppressed(config.units) == {}


async def test_its_content_is_erased_by_scope_and_then_it_is_gone(config: Config) -> None:
    tenant_id = await moved_to_forge(config)
    order = await config.order_erasure(tenant_id)
    assert order.classes == (DataClass.CONTENT, DataClass.ERRORS)
    async with config.client(tenant_id) as client:
        refused = await client.get("/screens/datasources")
    # The page says where the app's content is now, and not that the app was removed.
    assert (refused.status_code, refused.json()["reason"]) == (410, "kept-elsewhere")
    async with config.client(tenant_id) as client:
        assert (await client.get(CONVERTERS)).status_code == 410
        assert (await client.post("/api/v1/exports")).status_code == 410
    await config.erase()
    assert await config.rows(tenant_id) == []
    # The app lives on at Forge, and what it says of itself opens nothing here.
    await config.know(Tenant(tenant_id, TenantStatus.INSTALLED, Platform.FORGE, ClassState.ERASED))
    async with config.client(tenant_id) as client:
        assert (await client.get(CONVERTERS)).status_code == 410
        assert (await client.post(CONVERTERS, json=a_converter())).status_code == 410
    assert suppressed(config.units) == {("route", "content"): 1}
