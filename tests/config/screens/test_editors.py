"""The editors: what a form makes, what is wrong with it, and what two do who change one thing."""

import json
import re
from html import unescape
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.context import Limits
from services.config.domain.access import Tenant
from tests.config.builders import Config, a_converter, a_datasource, a_query, a_template
from tests.config.screens.forms import Pairs, a_form

SECRET = "correct-horse-battery"


def wrong(answer: httpx2.Response) -> dict[str, str]:
    """What a refused form says, by field."""
    assert answer.status_code == 422, answer.text
    return {
        field: unescape(text)
        for field, text in re.findall(r'data-why="(\w*)">(.*?)</span>', answer.text)
    }


def path_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    found = re.search(r'data-path="([^"]+)"', answer.text)
    assert found is not None
    return found[1]


async def kept(client: httpx2.AsyncClient, path: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/api/v1/{path}")).json()
    return found


async def test_what_a_form_says_is_kept_and_shown_as_it_was_typed(config: Config) -> None:
    async with config.client(await config.tenant()) as client:
        made = await client.post("/screens/datasources", json=a_form("datasource"))
        path = path_of(made)
        datasource = await kept(client, path)
        assert datasource["tags"] == ["finance", "monthly"]
        assert datasource["options"] == {
            "schema": "public",
            "timeout": 10,
            "read_only": True,
            "zip": "0123",
        }
        assert datasource["has_credentials"] is True
        assert "It is saved." in made.text
        shown = (await client.get(f"/screens/{path}")).text
        for line in ("schema = public", "timeout = 10", "read_only = true", 'zip = "0123"'):
            assert f"\n{line}" in unescape(shown)
        assert "One is set. Keep it" in shown
        assert SECRET not in made.text + shown

        query = path_of(
            await client.post(
                "/screens/queries", json=a_form("query", datasource_id=datasource["id"])
            )
        )
        told = await kept(client, query)
        assert told["kind"] == "sql"
        assert told["spaces"] == ["SALES", "HR"]
        assert told["parameters"] == [
            {"name": "region", "type": "text", "default": "EMEA", "allowed": ["EMEA", "APAC"]},
            {"name": "year", "type": "integer", "default": 2026, "allowed": None},
        ]
        shown = (await client.get(f"/screens/{query}")).text
        assert "<bdi>Sales</bdi>" in shown
        assert "EMEA\nAPAC" in shown
        users = (await client.get(f"/screens/{path}")).text
        assert f'href="#/{query}"' in users

        for kind, plural in (("converter", "converters"), ("template", "templates")):
            assert path_of(await client.post(f"/screens/{plural}", json=a_form(kind)))


@pytest.mark.parametrize(
    ("login", "given", "has"), [("keep", "", True), ("replace", "new", True), ("none", "", False)]
)
async def test_a_password_is_kept_replaced_or_taken_away(
    config: Config, login: str, given: str, has: bool
) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "datasources", a_datasource())
    (before,) = await config.rows(tenant_id)
    form = a_form("datasource", login=login, credentials=given, version="1")
    async with config.client(tenant_id) as client:
        saved = await client.put(f"/screens/datasources/{made['id']}", json=form)
    assert saved.status_code == 200
    (after,) = await config.rows(tenant_id)
    assert (after["credentials"] is not None) is has
    assert (after["credentials"] == before["credentials"]) is (login == "keep")


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("datasource", {"name": " "}, "name", "It is needed."),
    ("datasource", {"name": "a\x00b"}, "name", "cannot be kept here"),
    ("datasource", {"name": "a\ud800b"}, "name", "half a character"),
    ("datasource", {"name": "x" * 201}, "name", "longer than 200"),
    ("datasource", {"tags": ",".join(map(str, range(21)))}, "tags", "more than 20"),
    ("datasource", {"url": "ftp://x"}, "url", "mariadb://, mysql://"),
    ("datasource", {"url": "postgresql://u:p@h/x"}, "url", "no user"),
    ("datasource", {"options": "api_key = 1"}, "options", "says that it is secret"),
    ("datasource", {"options": "no equals sign"}, "options", "one to a line"),
    ("datasource", {"options": "a = 1\na = 2"}, "options", "one to a line"),
    ("datasource", {"kind": "x"}, "kind", "not as it has to be"),
    ("datasource", {"credentials": ""}, "credentials", "needed"),
    ("converter", {"text": ""}, "text", "needed"),
    ("converter", {"text": "a\x00"}, "text", "cannot be kept here"),
    ("template", {"text": "x" * 1001}, "text", "longer than 1000"),
    ("query", {"datasource_id": ""}, "datasource_id", "Choose one"),
    ("query", {"spaces": "no spaces in keys"}, "spaces", "SALES, HR"),
    ("query", {"parameter_default": ("x", "EMEA")}, "parameters", "not of the parameter"),
    ("query", {"parameter_default": ("1", "US")}, "parameters", "not among"),
]


@pytest.mark.parametrize(("kind", "others", "field", "text"), BAD)
async def test_what_is_wrong_is_said_at_its_field(
    config: Config, kind: str, others: dict[str, Any], field: str, text: str
) -> None:
    tenant_id = await config.tenant()
    config.limit(Limits(most_text_characters=1000))
    given: dict[str, Any] = {}
    if kind == "query":
        given["datasource_id"] = (await config.create(tenant_id, "datasources", a_datasource()))[
            "id"
        ]
    form = a_form(kind, **(given | others))
    plural = "queries" if kind == "query" else f"{kind}s"
    async with config.client(tenant_id) as client:
        # As a browser writes it, also half a character.
        answer = await client.post(f"/screens/{plural}", content=json.dumps(form))
    assert text in wrong(answer)[field]
    assert SECRET not in answer.text


async def test_what_does_not_fit_what_is_there_is_said_too(config: Config) -> None:
    tenant_id = await config.tenant()
    await config.create(tenant_id, "converters", a_converter())
    async with config.client(tenant_id) as client:
        german = {"accept-language": "de"}
        taken = await client.post("/screens/converters", json=a_form("converter"), headers=german)
        assert wrong(taken) == {"name": "Es gibt schon einen Konverter dieses Namens."}
        form = a_form("query", datasource_id=str(uuid4()))
        assert wrong(await client.post("/screens/queries", json=form)) == {
            "datasource_id": "there is no such datasource."
        }
        config.limit(Limits(most_things=1))
        full = await client.post("/screens/templates", json=a_form("template"))
        assert "You keep 1 things already" in wrong(full)[""]


async def test_the_text_of_all_that_is_odd_but_right_is_kept(config: Config) -> None:
    odd = "\u202e\u05d0\u05d1 \U0001f98a e\u0301 \ufeff"
    async with config.client(await config.tenant()) as client:
        form = a_form("template", name=odd, tags=odd, text=f"\n{odd}\r\n</textarea><b>")
        path = path_of(await client.post("/screens/templates", json=form))
        told = await kept(client, path)
        assert told["name"] == odd.strip()
        assert told["text"] == f"\n{odd}\r\n</textarea><b>"
        shown = (await client.get(f"/screens/{path}")).text
    # A text area drops the first line break, and so one stands before each text.
    assert f">\n\n{odd}\r\n&lt;/textarea&gt;&lt;b&gt;</textarea>" in shown


async def test_of_two_who_change_a_thing_the_second_sees_what_the_first_did(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "templates", a_template(text="one\ntwo\nthree"))
    path = f"templates/{made['id']}"

    def form(version: str, **others: str) -> Pairs:
        return a_form("template", version=version, **others)

    async with config.client(tenant_id) as client:
        first = await client.put(f"/screens/{path}", json=form("1", text="one\n2\nthree"))
        assert path_of(first) == path
        second = await client.put(f"/screens/{path}", json=form("1", name="Mine", text="mine"))
        assert second.status_code == 412
        assert '<del><span class="sign">-</span>two</del>' in second.text
        assert '<ins><span class="sign">+</span>2</ins>' in second.text
        assert 'data-overwrite="2"' in second.text
        assert (await kept(client, path))["name"] == "Plain"

        forced = await client.put(f"/screens/{path}", json=form("2", name="Mine", text="mine"))
        assert path_of(forced) == path
        assert (await kept(client, path))["text"] == "mine"
        # Nobody knows any more what that one had read.
        lost = await client.put(f"/screens/{path}", json=form("x"))
        assert lost.status_code == 412
        assert "cannot be told any more" in lost.text


async def test_parameters_follow_the_text_and_keep_what_was_said_of_them(config: Config) -> None:
    tenant_id = await config.tenant()
    rest = await config.create(
        tenant_id, "datasources", a_datasource(kind="rest", url="https://api.customer.test")
    )
    async with config.client(tenant_id) as client:
        text = "SELECT ':no' WHERE a = :year AND b = :more -- :never"
        answer = await client.post(
            "/screens/queries/parameters", json=a_form("query", datasource_id="", text=text)
        )
        names = re.findall(r"<code>:(\w+)</code>", answer.text)
        assert names == ["year", "more"]
        assert 'value="2026"' in answer.text
        answer = await client.post(
            "/screens/queries/parameters",
            json=a_form("query", datasource_id=rest["id"], text="/a/:id?b=':c'"),
        )
        assert re.findall(r"<code>:(\w+)</code>", answer.text) == ["id", "c"]


async def test_a_thing_is_copied_with_its_password(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "datasources", a_datasource())
    async with config.client(tenant_id) as client:
        copy = await client.post(f"/screens/datasources/{made['id']}/duplicates", json=[])
        told = await kept(client, path_of(copy))
    assert told["name"] == "Sales (copy)"
    assert told["has_credentials"] is True


async def test_a_thing_in_use_names_its_users_and_goes_when_there_are_none(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    datasource = await config.create(tenant_id, "datasources", a_datasource())
    query = await config.create(tenant_id, "queries", a_query(datasource["id"]))
    path = f"/screens/datasources/{datasource['id']}/removal"
    async with config.client(tenant_id) as client:
        asked = await client.get(path)
        assert "Sales cannot be removed" in asked.text
        assert f'href="#/queries/{query["id"]}"' in asked.text
        refused = await client.post(path, json=[["version", "1"]])
        assert "Look again before you remove it." in refused.text
        assert len(await config.rows(tenant_id)) == 2

        of_query = f"/screens/queries/{query['id']}/removal"
        assert "Remove Sales of a region?" in (await client.get(of_query)).text
        stale = await client.post(of_query, json=[["version", "7"]])
        assert "Look again before you remove it." in stale.text
        gone = await client.post(of_query, json=[["version", "1"]])
        assert path_of(gone) == "queries"
        assert "Sales of a region is removed." in gone.text
        assert (await client.post(path, json=[["version", "1"]])).status_code == 200
    assert await config.rows(tenant_id) == []


async def test_who_has_moved_to_forge_may_look_and_not_change(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "converters", a_converter())
    await config.know(Tenant(tenant_id, TenantStatus.INSTALLED, Platform.FORGE, ClassState.LIVE))
    path = f"/screens/converters/{made['id']}"
    async with config.client(tenant_id) as client:
        assert (await client.get(path)).status_code == 200
        form = a_form("converter", version="1")
        refused = await client.put(path, json=form, headers={"accept-language": "de"})
    assert refused.status_code == 403
    assert refused.json()["reason"] == "readable"
    assert refused.json()["detail"].startswith("Die App ist umgezogen.")


async def test_nobody_opens_what_is_anothers(config: Config) -> None:
    made = await config.create(await config.tenant(), "converters", a_converter())
    other = await config.tenant()
    async with config.client(other) as client:
        path = f"/screens/converters/{UUID(made['id'])}"
        answers = [
            await client.get(path),
            await client.get(f"{path}/removal"),
            await client.get(f"{path}/history"),
            await client.put(path, json=a_form("converter", version="1")),
            await client.post(f"{path}/duplicates", json=[]),
            await client.post(f"{path}/removal", json=[["version", "1"]]),
            await client.get("/screens/previews/converter", params={"converter_id": made["id"]}),
        ]
    assert [each.status_code for each in answers] == [404] * len(answers)
