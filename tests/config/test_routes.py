"""The door of config, as a browser meets it."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog

from chassis import logs
from chassis.erasure import accept_erasure
from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.context import CREDENTIALS
from services.config.domain.access import Tenant
from services.config.store import things
from tests.config.builders import PATH, Config, a_datasource, an_order
from tests.support.chassis import suppressed
from tests.support.sessions import Installer

PROBLEM = "application/problem+json"
ANY = {"if-match": "*"}
SECRET = "correct-horse-battery"


async def create(config: Config, tenant_id: UUID, **others: Any) -> dict[str, Any]:
    return await config.create(tenant_id, "datasources", a_datasource(**others))


async def test_a_datasource_lives_from_creation_to_removal(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        created = await client.post(PATH, json=a_datasource())
        address = created.headers["location"]
        shown = await client.get(address)
        config.clock.advance(timedelta(minutes=1))
        replaced = await client.put(
            address,
            json=a_datasource(name="Finance", options={}),
            headers={"if-match": created.headers["etag"]},
        )
        removed = await client.delete(address, headers={"if-match": replaced.headers["etag"]})
        gone = await client.get(address)

    assert created.status_code == 201
    assert created.headers["etag"] == '"1"'
    assert UUID(created.json()["id"]).version == 7
    assert shown.json() == created.json()
    assert shown.headers["cache-control"] == "no-store"
    assert (replaced.status_code, replaced.json()["name"]) == (200, "Finance")
    assert replaced.json()["version"] == 2
    assert replaced.json()["updated_at"] > replaced.json()["created_at"]
    assert (removed.status_code, removed.content) == (204, b"")
    assert gone.status_code == 404
    assert await config.rows(tenant_id) == []


async def test_a_list_is_read_page_by_page(config: Config) -> None:
    tenant_id = await config.tenant()
    made = []
    for number in range(5):
        config.clock.advance(timedelta(milliseconds=1))
        made.append((await create(config, tenant_id, name=f"d{number}"))["name"])
    seen, cursor, pages = [], None, 0
    async with config.client(tenant_id) as client:
        while True:
            page = await client.get(
                PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {})
            )
            seen += [item["name"] for item in page.json()["items"]]
            pages += 1
            if (cursor := page.json()["next"]) is None:
                break
        for wrong, status in (
            ({"cursor": "x"}, 422),
            ({"cursor": "é"}, 400),
            ({"limit": "0"}, 400),
            ({"limit": "101"}, 400),
        ):
            refused = await client.get(PATH, params=wrong)
            assert (refused.status_code, refused.headers["content-type"]) == (status, PROBLEM)
    assert (seen, pages) == (made, 3)


async def test_datasources_of_another_tenant_are_not_there(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    made = await create(config, theirs)
    address = f"{PATH}/{made['id']}"
    before = await config.rows(theirs)
    async with config.client(mine) as client:
        assert (await client.get(PATH)).json() == {"items": [], "next": None}
        assert (await client.get(address)).status_code == 404
        assert (await client.put(address, json=a_datasource(), headers=ANY)).status_code == 404
        assert (await client.delete(address, headers=ANY)).status_code == 404
    assert await config.rows(theirs) == before


async def test_credentials_go_in_and_never_come_out(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await create(config, tenant_id)
    address = f"{PATH}/{made['id']}"
    silent = a_datasource()
    del silent["credentials"]
    async with config.client(tenant_id) as client:
        answers = [
            await client.get(address),
            await client.get(PATH),
            await client.put(address, json=silent, headers=ANY),
        ]
    assert all(SECRET not in answer.text for answer in answers)
    assert "credentials" not in answers[0].json()
    assert answers[2].json()["has_credentials"] is True

    (row,) = await config.rows(tenant_id)
    assert SECRET.encode() not in row["credentials"]
    async with config.worker.acquire() as connection:
        opened = await config.keys.open(connection, tenant_id, CREDENTIALS, row["credentials"])
    assert opened == SECRET.encode()

    async with config.client(tenant_id) as client:
        taken_away = await client.put(address, json=a_datasource(credentials=None), headers=ANY)
    assert taken_away.json()["has_credentials"] is False
    assert (await config.rows(tenant_id))[0]["credentials"] is None


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root, kept = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    lines = io.StringIO()
    logs.configure("config", "debug", stream=lines)
    yield lines
    structlog.configure(**kept)
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_no_log_and_no_error_repeats_what_was_sent(
    config: Config, logged: io.StringIO
) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        await client.post(PATH, json=a_datasource())
        answers = [
            await client.post(PATH, json=a_datasource()),
            await client.post(PATH, json=a_datasource(name=7, credentials=[SECRET])),
            await client.post(PATH, json=a_datasource(options={SECRET: {"password": SECRET}})),
            await client.post(PATH, json=a_datasource(url=f"postgresql://u:{SECRET}@h/d")),
            await client.post(PATH, json=a_datasource() | {SECRET: SECRET}),
            await client.post(PATH, content=f'{{"credentials": "{SECRET}"'),
            await client.get(PATH, headers={"authorization": f"Bearer {SECRET}"}),
        ]
        # What breaks inside must not tell either.
        with pytest.MonkeyPatch.context() as patch:

            async def broken(*_: Any, **__: Any) -> Any:
                raise RuntimeError(f"password={SECRET}")

            patch.setattr(things, "add", broken)
            answers.append(await client.post(PATH, json=a_datasource(name="other")))
    assert [answer.status_code for answer in answers] == [409, 400, 400, 422, 400, 400, 401, 500]
    assert all(answer.headers["content-type"] == PROBLEM for answer in answers)
    assert all(SECRET not in answer.text for answer in answers)
    assert "request failed" in logged.getvalue()
    assert SECRET not in logged.getvalue()


async def refused_with_token(config: Config, *authorization: str) -> Any:
    async with config.client() as client:
        answer = await client.post(
            PATH,
            headers=[("authorization", each) for each in authorization],
            json=a_datasource(),
        )
    assert answer.status_code == 401
    assert answer.headers["content-type"] == PROBLEM
    return answer.headers["www-authenticate"]


async def test_without_a_session_nothing_is_done(config: Config) -> None:
    tenant_id = await config.tenant()
    installer = config.installer
    claims = installer.claims(tenant_id)
    token = installer.token(tenant_id)
    assert await refused_with_token(config) == "Bearer"
    assert await refused_with_token(config, f"Basic {token}") == "Bearer"
    assert await refused_with_token(config, "Bearer ") == "Bearer"
    assert await refused_with_token(config, f"Bearer {token}", f"Bearer {token}") == "Bearer"

    expired = claims | {"exp": int((config.clock.wall() - timedelta(minutes=1)).timestamp())}
    # Made without joserfc, which would not sign with "none".
    none = "eyJhbGciOiJub25lIiwia2lkIjoib25lIn0." + token.split(".")[1] + "."
    for bad in (
        installer.sign(expired),
        installer.sign(claims | {"aud": "installer"}),
        installer.sign(claims | {"iss": "another"}),
        Installer.new("one").token(tenant_id),
        Installer.new("unknown").token(tenant_id),
        none,
        token[:-2],
        "not-a-token",
    ):
        assert await refused_with_token(config, f"Bearer {bad}") == 'Bearer error="invalid_token"'
    assert await config.rows(tenant_id) == []


async def test_a_session_ends_with_its_token(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        assert (await client.get(PATH)).status_code == 200
        config.clock.advance(timedelta(minutes=16))
        assert (await client.get(PATH)).status_code == 401


async def test_a_token_in_the_query_is_no_session(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.client() as client:
        answer = await client.get(PATH, params={"token": config.installer.token(tenant_id)})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("standing", "status"),
    [
        ({"status": TenantStatus.UNINSTALLED}, 403),
        ({"status": TenantStatus.PURGING, "content": ClassState.PURGING}, 410),
        ({"content": ClassState.ERASED}, 410),
        ({"platform": Platform.DATACENTER}, 403),
    ],
)
async def test_who_is_not_served_can_store_nothing(
    config: Config, standing: dict[str, Any], status: int
) -> None:
    tenant_id = await config.tenant()
    made = await create(config, tenant_id)
    before = await config.rows(tenant_id)
    given = {
        "status": TenantStatus.INSTALLED,
        "platform": Platform.CONNECT,
        "content": ClassState.LIVE,
    }
    await config.know(Tenant(tenant_id, **(given | standing)))
    address = f"{PATH}/{made['id']}"
    async with config.client(tenant_id) as client:
        answers = [
            await client.post(PATH, json=a_datasource(name="other")),
            await client.put(address, json=a_datasource(name="other")),
            await client.delete(address),
            await client.get(address),
            await client.get(PATH),
        ]
    assert [answer.status_code for answer in answers] == [status] * 5
    assert all(answer.headers["content-type"] == PROBLEM for answer in answers)
    assert await config.rows(tenant_id) == before
    # What is read is refused as well, and is no write.
    assert suppressed(config.units) == ({("route", "content"): 3} if status == 410 else {})


async def test_a_tenant_not_heard_of_yet_is_asked_to_try_again(config: Config) -> None:
    async with config.client(uuid4()) as client:
        answer = await client.post(PATH, json=a_datasource())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_write_that_waits_for_an_erasure_stores_nothing(config: Config) -> None:
    tenant_id = await config.tenant()
    order = an_order(tenant_id)
    async with config.client(tenant_id) as client:
        async with config.units.begin() as uow:
            await accept_erasure(uow, order)
            writing = asyncio.create_task(client.post(PATH, json=a_datasource()))
            await somebody_waits(config, tenant_id)
        answer = await writing
    assert answer.status_code == 410
    assert suppressed(config.units) == {("route", "content"): 1}
    assert await config.rows(tenant_id) == []
    assert await key_count(config, tenant_id) == 0


async def test_an_erasure_waits_for_a_write_and_then_takes_it_along(config: Config) -> None:
    tenant_id = await config.tenant()
    order = an_order(tenant_id)

    async def accept() -> None:
        async with config.units.begin() as uow:
            await accept_erasure(uow, order)

    async with config.units.begin() as uow:
        await uow.lock_tenants([tenant_id])
        assert not await uow.erased_classes([tenant_id])
        accepting = asyncio.create_task(accept())
        await somebody_waits(config, tenant_id)
        await uow.act_for(tenant_id)
        await uow.connection.execute(
            """
            INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, position,
                                created_at, updated_at, version)
            VALUES ($1, $1, 'datasource', 'late', '{}', '{}', 1, $2, $2, 1)
            """,
            tenant_id,
            uow.now,
        )
    await accepting
    await config.eraser_job().run()
    assert await config.rows(tenant_id) == []


async def somebody_waits(config: Config, tenant_id: UUID) -> None:
    """Wait until another connection waits for the tenant's lock."""
    async with asyncio.timeout(10):
        while not await config.worker.fetchval(
            """
            SELECT EXISTS (
                SELECT 1 FROM pg_locks
                 WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND (classid::bigint << 32 | objid::bigint) = hashtextextended($1, 1))
            """,
            str(tenant_id),
        ):
            await asyncio.sleep(0)


async def key_count(config: Config, tenant_id: UUID) -> int:
    count: int = await config.worker.fetchval(
        "SELECT count(*) FROM tenant_keys WHERE tenant_id = $1", tenant_id
    )
    return count


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"name": "\\ud800", "kind": "sql", "url": "postgresql://h/d"}',
        b'{"name": "a", "kind": "sql"}',
        b'{"name": ["a"], "kind": "sql", "url": "postgresql://h/d"}',
        b'{"name": "a", "kind": "sql", "url": "postgresql://h/d", "options": []}',
        b"[" * 50_000,
    ],
)
async def test_a_body_that_is_no_datasource_is_a_problem(config: Config, body: bytes) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        answer = await client.post(PATH, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
    assert answer.json()["errors"]
    assert await config.rows(tenant_id) == []


async def test_a_body_that_is_too_large_is_not_read(config: Config) -> None:
    async with config.client(await config.tenant()) as client:
        answer = await client.post(PATH, content=json.dumps(a_datasource(name="x" * 300_000)))
    assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)


async def test_other_methods_and_other_addresses_are_problems(config: Config) -> None:
    async with config.client(await config.tenant()) as client:
        patched = await client.patch(PATH)
        posted = await client.post(f"{PATH}/{uuid4()}")
        no_id = await client.get(f"{PATH}/not-an-id")
        nowhere = await client.get("/api/v1/other")
    assert patched.headers["allow"] == "GET, POST"
    assert [a.status_code for a in (patched, posted, no_id, nowhere)] == [405, 405, 400, 404]
    assert all(a.headers["content-type"] == PROBLEM for a in (patched, posted, no_id, nowhere))


async def test_erased_content_of_a_class_that_is_not_ours_changes_nothing(config: Config) -> None:
    tenant_id = await config.tenant()
    await config.runtime.execute(
        "INSERT INTO erased_tenants VALUES ($1, $2, 1, $3, $4)",
        tenant_id,
        DataClass.CONTACTS,
        uuid4(),
        config.clock.now(),
    )
    await create(config, tenant_id)
