"""The lists: what they show, how they are searched and paged, and how things change places."""

import json
import re
from typing import Any
from uuid import UUID

import httpx2

from tests.config.builders import Config, a_converter

ODD = "\u202eאבג 🦊 <b>&\"'"


async def names(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return re.findall(r"<a href=\"#/\w+/[0-9a-f-]{36}\"[^>]*><bdi>(.*?)</bdi>", answer.text)


async def with_converters(config: Config, *wanted: str) -> tuple[UUID, list[str]]:
    tenant_id = await config.tenant()
    made = [
        await config.create(tenant_id, "converters", a_converter(name=name, tags=[f"t-{name[:1]}"]))
        for name in wanted
    ]
    return tenant_id, [each["id"] for each in made]


async def test_where_there_is_nothing_the_first_step_is_offered(config: Config) -> None:
    async with config.client(await config.tenant()) as client:
        answer = await client.get("/screens/converters")
    assert "A converter is JavaScript" in answer.text
    assert 'href="#/converters/new"' in answer.text
    assert "search" not in answer.text


async def test_things_are_found_by_name_and_tag_and_sorted(config: Config) -> None:
    tenant_id, _ = await with_converters(config, "beta", "alpha", "gamma")
    async with config.client(tenant_id) as client:
        assert await names(await client.get("/screens/converters")) == ["beta", "alpha", "gamma"]
        by_name = await client.get("/screens/converters/rows?sort=name")
        assert await names(by_name) == ["alpha", "beta", "gamma"]
        assert "/place" not in by_name.text
        assert await names(await client.get("/screens/converters/rows?q=ET")) == ["beta"]
        assert await names(await client.get("/screens/converters/rows?tag=t-g")) == ["gamma"]
        none = await client.get("/screens/converters/rows?q=nothing")
        assert await names(none) == []
        assert "Nothing is found" in none.text
        # Who searches for what cannot be there finds nothing, and is told of no error.
        for part in ("%00", "%ED%A0%80", "x" * 5_000):
            assert (await client.get(f"/screens/converters?q={part}")).status_code == 200


async def test_a_name_is_shown_as_it_is_and_never_as_markup(config: Config) -> None:
    tenant_id, _ = await with_converters(config, ODD)
    async with config.client(tenant_id) as client:
        answer = await client.get("/screens/converters")
    assert "<bdi>\u202eאבג 🦊 &lt;b&gt;&amp;&#34;&#39;</bdi>" in answer.text


async def test_a_long_list_comes_in_pages(config: Config) -> None:
    wanted = [f"{n:03}" for n in range(53)]
    tenant_id, ids = await with_converters(config, *wanted)
    async with config.client(tenant_id) as client:
        first = await client.get("/screens/converters")
        assert await names(first) == wanted[:50]
        more = re.search(r"hx-vals='(\{\"behind.*?\})'", first.text)
        assert more is not None
        told = json.loads(more[1])
        assert told["behind"] == ids[49]
        second = await client.get("/screens/converters/rows", params=told)
        assert await names(second) == wanted[50:]
        assert "53 are shown." in second.text
        # The second row of a page goes up behind the last one of the page before.
        assert f'{{"after": "{ids[49]}", "shown": "53"}}' in second.text
        assert "Show more" not in second.text
        assert (await client.get("/screens/converters?cursor=bad")).status_code == 400


async def test_things_change_places_one_step_at_a_time(config: Config) -> None:
    tenant_id, (a, b, c) = await with_converters(config, "a", "b", "c")
    async with config.client(tenant_id) as client:

        async def put(thing_id: str, after: str) -> list[str]:
            form = [["after", after], ["shown", "3"]]
            path = f"/screens/converters/{thing_id}/place"
            return await names(await client.post(path, json=form))

        assert await put(b, "") == ["b", "a", "c"]
        assert await put(b, a) == ["a", "b", "c"]
        assert await put(c, a) == ["a", "c", "b"]
        gone = await client.post(
            f"/screens/converters/{a}/place", json=[["after", a], ["shown", "3"]]
        )
        assert gone.status_code == 409
        forms: tuple[Any, ...] = (
            {},
            [["after"]],
            [["after", 1]],
            [["after", "x"], ["shown", "3"]],
            1,
        )
        for form in forms:
            refused = await client.post(f"/screens/converters/{a}/place", json=form)
            assert refused.status_code == 400


async def test_nobody_sees_anothers_list(config: Config) -> None:
    await with_converters(config, "theirs")
    async with config.client(await config.tenant()) as client:
        assert "theirs" not in (await client.get("/screens/converters")).text
