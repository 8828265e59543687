"""Everything a tenant keeps, as one file that is written while it is sent."""

import gc
import json
import tracemalloc
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jsonschema
import pytest

from services.config.archives.writer import Pages, written
from services.config.domain.kinds import KINDS
from services.config.jobs import Forgetting
from services.config.routes import exports
from tests.config.archives import EXPORTS, export_of, fetch, fill, ticket_of, unpacked
from tests.config.builders import NOW, Config, a_datasource, a_template

ANY = {"if-match": "*"}


async def test_all_that_a_tenant_keeps_is_in_it_and_nothing_of_others(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_THINGS_A_PAGE", 2)
    tenant_id, other = await config.tenant(), await config.tenant()
    await fill(config, tenant_id)
    await fill(config, other)
    for number in range(5):
        await config.create(tenant_id, "templates", a_template(name=f"t{number}"))
    answer = await fetch(config, await ticket_of(config, tenant_id))
    told = unpacked(answer.content)

    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="keepword-2026-11-23.zip"'
    assert answer.headers["cache-control"] == "no-store"
    jsonschema.validate(told, told["schema.json"])
    async with config.client(tenant_id) as client:
        for kind in KINDS:
            items = (await client.get(f"/api/v1/{kind.plural}")).json()["items"]
            whole = [
                (await client.get(f"/api/v1/{kind.plural}/{item['id']}")).json() for item in items
            ]
            key = f"{kind.plural}.json"
            assert sorted(told[key], key=str) == sorted(whole, key=str)
    [past] = told["history.json"]
    assert (past["kind"], past["name"], past["version"]) == ("converter", "שלום 🙂", 1)
    rows = await config.rows(other)
    assert not any(str(row["thing_id"]) in json.dumps(told) for row in rows)


async def test_credentials_are_never_in_it(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "datasources", a_datasource())
    async with config.client(tenant_id) as client:
        changed = a_datasource(name="N", credentials="another-secret")
        await client.put(f"/api/v1/datasources/{made['id']}", json=changed, headers=ANY)
    told = json.dumps(unpacked(await export_of(config, tenant_id)))
    assert "correct-horse" not in told
    assert "another-secret" not in told
    [sealed] = [row["credentials"] for row in await config.rows(tenant_id)]
    assert sealed.hex() not in told


async def test_a_tenant_without_things_gets_empty_lists(config: Config) -> None:
    told = unpacked(await export_of(config, await config.tenant()))
    assert [told[f"{kind.plural}.json"] for kind in KINDS] == [[]] * len(KINDS)
    jsonschema.validate(told, told["schema.json"])


async def test_a_ticket_is_good_once_and_for_a_minute(config: Config) -> None:
    tenant_id = await config.tenant()
    once, late = await ticket_of(config, tenant_id), await ticket_of(config, tenant_id)
    assert (await fetch(config, once)).status_code == 200
    assert (await fetch(config, once)).status_code == 401
    config.clock.advance(timedelta(seconds=60))
    assert (await fetch(config, late)).status_code == 401
    kept = await ticket_of(config, tenant_id)
    rows = await config.eraser.fetch("SELECT * FROM export_tickets")
    assert kept not in repr(rows)
    config.clock.advance(timedelta(seconds=61))
    assert await Forgetting(config.clock, config.worker).run() >= 1
    assert [
        row["tenant_id"].int
        for row in await config.eraser.fetch("SELECT tenant_id FROM export_tickets")
    ] == [0]


async def test_what_is_no_ticket_opens_nothing(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    ticket, other = await ticket_of(config, mine), await ticket_of(config, theirs)
    # The tenant of one and the secret of the other; a tenant that nobody knows.
    parts = [urlsafe_b64decode(each + "==") for each in (ticket, other)]
    crossed, unknown = (
        urlsafe_b64encode(tenant + parts[1][16:]).decode().rstrip("=")
        for tenant in (parts[0][:16], uuid4().bytes)
    )
    for wrong in (crossed, unknown, ticket[:-2], ticket + "A", "é", "x" * 5000, "%00"):
        assert (await fetch(config, wrong)).status_code in {400, 401}
    async with config.client() as client:
        assert (await client.post(EXPORTS)).status_code == 401
        # A mail scanner or a link that is followed does nothing.
        got = await client.get(f"{EXPORTS}/downloads", params={"ticket": ticket})
        assert got.status_code == 405
        for form in ("", "ticket", "ticket=a&ticket=b", f"ticket={ticket}&x=1"):
            answer = await client.post(f"{EXPORTS}/downloads", content=form)
            assert answer.status_code == 400
    assert (await fetch(config, ticket)).status_code == 200


async def test_an_erasure_ends_what_a_ticket_promised(config: Config) -> None:
    tenant_id = await config.tenant()
    await fill(config, tenant_id)
    ticket = await ticket_of(config, tenant_id)
    await config.order_erasure(tenant_id)
    assert (await fetch(config, ticket)).status_code == 410
    async with config.client(tenant_id) as client:
        assert (await client.post(EXPORTS)).status_code == 410


async def test_memory_stays_flat_however_much_is_written() -> None:
    async def things(pages: int) -> AsyncIterator[list[dict[str, Any]]]:
        for number in range(pages):
            yield [{"text": f"{number} {each} " * 500} for each in range(20)]

    async def members(pages: int) -> AsyncIterator[tuple[str, Pages]]:
        yield "things.json", things(pages)

    async def peak(pages: int) -> tuple[int, int]:
        gc.collect()
        tracemalloc.start()
        size = 0
        async for part in written(members(pages), NOW):
            size += len(part)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, size

    few, much = await peak(20), await peak(200)
    assert much[1] > 5 * few[1]
    assert much[0] < 1.5 * few[0]
