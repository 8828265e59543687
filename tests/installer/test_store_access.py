"""Claims and outcomes of access: real PostgreSQL, no sites."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis.clock import ManualClock
from chassis.unit_of_work import Units
from contracts.tenants import DepartureKind, TenantState
from services.installer.domain.access import Answer
from services.installer.domain.tenants import Installation, leave
from services.installer.door import Door, hear_installed, hear_uninstalled
from services.installer.store import access as store
from services.installer.store import tenants as store_of_tenants
from services.installer.store.access import Claim, LossCount, Outcome
from tests.installer.conftest import APP, OTHER_APP, START, Database

DAY = timedelta(days=1)
LEASE = timedelta(minutes=10)


@pytest.fixture
async def tenant_ids(database: Database, units: Units[Door]) -> list[UUID]:
    """Six installed tenants that are asked from now on."""
    for number in range(6):
        await install(units, f"client-{number}")
    await adopt(units)
    return [(await database.tenants(f"client-{number}"))[0] for number in range(6)]


async def install(units: Units[Door], client_key: str, app: str = APP) -> None:
    await hear_installed(
        units,
        Installation(
            addon_key=app,
            product_type="jira",
            client_key=client_key,
            base_url=f"https://{client_key}.atlassian.net",
            service_entitlement_number=None,
            shared_secret=f"ATCO-{client_key}",
            oauth_client_id=None,
        ),
    )


async def adopt(units: Units[Door]) -> int:
    return await store.adopt_tenants(units.pool, now=units.clock.now(), limit=100)


async def claim(units: Units[Door], token: UUID, *, limit: int = 100) -> list[Claim]:
    clock = units.clock
    return await store.claim_due_checks(
        units.pool, token, now=clock.now(), wall=clock.wall(), lease=LEASE, limit=limit
    )


async def check_of(database: Database, tenant_id: UUID) -> dict[str, object]:
    row = await database.owner.fetchrow(
        "SELECT * FROM access_checks WHERE tenant_id = $1", tenant_id
    )
    assert row is not None
    return dict(row)


async def depart(units: Units[Door], tenant_id: UUID, how: DepartureKind) -> TenantState:
    async with units.begin() as uow:
        tenant = await store_of_tenants.lock_tenant(uow.connection, tenant_id)
        assert tenant is not None
        said = leave(tenant, how, epoch=await uow.epoch(), at=uow.now)
        assert said is not None
        await store_of_tenants.record_state(uow, said, "tenant-uninstalled")
        return said


async def test_tenants_are_taken_up_once_and_asked_within_a_day(
    tenant_ids: list[UUID], units: Units[Door], database: Database, clock: ManualClock
) -> None:
    assert await adopt(units) == 0
    checks = [await check_of(database, tenant_id) for tenant_id in tenant_ids]
    assert all(START <= check["due_at"] <= START + DAY for check in checks)  # type: ignore[operator]
    assert {check["last_seen_at"] for check in checks} == {START}
    assert len({check["due_at"] for check in checks}) > 1


async def test_nothing_counts_against_an_old_tenant_that_was_never_asked(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    await install(units, "old")
    clock.advance(400 * DAY)
    await adopt(units)
    (tenant_id,) = await database.tenants("old")
    assert (await check_of(database, tenant_id))["last_seen_at"] == clock.now()


async def test_a_replica_beside_ours_takes_up_the_same_tenants_only_once(
    units: Units[Door], database: Database
) -> None:
    for number in range(40):
        await install(units, f"client-{number}")
    taken = await asyncio.gather(*(adopt(units) for _ in range(4)))
    assert sum(taken) == 40


async def test_two_workers_share_what_is_due(
    tenant_ids: list[UUID], units: Units[Door], clock: ManualClock
) -> None:
    clock.advance(DAY)
    claims = await asyncio.gather(*(claim(units, uuid4(), limit=2) for _ in range(3)))
    assert sorted(each.tenant_id for part in claims for each in part) == sorted(tenant_ids)
    assert [len(part) for part in claims] == [2, 2, 2]


async def test_what_a_killed_worker_claimed_is_taken_over_when_its_lease_is_over(
    tenant_ids: list[UUID], units: Units[Door], clock: ManualClock
) -> None:
    clock.advance(DAY)
    killed, other = uuid4(), uuid4()
    assert len(await claim(units, killed)) == 6
    clock.advance(LEASE)
    assert await claim(units, other) == []
    clock.advance(timedelta(seconds=1))
    assert len(await claim(units, other)) == 6
    # It comes back too late.
    outcomes = [Outcome(each, Answer.LOST, clock.now() + DAY) for each in tenant_ids]
    assert await store.record_outcomes(units.pool, killed, outcomes, now=clock.now()) == []
    recorded = await store.record_outcomes(units.pool, other, outcomes, now=clock.now())
    assert sorted(recorded) == sorted(tenant_ids)


@pytest.fixture
async def token(tenant_ids: list[UUID], units: Units[Door], clock: ManualClock) -> UUID:
    clock.advance(DAY)
    token = uuid4()
    await claim(units, token)
    return token


async def record(
    units: Units[Door], token: UUID, tenant_id: UUID, answer: Answer, *, active: bool | None = None
) -> None:
    """Record an outcome, and have the token hold the site again, as if it were due."""
    now = units.clock.now()
    outcome = Outcome(tenant_id, answer, now, active)
    assert await store.record_outcomes(units.pool, token, [outcome], now=now) == [tenant_id]
    await units.pool.execute(
        "UPDATE access_checks SET claim_token = $1 WHERE tenant_id = $2", token, tenant_id
    )


async def test_losses_are_counted_from_the_first_and_end_with_an_answer(
    tenant_ids: list[UUID],
    token: UUID,
    units: Units[Door],
    database: Database,
    clock: ManualClock,
) -> None:
    tenant_id = tenant_ids[0]
    first = clock.now()
    for _ in range(3):
        await record(units, token, tenant_id, Answer.LOST)
        last = clock.now()
        clock.advance(DAY)
        await record(units, token, tenant_id, Answer.UNCLEAR)
    check = await check_of(database, tenant_id)
    assert (check["losses"], check["first_lost_at"], check["last_lost_at"]) == (3, first, last)
    assert check["last_seen_at"] == START
    async with units.begin() as uow:
        assert await store.confirm_loss(uow.connection, tenant_id, by="kim", now=uow.now)
    await record(units, token, tenant_id, Answer.SEEN)
    check = await check_of(database, tenant_id)
    assert (check["losses"], check["first_lost_at"], check["last_lost_at"]) == (0, None, None)
    assert check["last_seen_at"] == clock.now()
    assert (check["confirmed_at"], check["confirmed_by"]) == (None, None)


async def test_after_a_restore_refusals_are_counted_anew_and_who_left_stays_gone(
    tenant_ids: list[UUID],
    token: UUID,
    units: Units[Door],
    database: Database,
    clock: ManualClock,
) -> None:
    refused, gone, fine = tenant_ids[:3]
    for tenant_id in (refused, gone):
        await record(units, token, tenant_id, Answer.LOST)
    last = clock.now()
    await depart(units, gone, DepartureKind.ACCESS_LOST)
    seen_before = (await check_of(database, fine))["last_seen_at"]
    clock.advance(DAY)

    for counted in (1, 0):
        async with units.begin() as uow:
            assert await store.count_losses_anew(uow.connection) == counted

    check = await check_of(database, refused)
    assert (check["losses"], check["first_lost_at"], check["last_lost_at"]) == (0, None, None)
    # It may have answered in the time that is lost, but not before.
    assert check["last_seen_at"] == last
    assert (await check_of(database, gone))["losses"] == 1
    assert (await check_of(database, fine))["last_seen_at"] == seen_before


async def test_a_sites_word_on_its_licence_stays_until_the_next(
    tenant_ids: list[UUID],
    token: UUID,
    units: Units[Door],
    database: Database,
    clock: ManualClock,
) -> None:
    tenant_id = tenant_ids[0]

    async def licence() -> tuple[object, object, object]:
        check = await check_of(database, tenant_id)
        return (
            check["licence_active"],
            check["licence_heard_at"],
            check["licence_inactive_since"],
        )

    active_at = clock.now()
    await record(units, token, tenant_id, Answer.SEEN, active=True)
    await record(units, token, tenant_id, Answer.LOST)
    assert await licence() == (True, active_at, None)
    clock.advance(DAY)
    ended_at = clock.now()
    await record(units, token, tenant_id, Answer.SEEN, active=False)
    clock.advance(DAY)
    await record(units, token, tenant_id, Answer.UNCLEAR)
    await record(units, token, tenant_id, Answer.SEEN, active=False)
    assert await licence() == (False, clock.now(), ended_at)
    await record(units, token, tenant_id, Answer.SEEN, active=True)
    assert await licence() == (True, clock.now(), None)


async def test_asked_is_who_is_installed_by_connect_or_only_thought_to_have_left(
    tenant_ids: list[UUID], units: Units[Door], database: Database, clock: ManualClock
) -> None:
    lost, superseded, moved, purging, gone, there = tenant_ids
    await depart(units, lost, DepartureKind.ACCESS_LOST)
    await depart(units, superseded, DepartureKind.SUPERSEDED)
    await hear_uninstalled(units, APP, "client-4")
    execute = database.owner.execute
    # It lives on Forge alone.
    await execute("UPDATE installations SET present = false WHERE tenant_id = $1", moved)
    await execute("UPDATE installations SET live = false WHERE tenant_id = $1", purging)
    await execute("UPDATE tenants SET status = 'purging' WHERE tenant_id = $1", purging)
    clock.advance(DAY)
    claims = await claim(units, uuid4())
    assert {each.tenant_id for each in claims} == {lost, there}
    assert {each.tenant_id for each in claims if each.is_lost} == {lost}
    assert gone not in {each.tenant_id for each in claims}


async def test_who_is_not_asked_makes_room_and_forgets_its_losses(
    tenant_ids: list[UUID],
    token: UUID,
    units: Units[Door],
    database: Database,
    clock: ManualClock,
) -> None:
    left, there = tenant_ids[4], tenant_ids[5]
    for tenant_id in (left, there):
        await record(units, token, tenant_id, Answer.LOST)
    await hear_uninstalled(units, APP, "client-4")
    await store.put_off_others(units.pool, now=clock.now())
    assert (await check_of(database, left))["losses"] == 0
    assert (await check_of(database, left))["due_at"] == clock.now() + DAY
    assert (await check_of(database, there))["losses"] == 1


async def test_losses_are_counted_per_app_within_a_week_and_after_a_release(
    tenant_ids: list[UUID], token: UUID, units: Units[Door], clock: ManualClock
) -> None:
    await install(units, "client-0", OTHER_APP)
    await adopt(units)

    async def counted() -> list[LossCount]:
        return await store.count_losses(units.pool, now=clock.now())

    await record(units, token, tenant_ids[0], Answer.LOST)
    clock.advance(3 * DAY)
    await record(units, token, tenant_ids[1], Answer.LOST)
    assert await counted() == [LossCount(APP, 2, 6), LossCount(OTHER_APP, 0, 1)]
    clock.advance(4 * DAY)
    assert (await counted())[0] == LossCount(APP, 1, 6)
    assert await store.open_hold(
        units.pool, (await counted())[0], now=clock.now(), wall=clock.wall()
    )
    async with units.begin() as uow:
        assert await store.release_hold(uow.connection, APP, by="kim", now=clock.now())
        assert not await store.release_hold(uow.connection, APP, by="kim", now=clock.now())
    assert (await counted())[0] == LossCount(APP, 0, 6)
    clock.advance(timedelta(minutes=1))
    await record(units, token, tenant_ids[2], Answer.LOST)
    assert (await counted())[0] == LossCount(APP, 1, 6)


async def test_an_app_is_held_once_at_a_time(database: Database, units: Units[Door]) -> None:
    count, now = LossCount(APP, 10, 100), units.clock.now()
    held = [await store.open_hold(units.pool, count, now=now, wall=now) for _ in range(2)]
    assert held == [True, False]
    (hold,) = await store.open_holds(units.pool)
    assert (hold.addon_key, hold.losses, hold.asked) == (APP, 10, 100)


async def test_nobody_confirms_the_loss_of_a_site_that_lets_us_in(
    tenant_ids: list[UUID], units: Units[Door]
) -> None:
    async with units.begin() as uow:
        assert not await store.confirm_loss(uow.connection, tenant_ids[0], by="kim", now=uow.now)
        assert not await store.confirm_loss(uow.connection, uuid4(), by="kim", now=uow.now)


async def test_no_secret_or_host_shows_in_a_claim(
    tenant_ids: list[UUID], units: Units[Door], clock: ManualClock
) -> None:
    clock.advance(DAY)
    shown = repr(await claim(units, uuid4()))
    assert "atlassian.net" not in shown
    assert "shared_secret" not in shown
