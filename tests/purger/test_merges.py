"""Tenants for which another one goes on: due at once, and their people move."""

from uuid import uuid4

import pytest

from contracts.ledger import EntryKind
from contracts.purges import ClockKind, Phase, PurgeRequested, PurgeStarted, Scope
from contracts.tenants import ClassState, Departure, DepartureKind, TenantState, TenantStatus
from services.purger.domain.clocks import open_clocks
from services.purger.domain.dates import Retention, dates_of
from services.purger.domain.plans import plan_purges
from tests.purger.builders import (
    ACTIVE,
    DAY,
    LEFT_AT,
    NO_LICENCE,
    a_tenant,
    acceptance,
    answer,
    ended,
    purging,
)
from tests.purger.conftest import Purger

LIVING = uuid4()


def a_licence_alone(**changes: object) -> TenantState:
    """A tenant that never installed anything."""
    return a_tenant(status=TenantStatus.UNINSTALLED, **{"subscription": ACTIVE} | changes)  # type: ignore[arg-type]


def merged(tenant: TenantState, *, n: int = 2) -> TenantState:
    """The same tenant, closed because another one goes on for it."""
    return tenant.model_copy(
        update={
            "version": tenant.version.model_copy(update={"n": n}),
            "departure": Departure(at=LEFT_AT, how=DepartureKind.SUPERSEDED),
            "subscription": NO_LICENCE,
            "merged_into": LIVING,
        }
    )


def test_a_licence_alone_has_no_clock_until_it_ends() -> None:
    assert plan_purges(a_licence_alone(), Retention()) == []

    [plan] = plan_purges(a_licence_alone(subscription=ended(LEFT_AT)), Retention())

    assert plan.scope is Scope.EVERYTHING
    assert plan.clock == ClockKind.SUBSCRIPTION_ENDED
    dates = dates_of(LEFT_AT, Retention())
    assert (plan.start_at, plan.deadline) == (dates.start_at, dates.deadline)


@pytest.mark.parametrize("subscription", [NO_LICENCE, ACTIVE, ended(LEFT_AT - 90 * DAY)])
def test_a_tenant_that_goes_on_as_another_has_nothing_to_wait_for(subscription: object) -> None:
    tenant = merged(a_licence_alone()).model_copy(update={"subscription": subscription})

    [plan] = plan_purges(tenant, Retention())

    assert [clock.kind for clock in open_clocks(tenant)] == [ClockKind.MERGED]
    assert plan.scope is Scope.EVERYTHING
    assert plan.clock == ClockKind.MERGED
    began_at = max(tenant.subscription.ended_at or LEFT_AT, tenant.created_at)
    assert plan.start_at == began_at
    assert plan.deadline == dates_of(began_at, Retention()).deadline


def test_where_only_people_are_left_only_they_move() -> None:
    tenant = merged(a_licence_alone())
    classes = {
        each: state if each in Scope.PEOPLE.classes else ClassState.ERASED
        for each, state in tenant.classes.items()
    }

    [plan] = plan_purges(tenant.model_copy(update={"classes": classes}), Retention())

    assert plan.scope is Scope.PEOPLE
    assert plan.start_at == LEFT_AT


async def test_a_merge_takes_the_place_of_what_was_planned(purger: Purger) -> None:
    tenant = a_licence_alone(subscription=ended(LEFT_AT - DAY))
    await purger.hear(tenant)
    await purger.hear(merged(tenant))

    plans = {plan.clock: plan.phase for plan in (await purger.state()).plans}

    assert plans == {
        ClockKind.SUBSCRIPTION_ENDED: Phase.WITHDRAWN,
        ClockKind.MERGED: Phase.PLANNED,
    }


async def test_a_link_makes_a_superseded_tenant_due_at_once_until_it_comes_back(
    purger: Purger,
) -> None:
    left = Departure(at=LEFT_AT, how=DepartureKind.SUPERSEDED)
    superseded = a_tenant(status=TenantStatus.UNINSTALLED, departure=left, subscription=NO_LICENCE)
    back = a_tenant(n=3, tenant_id=superseded.tenant_id, subscription=NO_LICENCE)
    await purger.hear(superseded)
    [planned] = (await purger.state()).plans

    await purger.hear(merged(superseded))
    [due] = (await purger.state()).plans
    await purger.hear(back)
    [withdrawn] = (await purger.state()).plans

    assert (planned.clock, planned.start_at > LEFT_AT) == (ClockKind.UNINSTALLED, True)
    assert (due.clock, due.start_at) == (ClockKind.MERGED, LEFT_AT)
    # The same clock is the same purge, however it was hurried.
    assert due.purge_id == planned.purge_id == withdrawn.purge_id
    assert withdrawn.phase is Phase.WITHDRAWN
    assert await purger.sweeps.ask_for_due_purges() == 0


async def start(purger: Purger) -> tuple[TenantState, list[PurgeStarted]]:
    """Close a tenant and let wave 1 begin, without time passing."""
    tenant = merged(a_licence_alone(), n=1)
    await purger.hear(tenant)
    await purger.sweeps.ask_for_due_purges()
    [asked] = await purger.said(PurgeRequested)
    await purger.hear(purging(tenant, asked), acceptance(asked, purger.clock.now()))
    return tenant, await purger.said(PurgeStarted)


async def test_every_command_and_the_ledger_say_who_goes_on(purger: Purger) -> None:
    _, orders = await start(purger)
    for order in orders:
        await purger.hear(answer(order, purger.clock.now()))

    commands = await purger.said(PurgeStarted)

    assert {command.step for command in commands} >= {"erase-installer", "erase-contacts"}
    assert {command.merged_into for command in commands} == {LIVING}
    entries = await purger.ledger()
    assert [entry.merged_into for entry in entries if entry.kind is EntryKind.TENANT_ERASED] == [
        LIVING,
        LIVING,
    ]
    assert {entry.merged_into for entry in entries if entry.kind is EntryKind.RECEIPT} == {None}


async def test_asked_again_owners_hear_who_goes_on(purger: Purger) -> None:
    _, orders = await start(purger)
    purger.clock.advance(DAY)

    await purger.sweeps.ask_again()

    again = (await purger.said(PurgeStarted))[len(orders) :]
    assert {command.merged_into for command in again} == {LIVING}
    assert len(again) == len(orders)


async def test_an_ordinary_purge_names_nobody(purger: Purger) -> None:
    orders = await purger.begin()

    assert {order.merged_into for order in orders} == {None}


async def test_merges_count_for_the_brake_as_every_purge_does(purger: Purger) -> None:
    await purger.hear(*[merged(a_licence_alone(), n=1) for _ in range(10)])

    await purger.sweeps.ask_for_due_purges()

    assert await purger.said(PurgeRequested) == []
