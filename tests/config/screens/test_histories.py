"""The history of a thing on a screen: what has changed since, and back again."""

from typing import Any
from uuid import UUID

import httpx2

from services.config.routes.screens.comparing import near, told
from tests.config.builders import Config, a_datasource, a_query
from tests.config.screens.forms import a_form


async def changed(config: Config) -> tuple[UUID, str, dict[str, Any]]:
    tenant_id = await config.tenant()
    one = await config.create(tenant_id, "datasources", a_datasource(name="One"))
    two = await config.create(tenant_id, "datasources", a_datasource(name="Two"))
    query = await config.create(tenant_id, "queries", a_query(one["id"]))
    path = f"/screens/queries/{query['id']}"
    form = a_form("query", datasource_id=two["id"], version="1", name="Renamed", tags="new")
    async with config.client(tenant_id) as client:
        assert (await client.put(path, json=form)).status_code == 200
    return tenant_id, path, query


async def test_what_has_changed_is_told_with_names_and_brought_back(config: Config) -> None:
    tenant_id, path, query = await changed(config)
    async with config.client(tenant_id) as client:
        listed = (await client.get(f"{path}/history")).text
        assert "Version 2, as it is now" in listed
        assert f'href="#/queries/{query["id"]}/history/1"' in listed

        version = (await client.get(f"{path}/history/1")).text
        assert "<del><bdi>One</bdi></del>" in version
        assert "<ins><bdi>Two</bdi></ins>" in version
        assert "<del><bdi>finance, monthly</bdi></del>" in version
        assert "name: region\ntype: text" in version

        stale = await client.post(f"{path}/history/1", json=[["version", "1"]])
        assert "Look again before you bring it back." in stale.text
        back = await client.post(f"{path}/history/1", json=[["version", "2"]])
        assert "It is as it was then." in back.text
        now = (await client.get(f"/api/v1/queries/{query['id']}")).json()
        assert (now["name"], now["version"]) == ("Sales of a region", 3)
        assert "Nothing differs but the version." in (await client.get(f"{path}/history/1")).text
        assert (await client.get(f"{path}/history/9")).status_code == 404


async def test_a_long_history_comes_in_pages(config: Config) -> None:
    tenant_id, path, query = await changed(config)
    async with config.client(tenant_id) as client:
        older: httpx2.Response = await client.get(f"{path}/history?before=2")
    assert "as it is now" not in older.text
    assert f"{query['id']}/history/1" in older.text


def test_lines_far_from_every_change_are_left_out() -> None:
    lines = [(" ", str(n)) for n in range(20)]
    lines[10] = ("+", "new")
    assert [text for _, text in near(lines)] == ["", *"789", "new", "11", "12", "13", ""]
    assert list(near([("+", "a")])) == [("+", "a")]
    assert list(near([])) == []


def test_values_are_told_so_that_a_person_reads_them() -> None:
    assert told(None) == told("") == told([]) == "-"
    assert told({"a": True, "b": 2}) == "a: true\nb: 2"
    assert told([{"name": "x", "type": "text", "default": None}, {"name": "y"}]) == (
        "name: x\ntype: text\nname: y"
    )
