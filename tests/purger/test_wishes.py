"""Early erasure, asked for by the customer or by the privacy role."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest

from contracts.classes import TENANT_CLASSES
from contracts.purges import (
    ClockKind,
    ErasureAsked,
    ErasureWithdrawn,
    Phase,
    Plan,
    PurgeRequested,
    PurgeStarted,
    PurgeState,
    Scope,
    purge_id,
)
from contracts.tenants import TenantState
from services.purger import handlers
from services.purger.domain.dates import Retention
from services.purger.domain.plans import adopt_purge, plan_purges
from tests.purger.builders import (
    ACTIVE,
    CREATED_AT,
    DAY,
    LEFT_AT,
    a_tenant,
    acceptance,
    answer,
    ended,
    purging,
    refusal,
)
from tests.purger.conftest import Purger

RETENTION = Retention()
ASKED_AT = LEFT_AT


def asked(tenant: TenantState, at: datetime = ASKED_AT) -> ErasureAsked:
    return ErasureAsked(wish_id=uuid4(), tenant_id=tenant.tenant_id, asked_at=at)


def withdrawn(wish: ErasureAsked) -> ErasureWithdrawn:
    return ErasureWithdrawn(
        wish_id=wish.wish_id, tenant_id=wish.tenant_id, withdrawn_at=wish.asked_at + DAY
    )


def standing(state: PurgeState) -> list[Plan]:
    return [plan for plan in state.plans if plan.phase is not Phase.WITHDRAWN]


# -- the rule -------------------------------------------------------------------------------------


def test_who_asks_is_erased_within_21_days_also_while_it_is_installed_and_pays() -> None:
    tenant = a_tenant(subscription=ACTIVE)

    (plan,) = plan_purges(tenant, RETENTION, wished_at=ASKED_AT)

    assert (plan.scope, plan.takes) == (Scope.EVERYTHING, TENANT_CLASSES)
    assert (plan.clock, plan.clock_started_at) == (ClockKind.ERASURE_ASKED, ASKED_AT)
    assert plan.start_at == ASKED_AT + 7 * DAY
    assert plan.erase_by == ASKED_AT + 21 * DAY
    assert plan.deadline == plan.erase_by + RETENTION.residue


def test_a_wish_of_a_tenant_that_left_counts_where_it_is_sooner_and_only_there() -> None:
    lately = a_tenant(left_at=ASKED_AT - 3 * DAY)
    long_ago = a_tenant(left_at=ASKED_AT - 160 * DAY, created_at=ASKED_AT - 900 * DAY)

    (sooner,) = plan_purges(lately, RETENTION, wished_at=ASKED_AT)
    (as_before,) = plan_purges(long_ago, RETENTION, wished_at=ASKED_AT)

    assert sooner.clock == ClockKind.ERASURE_ASKED
    assert [as_before] == plan_purges(long_ago, RETENTION)


def test_a_wish_takes_people_although_their_licence_runs() -> None:
    tenant = a_tenant(
        left_at=ASKED_AT - 160 * DAY, created_at=ASKED_AT - 900 * DAY, subscription=ACTIVE
    )

    plans = plan_purges(tenant, RETENTION, wished_at=ASKED_AT)

    assert {plan.scope: plan.clock for plan in plans} == {
        Scope.SERVICE_DATA: ClockKind.UNINSTALLED,
        Scope.PEOPLE: ClockKind.ERASURE_ASKED,
    }


def test_a_wish_from_before_the_tenant_was_created_counts_from_its_creation() -> None:
    (plan,) = plan_purges(a_tenant(), RETENTION, wished_at=CREATED_AT - DAY)

    assert plan.clock_started_at == CREATED_AT


def test_a_tenant_that_goes_on_as_another_one_has_no_wish_left() -> None:
    merged = a_tenant(left_at=LEFT_AT, merged_into=uuid4())

    assert plan_purges(merged, RETENTION, wished_at=ASKED_AT) == plan_purges(merged, RETENTION)


def test_a_wished_purge_that_a_restored_purger_does_not_know_is_taken_up_with_its_dates() -> None:
    tenant = a_tenant(subscription=ACTIVE)
    (plan,) = plan_purges(tenant, RETENTION, wished_at=ASKED_AT)
    asking = PurgeRequested(
        purge_id=plan.purge_id,
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=tenant.version,
        classes=plan.takes,
    )

    (taken_up,) = adopt_purge([], purging(tenant, asking), RETENTION, wished_at=ASKED_AT)

    assert taken_up.plan == plan.model_copy(update={"phase": Phase.REQUESTED})


# -- the customer's wish --------------------------------------------------------------------------


async def test_a_wish_is_planned_and_said_and_kept_to_the_end(purger: Purger) -> None:
    tenant = a_tenant(subscription=ACTIVE)
    wish = asked(tenant)
    await purger.hear(tenant)
    await purger.hear(wish)

    state = await purger.state()
    assert [(each.wish_id, each.asked_at, each.by) for each in state.wishes] == [
        (wish.wish_id, ASKED_AT, "customer")
    ]
    (plan,) = state.plans
    purger.clock.set(plan.start_at - timedelta(seconds=1))
    assert await purger.sweeps.ask_for_due_purges() == 0
    purger.clock.set(plan.start_at)
    assert await purger.sweeps.ask_for_due_purges() == 1
    (asking,) = await purger.said(PurgeRequested)
    await purger.hear(acceptance(asking, purger.clock.now()), purging(tenant, asking))
    for order in await purger.said(PurgeStarted):
        await purger.hear(answer(order, purger.clock.now()))
    (contacts,) = (await purger.said(PurgeStarted))[-1:]
    await purger.hear(answer(contacts, purger.clock.now()))

    assert await purger.tombstones() == 1


async def test_a_wish_that_comes_before_the_tenants_state_is_planned_with_it(
    purger: Purger,
) -> None:
    tenant = a_tenant()
    await purger.hear(asked(tenant))
    assert await purger.said(PurgeState) == []
    assert await purger.tombstones() == 0

    await purger.hear(tenant)

    (plan,) = (await purger.state()).plans
    assert plan.clock == ClockKind.ERASURE_ASKED


async def test_a_wish_heard_again_changes_nothing_and_a_second_one_winds_no_clock_back(
    purger: Purger,
) -> None:
    tenant = a_tenant()
    wish = asked(tenant)
    await purger.hear(tenant)
    await purger.hear(wish)
    before = await purger.everything()
    await purger.hear(wish)
    assert await purger.everything() == before

    purger.clock.advance(DAY)
    await purger.hear(asked(tenant, ASKED_AT + DAY))

    state = await purger.state()
    assert [each.asked_at for each in state.wishes] == [ASKED_AT, ASKED_AT + DAY]
    assert [plan.clock_started_at for plan in standing(state)] == [ASKED_AT]


async def test_a_withdrawn_wish_counts_no_longer_and_the_other_one_still_does(
    purger: Purger,
) -> None:
    tenant = a_tenant()
    first, second = asked(tenant), asked(tenant, ASKED_AT + DAY)
    purger.clock.advance(DAY)
    await purger.hear(tenant)
    await purger.hear(first, second)

    await purger.hear(withdrawn(first))
    (left,) = standing(await purger.state())
    await purger.hear(withdrawn(second))

    assert left.clock_started_at == ASKED_AT + DAY
    state = await purger.state()
    assert (standing(state), state.wishes) == ([], ())


async def test_a_wish_that_comes_after_its_withdrawal_does_not_count(purger: Purger) -> None:
    tenant = a_tenant()
    wish = asked(tenant)
    await purger.hear(tenant)

    await purger.hear(withdrawn(wish))
    await purger.hear(wish)

    assert await purger.said(PurgeState) == []


async def test_nobody_withdraws_the_wish_of_another_tenant(purger: Purger) -> None:
    tenant, other = a_tenant(), a_tenant()
    wish = asked(tenant)
    await purger.hear(tenant, other)
    await purger.hear(wish)

    await purger.hear(withdrawn(wish).model_copy(update={"tenant_id": other.tenant_id}))

    assert len(standing(await purger.state())) == 1


async def test_an_uninstall_and_a_reinstall_do_not_withdraw_a_wish(purger: Purger) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    await purger.hear(asked(tenant))
    planned = standing(await purger.state())

    await purger.hear(a_tenant(n=2, tenant_id=tenant.tenant_id, left_at=ASKED_AT + DAY))
    await purger.hear(a_tenant(n=3, tenant_id=tenant.tenant_id, subscription=ended(LEFT_AT)))
    await purger.hear(a_tenant(n=4, tenant_id=tenant.tenant_id))

    assert standing(await purger.state()) == planned


async def until_asked(purger: Purger) -> tuple[TenantState, ErasureAsked, PurgeRequested]:
    tenant = a_tenant()
    wish = asked(tenant)
    await purger.hear(tenant)
    await purger.hear(wish)
    purger.clock.set((await purger.state()).plans[0].start_at)
    await purger.sweeps.ask_for_due_purges()
    return tenant, wish, (await purger.said(PurgeRequested))[-1]


async def test_once_the_installer_was_asked_it_is_too_late_to_withdraw(purger: Purger) -> None:
    _, wish, asking = await until_asked(purger)

    await purger.hear(withdrawn(wish))
    assert len((await purger.state()).wishes) == 1
    await purger.hear(acceptance(asking, purger.clock.now()))

    state = await purger.state()
    assert [plan.phase for plan in state.plans] == [Phase.ERASING]
    assert len(state.wishes) == 1


async def test_a_withdrawal_that_was_too_late_counts_if_the_installer_says_no(
    purger: Purger,
) -> None:
    _, wish, asking = await until_asked(purger)
    await purger.hear(withdrawn(wish))

    await purger.hear(refusal(asking, purger.clock.now()))

    state = await purger.state()
    assert [plan.phase for plan in state.plans] == [Phase.WITHDRAWN]
    assert state.wishes == ()


async def test_a_wish_stands_when_the_installer_says_no(purger: Purger) -> None:
    tenant, _, asking = await until_asked(purger)

    await purger.hear(refusal(asking, purger.clock.now()))
    await purger.hear(a_tenant(n=2, tenant_id=tenant.tenant_id))

    state = await purger.state()
    assert [plan.phase for plan in state.plans] == [Phase.PLANNED]
    assert len(state.wishes) == 1


async def test_a_wish_does_not_count_from_a_time_that_has_not_come(purger: Purger) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)

    await purger.hear(asked(tenant, ASKED_AT + 300 * DAY))

    assert standing(await purger.state())[0].clock_started_at == purger.clock.now()


async def test_wishes_are_forgotten_30_days_after_their_tenant(purger: Purger) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    await purger.hear(asked(tenant))
    async with purger.units.begin() as uow:
        await handlers.forget_tenants(tenant.tenant_id, uow)
    kept = "SELECT count(*) FROM wishes"

    purger.clock.advance(29 * DAY)
    await purger.sweeps.drop_old_purges()
    assert await purger.runtime.fetchval(kept) == 1
    purger.clock.advance(2 * DAY)
    await purger.sweeps.drop_old_purges()
    assert await purger.runtime.fetchval(kept) == 0


# -- the privacy role's ---------------------------------------------------------------------------

REASON = "asked by letter, kept under 2026-117"


async def wish_of_ada(client: httpx2.AsyncClient, tenant_id: UUID) -> str:
    made = await client.post(
        f"/staff/tenants/{tenant_id}/wishes", json={"name": "Ada", "reason": REASON}
    )
    assert made.status_code == 201, made.text
    assert made.json()["asked_at"] is None
    wish_id: str = made.json()["wish_id"]
    return wish_id


async def test_a_wish_of_the_privacy_role_counts_when_another_person_confirms_it(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    path = f"/staff/wishes/{await wish_of_ada(client, tenant.tenant_id)}/confirmations"
    purger.clock.advance(DAY)

    alone = await client.post(path, json={"name": " ada "})
    assert (alone.status_code, await purger.said(PurgeState)) == (409, [])
    confirmed = await client.post(path, json={"name": "Grace"})
    purger.clock.advance(DAY)
    again = await client.post(path, json={"name": "Mary"})

    assert confirmed.status_code == 200
    assert again.json() == confirmed.json()
    (state,) = await purger.said(PurgeState)
    assert [plan.clock_started_at for plan in state.plans] == [ASKED_AT + DAY]
    assert [wish.by for wish in state.wishes] == ["privacy"]
    assert state.plans[0].purge_id == purge_id(tenant.tenant_id, Scope.EVERYTHING, ASKED_AT + DAY)


async def test_why_and_by_whom_a_wish_was_made_is_said_nowhere(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    wish_id = await wish_of_ada(client, tenant.tenant_id)

    shown = await client.post(f"/staff/wishes/{wish_id}/confirmations", json={"name": "Bob"})

    said = b"".join(row["payload"] for row in await purger.runtime.fetch("SELECT * FROM outbox"))
    for word in ("Ada", "Bob", "2026-117"):
        assert word not in shown.text
        assert word.encode() not in said


async def test_a_wish_of_the_privacy_role_is_withdrawn_until_the_installer_is_asked(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    first = f"/staff/wishes/{await wish_of_ada(client, tenant.tenant_id)}"
    await client.post(f"{first}/confirmations", json={"name": "Grace"})
    for _ in range(2):
        gone = await client.post(f"{first}/withdrawals", json={"name": "Mary"})
        assert gone.status_code == 200
    assert standing(await purger.state()) == []
    late = await client.post(f"{first}/confirmations", json={"name": "Grace"})
    assert late.status_code == 409

    second = f"/staff/wishes/{await wish_of_ada(client, tenant.tenant_id)}"
    await client.post(f"{second}/confirmations", json={"name": "Grace"})
    purger.clock.advance(8 * DAY)
    await purger.sweeps.ask_for_due_purges()

    too_late = await client.post(f"{second}/withdrawals", json={"name": "Mary"})
    assert too_late.status_code == 409
    assert len((await purger.state()).wishes) == 1


async def test_nobody_is_erased_whom_nobody_knows(client: httpx2.AsyncClient) -> None:
    body = {"name": "Ada", "reason": REASON}
    assert (await client.post(f"/staff/tenants/{uuid4()}/wishes", json=body)).status_code == 404
    for what in ("confirmations", "withdrawals"):
        path = f"/staff/wishes/{uuid4()}/{what}"
        assert (await client.post(path, json={"name": "Ada"})).status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"name": "Ada"}, {"name": "Ada", "reason": "  "}, {"name": " ", "reason": "x"}]
)
async def test_a_wish_needs_a_name_and_a_reason(
    purger: Purger, client: httpx2.AsyncClient, body: dict[str, str]
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    path = f"/staff/tenants/{tenant.tenant_id}/wishes"
    assert (await client.post(path, json=body)).status_code == 400


async def test_a_withdrawal_that_comes_before_its_wish_counts_while_another_wish_is_past_return(
    purger: Purger,
) -> None:
    tenant, _, asking = await until_asked(purger)
    second = asked(tenant)
    await purger.hear(withdrawn(second))
    await purger.hear(second)

    await purger.hear(refusal(asking, purger.clock.now()))

    assert second.wish_id not in [wish.wish_id for wish in (await purger.state()).wishes]
