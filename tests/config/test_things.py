"""All kinds of things at the door: what they have in common, and what refers to what."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.config.context import Limits
from services.config.domain.kinds import KINDS
from services.config.jobs import Forgetting
from services.config.store.things import GAP
from tests.config.builders import (
    PATH,
    Config,
    a_converter,
    a_datasource,
    a_query,
    a_template,
)

ANY = {"if-match": "*"}
PROBLEM = "application/problem+json"
QUERIES = "/api/v1/queries"
CONVERTERS = "/api/v1/converters"


async def bodies(config: Config, tenant_id: UUID) -> dict[str, dict[str, Any]]:
    """One thing of each kind as a customer would write it, by the kind's name in addresses."""
    source = await config.create(tenant_id, "datasources", a_datasource(name="used"))
    return {
        "datasources": a_datasource(),
        "converters": a_converter(),
        "templates": a_template(),
        "queries": a_query(source["id"]),
    }


async def pipeline(config: Config, tenant_id: UUID) -> dict[str, dict[str, Any]]:
    """A query with all that it uses, by the kind's name."""
    made = {
        "datasource": await config.create(tenant_id, "datasources", a_datasource()),
        "converter": await config.create(tenant_id, "converters", a_converter()),
        "template": await config.create(tenant_id, "templates", a_template()),
    }
    wanted = a_query(
        made["datasource"]["id"],
        converter_id=made["converter"]["id"],
        template_id=made["template"]["id"],
    )
    return {**made, "query": await config.create(tenant_id, "queries", wanted)}


# -- what all kinds have in common ---------------------------------------------------------------


@pytest.mark.parametrize("plural", [kind.plural for kind in KINDS])
async def test_a_thing_of_each_kind_lives_from_creation_to_removal(
    config: Config, plural: str
) -> None:
    tenant_id = await config.tenant()
    body = (await bodies(config, tenant_id))[plural]
    async with config.client(tenant_id) as client:
        created = await client.post(f"/api/v1/{plural}", json=body)
        address = created.headers["location"]
        shown = await client.get(address)
        config.clock.advance(timedelta(minutes=1))
        renamed = body | {"name": "Another", "tags": ["x", "y", "x"]}
        replaced = await client.put(
            address, json=renamed, headers={"if-match": created.headers["etag"]}
        )
        listed = (await client.get(f"/api/v1/{plural}")).json()["items"][-1]
        removed = await client.delete(address, headers={"if-match": replaced.headers["etag"]})
        gone = await client.get(address)

    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    assert shown.json() == created.json()
    assert {"id", "name", "tags", "version", "created_at", "updated_at"} <= shown.json().keys()
    told = replaced.json()
    assert (told["name"], told["tags"], told["version"]) == ("Another", ["x", "y"], 2)
    assert told["updated_at"] > told["created_at"] == created.json()["created_at"]
    # Whatever is long is left out of lists.
    assert listed == {name: value for name, value in told.items() if name != "text"}
    assert (removed.status_code, removed.content) == (204, b"")
    assert gone.status_code == 404


@pytest.mark.parametrize("plural", [kind.plural for kind in KINDS])
async def test_things_of_another_tenant_are_not_there(config: Config, plural: str) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    body = (await bodies(config, theirs))[plural]
    made = await config.create(theirs, plural, body)
    before = await config.rows(theirs)
    address = f"/api/v1/{plural}/{made['id']}"
    async with config.client(mine) as client:
        answers = [
            await client.get(address),
            await client.put(address, json=body, headers=ANY),
            await client.delete(address, headers=ANY),
            await client.post(f"{address}/duplicates"),
            await client.put(f"{address}/place", json={"after": None}),
            await client.get(f"{address}/users"),
            await client.get(f"{address}/versions"),
            await client.get(f"{address}/versions/1"),
            await client.get(f"{address}/versions/1/difference"),
            await client.post(f"{address}/versions/1/restore", headers=ANY),
        ]
    assert [answer.status_code for answer in answers] == [404] * 10
    assert all(answer.headers["content-type"] == PROBLEM for answer in answers)
    assert await config.rows(theirs) == before


async def test_a_name_is_taken_within_its_kind_alone(config: Config) -> None:
    tenant_id = await config.tenant()
    await config.create(tenant_id, "converters", a_converter(name="Same"))
    await config.create(tenant_id, "templates", a_template(name="Same"))
    other = await config.create(tenant_id, "converters", a_converter(name="Other"))
    async with config.client(tenant_id) as client:
        again = await client.post(CONVERTERS, json=a_converter(name="Same"))
        renamed = await client.put(
            f"{CONVERTERS}/{other['id']}", json=a_converter(name="Same"), headers=ANY
        )
    assert [again.status_code, renamed.status_code] == [409, 409]


@pytest.mark.parametrize(
    "name",
    ["שלום עולם", "مرحبا", "👩‍👩‍👧‍👦 family", "\u202eright to left", "Ω≈ç√", "x" * 200, "🙂" * 200],
)
async def test_odd_text_comes_back_as_it_was(config: Config, name: str) -> None:
    tenant_id = await config.tenant()
    text = f"{name}\r\n\t\u2028\ufeff end"
    made = await config.create(tenant_id, "converters", a_converter(name=name, text=text))
    async with config.client(tenant_id) as client:
        shown = (await client.get(f"{CONVERTERS}/{made['id']}")).json()
        found = await client.get(CONVERTERS, params={"q": name[:50], "sort": "name"})
    assert (shown["name"], shown["text"]) == (name, text)
    assert [item["id"] for item in found.json()["items"]] == [made["id"]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name": "a", "text": "\\u0000"}', 400),
        (b'{"name": "\\u0000", "text": "a"}', 400),
        (b'{"name": "a", "text": "\\ud800"}', 400),
        (b'{"name": "a", "text": "a", "tags": ["\\udfff"]}', 400),
        (b'{"name": "a", "text": "\xed\xa0\x80"}', 400),
        (b'{"name": "", "text": "a"}', 400),
        (b'{"name": "a", "text": ""}', 400),
        (b'{"name": "a", "text": "a", "id": "x"}', 400),
        (b'{"name": "' + b"x" * 201 + b'", "text": "a"}', 400),
        (b'{"name": "a", "text": "' + b"x" * 100_001 + b'"}', 422),
        (b'{"name": "a", "text": "' + b"x" * 200_001 + b'"}', 400),
        (b'{"name": "a", "text": "' + b"x" * 10_000_000 + b'"}', 413),
    ],
)
async def test_what_cannot_be_kept_is_refused_with_a_reason(
    config: Config, body: bytes, status: int
) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        answer = await client.post(CONVERTERS, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert len(answer.content) < 1000
    assert await config.rows(tenant_id) == []


# -- two who change the same ---------------------------------------------------------------------


async def test_a_change_says_which_version_it_is_of(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "converters", a_converter())
    address = f"{CONVERTERS}/{made['id']}"
    async with config.client(tenant_id) as client:
        silent = await client.put(address, json=a_converter(text="mine"))
        first = await client.put(address, json=a_converter(text="1"), headers={"if-match": '"1"'})
        second = await client.put(address, json=a_converter(text="2"), headers={"if-match": '"1"'})
        restore = await client.post(f"{address}/versions/1/restore", headers={"if-match": '"1"'})
        removal = await client.delete(address, headers={"if-match": '"1"'})
        silent_removal = await client.delete(address)
        odd = [
            await client.delete(address, headers={"if-match": given}) for given in ('W/"2"', '"x"')
        ]
        formless = [
            await client.delete(address, headers={"if-match": given}) for given in ("2", "", '"2')
        ]
        shown = await client.get(address)
        right = await client.delete(address, headers={"if-match": '"7", "2"'})
    assert (silent.status_code, silent.json()["version"]) == (428, 1)
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert {a.status_code for a in (second, restore, removal, *odd)} == {412}
    assert silent_removal.status_code == 428
    assert {answer.status_code for answer in formless} == {400}
    for answer in (second, restore, removal, silent_removal):
        # Who is ahead is said by version, and nothing of what they wrote.
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json().keys() == {"type", "title", "status", "detail", "version"}
        assert answer.json()["version"] == 2
    assert shown.json()["text"] == "1"
    assert right.status_code == 204


async def test_of_two_changes_at_once_one_is_told_that_it_is_late(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "converters", a_converter())
    address = f"{CONVERTERS}/{made['id']}"
    async with config.client(tenant_id) as client:
        answers = await asyncio.gather(
            *(
                client.put(address, json=a_converter(text=str(n)), headers={"if-match": '"1"'})
                for n in range(5)
            )
        )
        shown = await client.get(address)
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    (won,) = [answer for answer in answers if answer.status_code == 200]
    assert shown.json() == won.json()


# -- creating once -------------------------------------------------------------------------------


async def test_a_repeat_creates_nothing_for_a_day(config: Config) -> None:
    tenant_id, other = await config.tenant(), await config.tenant()
    key = {"idempotency-key": "made-up-1"}
    async with config.client(tenant_id) as client:
        first = await client.post(CONVERTERS, json=a_converter(), headers=key)
        again = await client.post(CONVERTERS, json=a_converter(), headers=key)
        different = await client.post(CONVERTERS, json=a_converter(name="B"), headers=key)
        other_kind = await client.post("/api/v1/templates", json=a_template(), headers=key)
        listed = await client.get(CONVERTERS)
    async with config.client(other) as client:
        theirs = await client.post(CONVERTERS, json=a_converter(), headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert (different.status_code, other_kind.status_code) == (422, 422)
    assert len(listed.json()["items"]) == 1
    assert theirs.json()["id"] != first.json()["id"]
    rows = await config.eraser.fetch("SELECT * FROM idempotency_keys")
    assert b"made-up" not in repr(rows).encode()

    # An hour less than a day later it still holds, and then it is forgotten.
    sweep = Forgetting(config.clock, config.worker)
    config.clock.advance(timedelta(hours=23))
    await sweep.run()
    async with config.client(tenant_id) as client:
        same = await client.post(CONVERTERS, json=a_converter(), headers=key)
        await client.delete(first.headers["location"], headers=ANY)
        removed = await client.post(CONVERTERS, json=a_converter(), headers=key)
        assert (same.json(), removed.status_code) == (first.json(), 409)
        config.clock.advance(timedelta(hours=1))
    async with config.client(tenant_id) as client:
        anew = await client.post(CONVERTERS, json=a_converter(), headers=key)
    assert anew.json()["id"] != first.json()["id"]
    config.clock.advance(timedelta(hours=25))
    assert await sweep.run() >= 2
    left = await config.eraser.fetch("SELECT tenant_id FROM idempotency_keys")
    assert not {tenant_id, other} & {row["tenant_id"] for row in left}


async def test_of_many_repeats_at_once_one_creates(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        answers = await asyncio.gather(
            *(
                client.post(CONVERTERS, json=a_converter(), headers={"idempotency-key": "k"})
                for _ in range(6)
            )
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await config.rows(tenant_id)) == 1


async def test_a_key_whose_request_failed_is_free(config: Config) -> None:
    tenant_id = await config.tenant()
    key = {"idempotency-key": "k"}
    query = a_query(str(uuid4()))
    async with config.client(tenant_id) as client:
        refused = await client.post(QUERIES, json=query, headers=key)
        created = await client.post(CONVERTERS, json=a_converter(), headers=key)
        odd = [
            await client.post(CONVERTERS, json=a_converter(), headers={"idempotency-key": each})
            for each in ("", "two words", "k" * 201)
        ]
    assert (refused.status_code, created.status_code) == (409, 201)
    assert [answer.status_code for answer in odd] == [400] * 3


# -- lists ---------------------------------------------------------------------------------------


async def test_a_list_is_read_page_by_page_in_either_order_while_it_changes(config: Config) -> None:
    tenant_id = await config.tenant()
    names = ["b", "a", "d", "c", "e"]
    for name in names:
        await config.create(tenant_id, "converters", a_converter(name=name))

    async def read(sort: str) -> list[str]:
        seen, cursor = [], None
        async with config.client(tenant_id) as client:
            while True:
                params: dict[str, Any] = {"limit": 2, "sort": sort}
                params |= {"cursor": cursor} if cursor else {}
                page = (await client.get(CONVERTERS, params=params)).json()
                seen += [item["name"] for item in page["items"]]
                if (cursor := page["next"]) is None:
                    return seen

    assert await read("order") == names
    assert await read("name") == sorted(names)


async def test_things_are_found_by_parts_of_names_and_by_tags(config: Config) -> None:
    tenant_id = await config.tenant()
    for name, tags in (("Sales", ["Money"]), ("50%_of", []), ("Stock", ["money", "goods"])):
        await config.create(tenant_id, "converters", a_converter(name=name, tags=tags))

    async def found(**params: str) -> list[str]:
        async with config.client(tenant_id) as client:
            answer = await client.get(CONVERTERS, params=params)
        return [item["name"] for item in answer.json()["items"]]

    assert await found(q="S") == ["Sales", "Stock"]
    assert await found(q="%_") == ["50%_of"]
    assert await found(q="MONEY") == ["Sales", "Stock"]
    assert await found(tag="money") == ["Stock"]
    assert await found(tag="money", q="sales") == []
    assert await found(q="' OR true --") == []
    async with config.client(tenant_id) as client:
        for wrong in ({"q": ""}, {"q": "\x00"}, {"sort": "size"}, {"tag": "x" * 201}):
            assert (await client.get(CONVERTERS, params=wrong)).status_code == 400


async def test_a_thing_is_put_behind_another_or_before_all(config: Config) -> None:
    tenant_id = await config.tenant()
    ids = {
        name: (await config.create(tenant_id, "converters", a_converter(name=name)))["id"]
        for name in "abcd"
    }
    source = await config.create(tenant_id, "datasources", a_datasource())

    async def put(name: str, after: str | None) -> str:
        async with config.client(tenant_id) as client:
            answer = await client.put(
                f"{CONVERTERS}/{ids[name]}/place",
                json={"after": None if after is None else ids.get(after, after)},
            )
            if answer.status_code != 204:
                return str(answer.status_code)
            items = (await client.get(CONVERTERS)).json()["items"]
        assert {item["version"] for item in items} == {1}
        return "".join(item["name"] for item in items)

    assert await put("d", "a") == "adbc"
    assert await put("a", "c") == "dbca"
    assert await put("c", None) == "cdba"
    assert await put("c", "c") == "409"
    assert await put("c", str(uuid4())) == "409"
    assert await put("c", source["id"]) == "409"
    assert await put("b", "c") == "cbda"
    # As often as it takes to use up the room between two.
    for _ in range(GAP.bit_length() // 2 + 2):
        assert await put("a", "c") == "cabd"
        assert await put("b", "c") == "cbad"


# -- what refers to what -------------------------------------------------------------------------


async def test_a_query_shows_its_whole_pipeline(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await pipeline(config, tenant_id)
    bare = await config.create(tenant_id, "queries", a_query(made["datasource"]["id"], name="bare"))
    async with config.client(tenant_id) as client:
        whole = await client.get(f"{QUERIES}/{made['query']['id']}/pipeline")
        part = await client.get(f"{QUERIES}/{bare['id']}/pipeline")
        none = await client.get(f"{CONVERTERS}/{made['converter']['id']}/pipeline")
    assert whole.json() == made
    assert part.json() == {
        "query": bare,
        "datasource": made["datasource"],
        "converter": None,
        "template": None,
    }
    assert none.status_code == 404
    assert "correct-horse" not in whole.text


async def test_what_is_in_use_names_its_users_and_stays(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await pipeline(config, tenant_id)
    user = {"id": made["query"]["id"], "kind": "query", "name": "Sales of a region"}
    async with config.client(tenant_id) as client:
        for plural, name in (("datasources", "datasource"), ("converters", "converter")):
            address = f"/api/v1/{plural}/{made[name]['id']}"
            refused = await client.delete(address, headers=ANY)
            assert refused.status_code == 409
            assert (refused.json()["users"], refused.json()["number"]) == ([user], 1)
            assert (await client.get(f"{address}/users")).json() == {"users": [user], "number": 1}
            assert (await client.get(address)).status_code == 200
        # Once the query lets go of the converter, and is gone itself, nothing holds them.
        query = a_query(made["datasource"]["id"])
        address = f"{QUERIES}/{made['query']['id']}"
        assert (await client.put(address, json=query, headers=ANY)).status_code == 200
        converter = f"{CONVERTERS}/{made['converter']['id']}"
        assert (await client.delete(converter, headers=ANY)).status_code == 204
        assert (await client.delete(address, headers=ANY)).status_code == 204
        source = f"{PATH}/{made['datasource']['id']}"
        assert (await client.delete(source, headers=ANY)).status_code == 204


async def test_a_query_refers_to_what_is_there_and_of_its_kind(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    made, foreign = await pipeline(config, mine), await pipeline(config, theirs)
    rest = await config.create(
        mine, "datasources", a_datasource(name="rest", kind="rest", url="https://a.example")
    )
    source, before = made["datasource"]["id"], await config.rows(mine)
    async with config.client(mine) as client:
        for wrong in (
            a_query(str(uuid4()), name="n"),
            a_query(foreign["datasource"]["id"], name="n"),
            a_query(made["converter"]["id"], name="n"),
            a_query(rest["id"], name="n"),
            a_query(source, name="n", converter_id=made["template"]["id"]),
            a_query(source, name="n", template_id=foreign["template"]["id"]),
        ):
            refused = await client.post(QUERIES, json=wrong)
            assert (refused.status_code, refused.headers["content-type"]) == (409, PROBLEM)
        # Nor does a datasource become something for which nobody wrote a query.
        changed = await client.put(
            f"{PATH}/{source}",
            json=a_datasource(kind="rest", url="https://a.example"),
            headers=ANY,
        )
        assert changed.status_code == 409
    assert await config.rows(mine) == before


async def test_what_is_referred_to_at_the_same_moment_is_not_removed(config: Config) -> None:
    tenant_id = await config.tenant()
    for _ in range(5):
        source = await config.create(tenant_id, "datasources", a_datasource(name=str(uuid4())))
        query = a_query(source["id"], name=str(uuid4()))
        async with config.client(tenant_id) as client:
            created, removed = await asyncio.gather(
                client.post(QUERIES, json=query),
                client.delete(f"{PATH}/{source['id']}", headers=ANY),
            )
        assert (created.status_code, removed.status_code) in {(201, 409), (409, 204)}


async def test_a_duplicate_is_the_same_but_for_its_name(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await pipeline(config, tenant_id)
    async with config.client(tenant_id) as client:
        for plural, name in (("queries", "query"), ("datasources", "datasource")):
            address = f"/api/v1/{plural}/{made[name]['id']}"
            first = (await client.post(f"{address}/duplicates")).json()
            second = await client.post(f"{address}/duplicates")
            assert second.status_code == 201
            assert second.headers["location"].endswith(second.json()["id"])
            own = ("id", "name", "version", "created_at", "updated_at")
            for copy, word in ((first, "copy"), (second.json(), "copy 2")):
                assert copy["name"] == f"{made[name]['name']} ({word})"
                rest = {key: value for key, value in copy.items() if key not in own}
                assert rest == {k: v for k, v in made[name].items() if k not in own}
        users = await client.get(f"{PATH}/{made['datasource']['id']}/users")
    assert users.json()["number"] == 3
    sealed = {row["credentials"] for row in await config.rows(tenant_id) if row["credentials"]}
    assert len(sealed) == 1


# -- how much a tenant keeps ---------------------------------------------------------------------


async def test_a_tenant_keeps_so_many_things_and_is_told(config: Config) -> None:
    config.limit(Limits(most_things=3))
    tenant_id, other = await config.tenant(), await config.tenant()
    source = await config.create(tenant_id, "datasources", a_datasource())
    await config.create(tenant_id, "queries", a_query(source["id"]))
    last = await config.create(tenant_id, "converters", a_converter())
    async with config.client(tenant_id) as client:
        refused = [
            await client.post(CONVERTERS, json=a_converter(name="one more")),
            await client.post(f"{CONVERTERS}/{last['id']}/duplicates"),
        ]
        assert [answer.status_code for answer in refused] == [409, 409]
        assert (refused[0].json()["reason"], refused[0].json()["most"]) == ("too-many", 3)
        assert len(await config.rows(tenant_id)) == 3
        await client.delete(f"{CONVERTERS}/{last['id']}", headers=ANY)
        again = await client.post(CONVERTERS, json=a_converter(name="one more"))
        assert again.status_code == 201
    await config.create(other, "converters", a_converter())


async def test_what_is_counted_goes_with_the_tenant(config: Config) -> None:
    tenant_id = await config.tenant()
    await pipeline(config, tenant_id)
    async with config.client(tenant_id) as client:
        await client.post(CONVERTERS, json=a_converter(name="k"), headers={"idempotency-key": "k"})
    await config.order_erasure(tenant_id)
    await config.eraser_job().run()
    for table in (
        "things",
        "thing_references",
        "thing_versions",
        "tenant_totals",
        "idempotency_keys",
        "export_tickets",
    ):
        left = await config.eraser.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant_id
        )
        assert left == 0, table
    async with config.client(tenant_id) as client:
        for plural in ("datasources", "converters", "templates", "queries"):
            assert (await client.get(f"/api/v1/{plural}")).status_code == 410
