"""The way in for contacts."""

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
import structlog

from chassis import logs
from chassis.erasure import ErasureOrder, accept_erasure
from chassis.service import build_app
from contracts.classes import DataClass
from contracts.tenants import ClassState
from devstack.postgres import Roles
from services.notifier.app import build
from services.notifier.domain.people import ADDRESS, NAME
from tests.notifier.builders import CONTACTS_PATH, Notifier, dkim_file, settings_for
from tests.support.chassis import suppressed

PROBLEM = "application/problem+json"


async def test_a_contact_is_kept_sealed(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant()
    answer = await notifier.post(tenant_id=str(tenant_id), name="Ada Ex", address="ada@c.example")
    assert answer.status_code == 201

    (row,) = await notifier.contacts(tenant_id)
    assert answer.json() == {"contact_id": str(row["contact_id"])}
    async with notifier.worker.acquire() as connection:
        name = await notifier.keys.open(connection, tenant_id, NAME, row["name"])
        address = await notifier.keys.open(connection, tenant_id, ADDRESS, row["address"])
    assert (name, address) == (b"Ada Ex", b"ada@c.example")
    stored = await notifier.everything()
    assert "Ada" not in stored
    assert "c.example" not in stored


async def test_an_address_is_kept_once_for_each_tenant(notifier: Notifier) -> None:
    tenant_id, other = await notifier.tenant("ada@c.example"), await notifier.tenant()
    again = await notifier.post(tenant_id=str(tenant_id), name="Ada L.", address="ADA@C.example")
    elsewhere = await notifier.post(tenant_id=str(other), name="Ada", address="ada@c.example")
    assert (again.status_code, elsewhere.status_code) == (200, 201)
    (row,) = await notifier.contacts(tenant_id)
    assert str(row["contact_id"]) == again.json()["contact_id"]
    async with notifier.worker.acquire() as connection:
        assert await notifier.keys.open(connection, tenant_id, NAME, row["name"]) == b"Ada L."


async def test_two_at_once_keep_one(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant()
    answers = await asyncio.gather(
        *(
            notifier.post(tenant_id=str(tenant_id), name=f"Ada {n}", address="ada@c.example")
            for n in range(8)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len(await notifier.contacts(tenant_id)) == 1


async def test_contacts_of_another_tenant_are_hidden_even_without_a_condition(
    notifier: Notifier,
) -> None:
    mine = await notifier.tenant("ada@c.example")
    await notifier.tenant("bob@c.example")
    async with notifier.units.begin() as uow:
        await uow.act_for(mine)
        seen = await uow.connection.fetch("SELECT tenant_id FROM contacts")
    assert [row["tenant_id"] for row in seen] == [mine]
    assert await notifier.runtime.fetchval("SELECT count(*) FROM contacts") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await notifier.worker.fetch("SELECT * FROM contacts")


async def test_who_is_unknown_or_going_gets_no_contacts(notifier: Notifier) -> None:
    going = await notifier.tenant(contacts=ClassState.PURGING)
    unknown = uuid4()
    statuses = [
        (await notifier.post(tenant_id=str(tenant_id), name="A", address="a@c.example")).status_code
        for tenant_id in (going, unknown)
    ]
    assert statuses == [410, 404]
    assert await notifier.contacts(going) == await notifier.contacts(unknown) == []
    assert suppressed(notifier.units) == {("route", "contacts"): 1}


async def test_a_contact_that_comes_during_the_erasure_is_not_kept(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant()
    async with notifier.units.begin() as uow:
        await accept_erasure(
            uow, ErasureOrder(uuid4(), "erase-contacts", tenant_id, (DataClass.CONTACTS,), 1)
        )
        writing = asyncio.create_task(
            notifier.post(tenant_id=str(tenant_id), name="A", address="a@c.example")
        )
        await somebody_waits(notifier, tenant_id)
    assert (await writing).status_code == 410
    assert await notifier.contacts(tenant_id) == []


async def somebody_waits(notifier: Notifier, tenant_id: UUID) -> None:
    """Wait until another connection waits for the tenant's lock."""
    async with asyncio.timeout(10):
        while not await notifier.worker.fetchval(
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


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root, kept = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    lines = io.StringIO()
    logs.configure("notifier", "debug", stream=lines)
    yield lines
    structlog.configure(**kept)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"tenant_id": 7, "name": "Quentin", "address": "quentin@c.example"}',
        b'{"tenant_id": "x", "name": "Quentin", "address": "quentin@c.example"}',
        b'{"tenant_id": "0192f0c0-0000-7000-8000-000000000001", "name": ["Quentin"]}',
        b'{"tenant_id": "0192f0c0-0000-7000-8000-000000000001", "name": "Quentin", "address": "q"}',
    ],
)
async def test_a_body_that_is_no_contact_is_a_problem_that_repeats_nothing(
    notifier: Notifier, body: bytes, logged: io.StringIO
) -> None:
    async with notifier.client() as client:
        answer = await client.post(CONTACTS_PATH, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
    assert "uentin" not in answer.text + logged.getvalue()


async def test_too_much_and_other_methods_are_problems(notifier: Notifier) -> None:
    async with notifier.client() as client:
        large = await client.post(CONTACTS_PATH, content=b" " * 300_000)
        listed = await client.get(CONTACTS_PATH)
    assert (large.status_code, large.headers["content-type"]) == (413, PROBLEM)
    assert (listed.status_code, listed.headers["content-type"]) == (405, PROBLEM)


async def test_outside_development_there_is_no_such_door(
    notifier_roles: Roles, tmp_path: Path
) -> None:
    settings = settings_for(
        notifier_roles, tmp_path, development=False, dkim_file=dkim_file(tmp_path)
    )
    service = build(settings)
    transport = httpx2.ASGITransport(build_app(service, asyncio.Event()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://n.test") as client:
        assert (await client.post(CONTACTS_PATH, json={})).status_code == 404
