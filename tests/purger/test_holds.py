"""Legal holds: what is kept, what goes all the same, and what happens on release."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import ReceiptStage
from contracts.purges import Phase, Plan, PurgeRequested, PurgeStarted, PurgeState, Scope, purge_id
from contracts.tenants import ClassState, Platform, TenantState, Version
from services.purger import handlers
from services.purger.domain.dates import Retention
from services.purger.domain.plans import nothing_left, plan_purges, too_late_to_hold
from services.purger.figures import HoldFigures, PurgeFigures
from services.purger.jobs import count_held_job
from services.purger.planning import HELD_TOO_LATE
from services.purger.watch import Watch
from tests.purger.builders import DAY, LEFT_AT, a_tenant, acceptance, answer, purging, refusal
from tests.purger.conftest import SILENCE, Purger

RETENTION = Retention()
CONTENT = DataClass.CONTENT
REST = tuple(each for each in TENANT_CLASSES if each is not CONTENT)


# -- the rule -------------------------------------------------------------------------------------


def test_a_held_class_has_a_plan_of_its_own_with_the_same_dates() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (whole,) = plan_purges(tenant, RETENTION)

    rest, held = plan_purges(tenant, RETENTION, held={CONTENT})

    assert (rest.takes, rest.held) == (REST, False)
    assert (held.takes, held.held) == ((CONTENT,), True)
    for plan in (rest, held):
        assert (plan.start_at, plan.erase_by) == (whole.start_at, whole.erase_by)
        assert plan.purge_id == purge_id(tenant.tenant_id, plan.scope, LEFT_AT, plan.classes)


def test_the_held_part_is_the_same_purge_after_the_release() -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    _, held = plan_purges(tenant, RETENTION, held={CONTENT})
    gone = {**dict.fromkeys(TENANT_CLASSES, ClassState.ERASED), CONTENT: ClassState.LIVE}

    (released,) = plan_purges(tenant.model_copy(update={"classes": gone}), RETENTION)

    assert released == held.model_copy(update={"held": False})


def test_what_nothing_is_planned_for_needs_no_held_plan() -> None:
    assert plan_purges(a_tenant(), RETENTION, held=set(TENANT_CLASSES)) == []


def test_old_content_on_forge_is_held_like_any_other() -> None:
    tenant = a_tenant(platform=Platform.FORGE, platform_since=LEFT_AT)

    (plan,) = plan_purges(tenant, RETENTION, held={CONTENT})

    assert (plan.takes, plan.held) == ((CONTENT,), True)


@pytest.mark.parametrize(
    ("phase", "late"),
    [
        (Phase.PLANNED, False),
        (Phase.WITHDRAWN, False),
        (Phase.REQUESTED, True),
        (Phase.ERASING, True),
        (Phase.ERASED, True),
        (Phase.CLOSED, True),
    ],
)
def test_a_hold_comes_too_late_once_the_installer_was_asked(phase: Phase, *, late: bool) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    rest, held = plan_purges(tenant, RETENTION, held={CONTENT})
    plans = [rest.model_copy(update={"phase": phase}), held]
    wanted = (CONTENT, DataClass.ERRORS)

    assert too_late_to_hold(wanted, tenant, plans) == ({DataClass.ERRORS} if late else set())


def test_a_hold_comes_too_late_for_what_is_no_longer_live() -> None:
    tenant = a_tenant()
    without = tenant.model_copy(update={"classes": {**tenant.classes, CONTENT: ClassState.PURGING}})

    assert too_late_to_hold(TENANT_CLASSES, without, []) == {CONTENT}


async def test_a_hold_on_what_a_restored_purger_did_not_know_to_be_going_ends_when_it_hears_so(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    both = await place(client, tenant.tenant_id, CONTENT, DataClass.TICKETS)
    late = await place(client, tenant.tenant_id, DataClass.ERRORS)
    lost = uuid4()
    going = {**tenant.classes, CONTENT: ClassState.PURGING, DataClass.ERRORS: ClassState.PURGING}

    with capture_logs() as logs:
        await purger.hear(
            tenant.model_copy(
                update={"classes": going, "purge_id": lost, "version": Version(epoch=1, n=9)}
            )
        )

    state = await purger.state()
    assert {str(hold.hold_id): hold.classes for hold in state.holds} == {
        both["hold_id"]: (DataClass.TICKETS,)
    }
    assert [entry["log_level"] for entry in logs if entry["event"] == HELD_TOO_LATE] == ["error"]
    (plan,) = [plan for plan in state.plans if plan.purge_id == lost]
    assert plan.takes == (CONTENT, DataClass.ERRORS)
    shown = (await client.get(f"/staff/tenants/{tenant.tenant_id}/holds")).json()
    ended = {each["hold_id"]: each["released_by"] for each in shown}
    assert ended == {both["hold_id"]: None, late["hold_id"]: HELD_TOO_LATE}


# -- from the hold to the last receipt ------------------------------------------------------------


async def place(
    client: httpx2.AsyncClient, tenant_id: UUID, *classes: DataClass, status: int = 201
) -> dict[str, Any]:
    answered = await client.post(
        f"/staff/tenants/{tenant_id}/holds",
        json={
            "name": "Ada",
            "reason": "court file 7 U 12/26",
            "basis": "legal-claims",
            "classes": list(classes),
        },
    )
    assert answered.status_code == status, answered.text
    shown: dict[str, Any] = answered.json()
    return shown


async def release(client: httpx2.AsyncClient, hold: dict[str, Any]) -> dict[str, Any]:
    answered = await client.post(
        f"/staff/holds/{hold['hold_id']}/releases",
        json={"name": "Grace", "reason": "settled"},
    )
    assert answered.status_code == 200, answered.text
    shown: dict[str, Any] = answered.json()
    return shown


def by_classes(state: PurgeState) -> dict[tuple[DataClass, ...], Plan]:
    return {plan.takes: plan for plan in state.plans if plan.phase is not Phase.WITHDRAWN}


async def let_go(purger: Purger, tenant: TenantState) -> TenantState:
    """Ask for what is due, let everybody say yes, and return the tenant's state after it."""
    await purger.sweeps.ask_for_due_purges()
    asked = (await purger.said(PurgeRequested))[-1]
    began_at = len(await purger.said(PurgeStarted))
    after = purging(tenant, asked)
    await purger.hear(acceptance(asked, purger.clock.now()), after)
    while orders := (await purger.said(PurgeStarted))[began_at:]:
        began_at += len(orders)
        for order in orders:
            await purger.hear(answer(order, purger.clock.now()))
    gone: dict[DataClass, ClassState] = {
        each: ClassState.ERASED if state is ClassState.PURGING else state
        for each, state in after.classes.items()
    }
    version = Version(epoch=1, n=after.version.n + 1)
    finished = after.model_copy(update={"classes": gone, "version": version})
    await purger.hear(finished)
    return finished


@pytest.mark.parametrize(
    "held",
    [
        [CONTENT],
        [DataClass.CONTACTS],
        [DataClass.INSTALLATION],
        [DataClass.ERRORS, DataClass.TICKETS],
        [DataClass.TICKETS, DataClass.CONTACTS],
    ],
)
async def test_the_others_go_on_time_and_what_was_held_goes_when_it_is_released(
    purger: Purger, client: httpx2.AsyncClient, woken: list[str], held: list[DataClass]
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    hold = await place(client, tenant.tenant_id, *held)
    rest = tuple(each for each in TENANT_CLASSES if each not in held)
    plans = by_classes(await purger.state())
    assert set(plans) == {tuple(held), rest}
    purger.clock.set(plans[rest].start_at)

    tenant = await let_go(purger, tenant)

    plans = by_classes(await purger.state())
    assert {plan.takes: (plan.phase, plan.held) for plan in plans.values()} == {
        rest: (Phase.CLOSED, False),
        tuple(held): (Phase.PLANNED, True),
    }
    ordered = [each for order in await purger.said(PurgeStarted) for each in order.classes]
    assert sorted(ordered) == sorted(rest)
    purger.clock.advance(400 * DAY)
    await purger.sweeps.ask_for_due_purges()
    assert len(await purger.said(PurgeRequested)) == 1
    assert await purger.tombstones() == 0

    await release(client, hold)
    assert woken == ["ask for due purges"]
    await purger.runtime.execute("UPDATE brake SET engaged_at = NULL, swept_at = NULL")
    await let_go(purger, tenant)

    assert (await purger.said(PurgeRequested))[-1].purge_id == plans[tuple(held)].purge_id
    ordered = [each for order in await purger.said(PurgeStarted) for each in order.classes]
    assert sorted(ordered) == sorted(TENANT_CLASSES)
    stages = [entry.receipt.stage for entry in await purger.ledger() if entry.receipt]
    assert stages == [ReceiptStage.ERASED, ReceiptStage.CLOSED] * 2
    assert await purger.tombstones() == 1


async def test_a_hold_that_is_released_in_time_leaves_one_purge_as_before(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    before = by_classes(await purger.state())
    hold = await place(client, tenant.tenant_id, CONTENT)

    await release(client, hold)

    assert by_classes(await purger.state()) == before


async def test_a_class_is_held_until_its_last_hold_is_released(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    first = await place(client, tenant.tenant_id, CONTENT)
    await place(client, tenant.tenant_id, CONTENT, DataClass.ERRORS)

    await release(client, first)

    plans = by_classes(await purger.state())
    assert plans[CONTENT, DataClass.ERRORS].held
    assert len((await purger.state()).holds) == 1


async def test_a_hold_placed_before_the_tenant_leaves_counts_when_it_does(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    await place(client, tenant.tenant_id, CONTENT)

    await purger.hear(a_tenant(n=2, tenant_id=tenant.tenant_id, left_at=LEFT_AT))

    assert by_classes(await purger.state())[CONTENT,].held


async def test_a_hold_that_comes_too_late_is_refused_by_its_classes_and_holds_nothing(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    asked = await purger.ask(tenant)

    refused = await place(client, tenant.tenant_id, CONTENT, DataClass.ERRORS, status=409)

    assert refused["detail"] == "Being erased, or erased: content, errors."
    assert (await purger.state()).holds == ()
    await purger.hear(refusal(asked, purger.clock.now()))
    await place(client, tenant.tenant_id, CONTENT)
    purger.clock.advance(SILENCE)
    await purger.sweeps.ask_for_due_purges()
    assert (await purger.said(PurgeRequested))[-1].classes == REST


async def test_a_hold_and_the_sweep_that_asks_never_both_win(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    purger.clock.set((await purger.state()).plans[0].start_at)
    path = f"/staff/tenants/{tenant.tenant_id}/holds"
    body = {"name": "Ada", "reason": "x", "basis": "legal-claims", "classes": ["content"]}

    held, _ = await asyncio.gather(client.post(path, json=body), purger.sweeps.ask_for_due_purges())

    asked: Collection[DataClass] = {
        each for asking in await purger.said(PurgeRequested) for each in asking.classes
    }
    assert (held.status_code == 201) != (CONTENT in asked)


async def test_why_and_by_whom_something_is_held_is_not_said(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    hold = await place(client, tenant.tenant_id, CONTENT)

    (said,) = (await purger.state()).holds
    assert (str(said.hold_id), said.classes, said.basis) == (
        hold["hold_id"],
        (CONTENT,),
        "legal-claims",
    )
    rows = await purger.runtime.fetch("SELECT payload FROM outbox")
    everything = b"".join(row["payload"] for row in rows)
    for word in (b"Ada", b"7 U 12/26"):
        assert word not in everything


async def test_who_placed_and_who_released_a_hold_is_kept_and_a_second_release_changes_nothing(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    hold = await place(client, tenant.tenant_id, CONTENT)
    purger.clock.advance(DAY)
    first = await release(client, hold)
    purger.clock.advance(DAY)

    assert await release(client, hold) == first
    shown = await client.get(f"/staff/tenants/{tenant.tenant_id}/holds")
    assert shown.json() == [first]
    assert (first["placed_by"], first["released_by"]) == ("Ada", "Grace")
    assert first["released_at"].startswith((LEFT_AT + DAY).date().isoformat())


async def test_what_is_held_beyond_its_time_is_counted_as_held_and_overdue(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    hold = await place(client, tenant.tenant_id, CONTENT)
    figures = HoldFigures(registry := CollectorRegistry())
    job = count_held_job(purger.units, figures)

    async def shown() -> list[float | None]:
        await job.run()
        names = ("legal_holds", "held_purges", "held_purges_overdue")
        return [registry.get_sample_value(f"keepword_{name}") for name in names]

    assert await shown() == [1, 1, 0]
    purger.clock.set(by_classes(await purger.state())[CONTENT,].erase_by)
    assert await shown() == [1, 1, 1]
    await release(client, hold)
    assert await shown() == [0, 0, 0]


async def test_a_held_purge_is_not_let_through_the_brake_with_others(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    await place(client, tenant.tenant_id, *TENANT_CLASSES)
    await purger.sweeps.ask_for_due_purges()
    purger.clock.jump(200 * DAY)
    await purger.sweeps.ask_for_due_purges()
    for name in ("Ada", "Grace"):
        released = await client.post("/staff/brake/releases", json={"name": name})
        assert released.status_code == 200

    assert await purger.runtime.fetchval("SELECT let_through_at FROM purges WHERE held") is None


async def test_holds_are_forgotten_30_days_after_their_release_and_their_tenant(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    hold = await place(client, tenant.tenant_id, CONTENT)
    async with purger.units.begin() as uow:
        await handlers.forget_tenants(tenant.tenant_id, uow)
    assert await purger.tombstones() == 1
    kept = "SELECT count(*) FROM legal_holds"
    purger.clock.advance(31 * DAY)
    await purger.sweeps.drop_old_purges()
    assert await purger.runtime.fetchval(kept) == 1

    await release(client, hold)
    purger.clock.advance(31 * DAY)
    await purger.sweeps.drop_old_purges()
    assert await purger.runtime.fetchval(kept) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"reason": ""},
        {"basis": "because"},
        {"classes": []},
        {"classes": ["plumbing"]},
        {"classes": ["erasure-proof"]},
    ],
)
async def test_a_hold_needs_a_name_a_reason_a_basis_and_classes(
    purger: Purger, client: httpx2.AsyncClient, wrong: dict[str, Any]
) -> None:
    tenant = a_tenant()
    await purger.hear(tenant)
    body = {"name": "Ada", "reason": "x", "basis": "legal-claims", "classes": ["content"]}

    answered = await client.post(f"/staff/tenants/{tenant.tenant_id}/holds", json=body | wrong)

    assert answered.status_code == 400
    assert await purger.runtime.fetchval("SELECT count(*) FROM legal_holds") == 0


async def test_nothing_is_held_of_nobody_and_no_unknown_hold_is_released(
    client: httpx2.AsyncClient,
) -> None:
    await place(client, uuid4(), CONTENT, status=404)
    answered = await client.post(
        f"/staff/holds/{uuid4()}/releases", json={"name": "Ada", "reason": "x"}
    )
    assert answered.status_code == 404


def test_a_tenant_is_spoken_of_while_the_class_that_was_held_is_there() -> None:
    rest, _ = plan_purges(a_tenant(left_at=LEFT_AT), RETENTION, held={CONTENT})

    closed = rest.model_copy(update={"phase": Phase.CLOSED})
    assert not nothing_left([closed], tenant_known=True, asked_for=True)


def test_both_parts_of_a_split_purge_are_of_the_narrowest_scope() -> None:
    tenant = a_tenant(left_at=LEFT_AT)

    service, people = plan_purges(tenant, RETENTION, held=set(Scope.PEOPLE.classes))

    assert (service.scope, service.classes) == (Scope.SERVICE_DATA, None)
    assert (people.scope, people.classes) == (Scope.PEOPLE, None)


async def test_what_is_held_is_nobodys_warning_and_stands_on_the_board(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)
    await place(client, tenant.tenant_id, CONTENT)
    erase_by = (await purger.state()).plans[0].erase_by
    purger.clock.set(erase_by - 10 * DAY)
    await let_go(purger, tenant)
    purger.clock.set(erase_by + DAY)

    registry = CollectorRegistry()
    watch = Watch(purger.units, PurgeFigures(registry))
    with capture_logs() as said:
        await watch.escalate()
        await watch.count_purges()

    assert said == []
    assert registry.get_sample_value("keepword_purges_overdue") == 0
    board = (await client.get("/staff/board", params={"tenant": str(tenant.tenant_id)})).text
    assert "<strong>0</strong> overdue" in board
    assert "<strong>1</strong> kept by a legal hold, 1 beyond their last day" in board
    explained = (await client.get(f"/staff/tenants/{tenant.tenant_id}/purges")).json()
    (held,) = [each for each in explained if each["classes"] == ["content"]]
    assert held["standing"].startswith("kept by a legal hold")
