"""What a thing was before it was changed: kept, compared and brought back."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.config.context import Limits
from services.config.domain.differences import Difference, differences
from services.config.store import history
from tests.config.builders import PATH, Config, a_converter, a_datasource, a_query

CONVERTERS = "/api/v1/converters"
QUERIES = "/api/v1/queries"
ANY = {"if-match": "*"}


async def changed(config: Config, tenant_id: UUID, *texts: str) -> str:
    """A converter that had these texts one after the other; returns its address."""
    made = await config.create(tenant_id, "converters", a_converter(text=texts[0]))
    address = f"{CONVERTERS}/{made['id']}"
    async with config.client(tenant_id) as client:
        for text in texts[1:]:
            config.clock.advance(timedelta(seconds=1))
            answer = await client.put(address, json=a_converter(text=text), headers=ANY)
            assert answer.status_code == 200
    return address


async def test_each_version_is_kept_and_listed_the_latest_first(config: Config) -> None:
    tenant_id = await config.tenant()
    address = await changed(config, tenant_id, "1", "2", "3", "4")
    async with config.client(tenant_id) as client:
        listed = (await client.get(f"{address}/versions", params={"limit": 2})).json()
        more = await client.get(f"{address}/versions", params={"before": listed["next"]})
        texts = [(await client.get(f"{address}/versions/{n}")).json()["text"] for n in (1, 2, 3, 4)]
        missing = [await client.get(f"{address}/versions/{n}") for n in (5, 0, 2**31, "x")]
    assert listed["version"] == 4
    assert [item["version"] for item in listed["items"]] == [3, 2]
    assert [item["version"] for item in more.json()["items"]] == [1]
    assert more.json()["next"] is None
    assert listed["items"][0]["made_at"] > listed["items"][1]["made_at"]
    assert texts == ["1", "2", "3", "4"]
    assert [answer.status_code for answer in missing] == [404, 400, 400, 400]


async def test_only_so_many_versions_are_kept(config: Config) -> None:
    config.limit(Limits(versions_kept=2))
    tenant_id = await config.tenant()
    address = await changed(config, tenant_id, *"12345")
    async with config.client(tenant_id) as client:
        listed = (await client.get(f"{address}/versions")).json()
        gone = await client.get(f"{address}/versions/2")
    assert [item["version"] for item in listed["items"]] == [4, 3]
    assert gone.status_code == 404


async def test_what_a_thing_was_is_brought_back_as_its_next_version(config: Config) -> None:
    tenant_id = await config.tenant()
    address = await changed(config, tenant_id, "first", "second")
    async with config.client(tenant_id) as client:
        silent = await client.post(f"{address}/versions/1/restore")
        restored = await client.post(f"{address}/versions/1/restore", headers={"if-match": '"2"'})
        second = (await client.get(f"{address}/versions/2")).json()
        none = await client.post(f"{address}/versions/9/restore", headers=ANY)
    assert silent.status_code == 428
    assert (restored.status_code, restored.headers["etag"]) == (200, '"3"')
    assert restored.json()["text"] == "first"
    assert second["text"] == "second"
    assert none.status_code == 404


async def test_credentials_have_no_history_and_stay_as_they_are(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "datasources", a_datasource())
    address = f"{PATH}/{made['id']}"
    other = a_datasource(name="New", credentials="another-secret")
    async with config.client(tenant_id) as client:
        await client.put(address, json=other, headers=ANY)
        before = (await config.rows(tenant_id))[0]["credentials"]
        restored = await client.post(f"{address}/versions/1/restore", headers=ANY)
        versions = await client.get(f"{address}/versions/1")
        difference = await client.get(f"{address}/versions/1/difference", params={"to": 2})
    assert restored.json()["name"] == "Sales"
    assert restored.json()["has_credentials"] is True
    assert (await config.rows(tenant_id))[0]["credentials"] == before
    stored = await config.eraser.fetch(
        "SELECT * FROM thing_versions WHERE tenant_id = $1", tenant_id
    )
    for told in (versions.text, difference.text, repr([dict(row) for row in stored])):
        assert "correct-horse" not in told
        assert "another-secret" not in told
        assert "credentials" not in told


async def test_what_cannot_be_any_more_is_not_brought_back(config: Config) -> None:
    tenant_id = await config.tenant()
    first = await config.create(tenant_id, "datasources", a_datasource(name="first"))
    second = await config.create(tenant_id, "datasources", a_datasource(name="second"))
    query = await config.create(tenant_id, "queries", a_query(first["id"]))
    address = f"{QUERIES}/{query['id']}"
    async with config.client(tenant_id) as client:
        moved_on = a_query(second["id"], name="renamed")
        assert (await client.put(address, json=moved_on, headers=ANY)).status_code == 200
        await config.create(tenant_id, "queries", a_query(second["id"]))
        taken = await client.post(f"{address}/versions/1/restore", headers=ANY)
        removed = await client.delete(f"{PATH}/{first['id']}", headers=ANY)
        dangling = await client.post(f"{address}/versions/1/restore", headers=ANY)
        shown = await client.get(address)
    assert [taken.status_code, removed.status_code, dangling.status_code] == [409, 204, 409]
    assert (shown.json()["name"], shown.json()["version"]) == ("renamed", 2)


async def test_a_version_that_today_s_rules_refuse_stays_in_the_past(config: Config) -> None:
    tenant_id = await config.tenant()
    address = await changed(config, tenant_id, "1", "2")
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        await uow.connection.execute("UPDATE thing_versions SET body = '{}'")
        thing_id = UUID(address.rsplit("/", 1)[1])
        assert await history.version_of(uow.connection, tenant_id, thing_id, 1) is not None
    async with config.client(tenant_id) as client:
        refused = await client.post(f"{address}/versions/1/restore", headers=ANY)
    assert refused.status_code == 409


async def test_a_difference_names_fields_and_lines(config: Config) -> None:
    tenant_id = await config.tenant()
    address = await changed(config, tenant_id, "a\nb\nc", "a\nB\nc\nd", "x")
    async with config.client(tenant_id) as client:
        told = (await client.get(f"{address}/versions/1/difference", params={"to": 2})).json()
        present = (await client.get(f"{address}/versions/2/difference")).json()
        same = (await client.get(f"{address}/versions/2/difference", params={"to": 2})).json()
        missing = await client.get(f"{address}/versions/1/difference", params={"to": 9})
    assert told == {
        "from": 1,
        "to": 2,
        "fields": [
            {
                "field": "text",
                "lines": [[" ", "a"], ["-", "b"], ["+", "B"], [" ", "c"], ["+", "d"]],
            }
        ],
    }
    assert (present["to"], len(present["fields"])) == (3, 1)
    assert same["fields"] == []
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"name": "a", "tags": []}, {"name": "b", "tags": []}, [Difference("name", "a", "b")]),
        ({"options": {"a": 1}}, {"options": {}}, [Difference("options", {"a": 1}, {})]),
        ({"old": 1}, {"new": 2}, [Difference("new", None, 2), Difference("old", 1, None)]),
        ({"text": ""}, {"text": "a"}, [Difference("text", None, None, (("-", ""), ("+", "a")))]),
    ],
)
def test_differences_are_told_field_by_field(
    before: dict[str, Any], after: dict[str, Any], found: list[Difference]
) -> None:
    assert differences(before, after, ("text",)) == found


def test_texts_that_were_made_to_take_long_are_compared_in_no_time() -> None:
    old = "\n".join(f"{n % 99}" for n in range(50_000))
    new = "\n".join(f"{(n * 7 + 1) % 97}" for n in range(50_000))
    began_at = time.monotonic()
    [told] = differences({"text": old}, {"text": new}, ("text",))
    assert time.monotonic() - began_at < 2
    assert told.lines is not None
    assert [line for mark, line in told.lines if mark != "+"] == old.split("\n")
    assert [line for mark, line in told.lines if mark != "-"] == new.split("\n")
