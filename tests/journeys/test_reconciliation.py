"""Rows behind the system's back are found and erased again; a system under load has no differences."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.purges import Phase
from devstack.journey import Journey
from devstack.stack import LocalStack
from tests.support.journey import Travellers

OWNERS = ("installer", "config", "notifier")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.2)


async def take_censuses(stack: LocalStack, *owners: str) -> None:
    """Each owner takes one when it starts; return when purger has compared them to their ends."""
    before = await finished(stack)
    for owner in owners:
        stack.kill(owner)
    await asyncio.gather(*(stack.start(owner) for owner in owners))

    async def compared() -> bool:
        now = await finished(stack)
        return all(owner in now and now[owner] != before.get(owner) for owner in owners)

    await until(compared)


async def finished(stack: LocalStack) -> dict[str, object]:
    async with connected(stack.databases["purger"].backup_url) as connection:
        rows = await connection.fetch("SELECT owner, finished_at FROM comparisons")
    return {row["owner"]: row["finished_at"] for row in rows if row["finished_at"]}


async def differences(stack: LocalStack) -> list[tuple[str, str, UUID]]:
    async with connected(stack.databases["purger"].backup_url) as connection:
        rows = await connection.fetch("SELECT owner, kind, tenant_id FROM differences")
    return [(row["owner"], row["kind"], row["tenant_id"]) for row in rows]


async def hours_go_by(stack: LocalStack) -> None:
    """Wall time cannot be moved, so what was seen is moved back."""
    async with connected(stack.databases["purger"].runtime_url) as connection:
        await connection.execute(
            "UPDATE differences SET first_seen_at = first_seen_at - interval '2 hours'"
        )


async def plant_datasource(stack: LocalStack, tenant_id: UUID) -> None:
    """Write as nobody should: past the door, and past the guard."""
    async with (
        connected(stack.databases["config"].runtime_url) as connection,
        connection.transaction(),
    ):
        await connection.execute("SELECT set_config('app.tenant', $1::text, true)", str(tenant_id))
        await connection.execute(
            "INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, position,"
            " created_at, updated_at, version)"
            " VALUES ($1, $2, 'datasource', 'late', '{}', '{}', 1, now(), now(), 1)",
            tenant_id,
            uuid4(),
        )


@pytest.mark.long
@pytest.mark.timeout(420)
async def test_a_system_under_load_has_no_differences_once_it_is_quiet(
    stack: LocalStack, customer: Travellers
) -> None:
    async def come_and_perhaps_go(number: int) -> Journey:
        journey = customer(f"load-{number}")
        await journey.install()
        if number % 3 == 0:
            await journey.uninstall()
        return journey

    coming = asyncio.gather(*(come_and_perhaps_go(number) for number in range(24)))
    await take_censuses(stack, "config", "notifier")
    await coming
    # What the first round saw on its way is there now, and nothing was mended.
    await take_censuses(stack, *OWNERS)

    assert await differences(stack) == []
    said = "".join(stack.log_of(name).read_text() for name in ("purger", "installer"))
    assert "differences are being mended" not in said
    assert "difference not explained" not in said


@pytest.mark.timeout(420)
async def test_rows_planted_behind_the_systems_back_are_found_and_erased_again(
    stack: LocalStack, customer: Travellers
) -> None:
    journey = customer("planted")
    tenant_id = await journey.install()
    await journey.uninstall()
    plan = await journey.wait_for_plan()
    await journey.move_to(plan.start_at + timedelta(minutes=1))
    await journey.wait_for_brake()
    await journey.release_brake("Ann Example", "Bob Example")
    await journey.wait_for_phase(Phase.CLOSED)
    await journey.wait_until_gone()
    await plant_datasource(stack, tenant_id)

    await take_censuses(stack, "config")
    found = ("config", "erased-but-held", tenant_id)
    assert found in await differences(stack)
    await hours_go_by(stack)
    # What an owner has answered only just now it does not look for again.
    await journey.move_to(stack.now() + timedelta(minutes=1))
    await take_censuses(stack, "config")

    async def erased() -> bool:
        return await journey.rows() == {}

    await until(erased)
    await take_censuses(stack, "config")
    assert found not in await differences(stack)
