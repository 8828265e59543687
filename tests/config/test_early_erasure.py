"""What a customer may ask for early, and what it sees of that at each moment."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import (
    ClockKind,
    ErasureAsked,
    ErasureWithdrawn,
    Hold,
    Phase,
    Plan,
    PurgeState,
    Scope,
    Wish,
)
from contracts.registry import by_ce_type
from contracts.tenants import Platform, TenantStatus, Version
from services.config.domain.early_erasure import ErasureRequest, Stage, stage_of
from services.config.handlers import forget_purges, remember_purges
from services.config.routes.erasure_requests import PATH
from tests.config.builders import NOW, Config

DAY = timedelta(days=1)
REST = tuple(each for each in TENANT_CLASSES if each is not DataClass.CONTENT)


def a_plan(phase: Phase, *, clock: str = ClockKind.ERASURE_ASKED, **changes: Any) -> Plan:
    plan = Plan(
        purge_id=uuid4(),
        scope=Scope.EVERYTHING,
        clock=clock,
        clock_started_at=NOW,
        rule_version=1,
        deadline=NOW + 35 * DAY,
        erase_by=NOW + 21 * DAY,
        start_at=NOW + 7 * DAY,
        phase=phase,
    )
    return plan.model_copy(update=changes)


def said(*plans: Plan, wishes: tuple[Wish, ...] = (), **others: Any) -> PurgeState:
    given = {"tenant_id": uuid4(), "version": Version(epoch=1, n=1)} | others
    return PurgeState(plans=plans, wishes=wishes, **given)


def a_wish(wish_id: UUID | None = None, *, by: str = "customer") -> Wish:
    return Wish(wish_id=wish_id or uuid4(), asked_at=NOW, by=by)


MINE = ErasureRequest(uuid4(), NOW)
TAKEN_BACK = ErasureRequest(MINE.wish_id, NOW, withdrawn_at=NOW + DAY)
NAMED = a_wish(MINE.wish_id)
HELD = a_plan(Phase.PLANNED, classes=(DataClass.CONTENT,), held=True)
FORGE = a_plan(Phase.CLOSED, clock=ClockKind.FORGE_CONTENT, classes=(DataClass.CONTENT,))
UNINSTALLED = a_plan(Phase.PLANNED, clock=ClockKind.UNINSTALLED)


@pytest.mark.parametrize(
    ("state", "own", "erased", "stage"),
    [
        (None, None, (), Stage.NONE),
        (said(UNINSTALLED), None, (), Stage.NONE),
        (None, MINE, (), Stage.ASKED),
        (said(a_plan(Phase.PLANNED), wishes=(NAMED,)), MINE, (), Stage.ASKED),
        (said(a_plan(Phase.PLANNED), wishes=(NAMED,)), TAKEN_BACK, (), Stage.WITHDRAWING),
        (said(a_plan(Phase.WITHDRAWN)), TAKEN_BACK, (), Stage.NONE),
        (None, TAKEN_BACK, (), Stage.NONE),
        (said(a_plan(Phase.PLANNED), wishes=(a_wish(by="privacy"),)), None, (), Stage.ASKED),
        (said(a_plan(Phase.REQUESTED), wishes=(NAMED,)), TAKEN_BACK, (), Stage.ERASING),
        (said(a_plan(Phase.ERASING), wishes=(NAMED,)), MINE, (), Stage.ERASING),
        (said(a_plan(Phase.ERASED), wishes=(NAMED,)), MINE, TENANT_CLASSES, Stage.ERASING),
        (said(a_plan(Phase.CLOSED), wishes=(NAMED,)), MINE, TENANT_CLASSES, Stage.ERASED),
        (said(a_plan(Phase.CLOSED, classes=REST), HELD, wishes=(NAMED,)), MINE, (), Stage.ERASING),
        (None, None, TENANT_CLASSES, Stage.ERASED),
        (said(FORGE), None, (DataClass.CONTENT,), Stage.NONE),
        (said(FORGE), MINE, (DataClass.CONTENT,), Stage.ASKED),
    ],
)
def test_what_is_shown_is_what_is_true(
    state: PurgeState | None,
    own: ErasureRequest | None,
    erased: tuple[DataClass, ...],
    stage: Stage,
) -> None:
    assert stage_of(state, own, erased) is stage


def test_a_wish_that_was_made_after_the_withdrawal_is_not_withdrawn_with_it() -> None:
    later = Wish(wish_id=uuid4(), asked_at=NOW + 2 * DAY, by="privacy")

    state = said(a_plan(Phase.PLANNED), wishes=(NAMED, later))

    assert stage_of(state, TAKEN_BACK, ()) is Stage.ASKED


# -- the door -------------------------------------------------------------------------------------


async def call(config: Config, method: str, tenant_id: UUID, status: int = 200) -> dict[str, Any]:
    async with config.client(tenant_id) as client:
        answer = await client.request(method, PATH)
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def messages(config: Config, tenant_id: UUID) -> list[ErasureAsked | ErasureWithdrawn]:
    rows = await config.worker.fetch(
        "SELECT type, payload FROM outbox WHERE tenant_id = $1 ORDER BY position", tenant_id
    )
    found: list[Any] = []
    for row in rows:
        message_type = by_ce_type(row["type"])
        assert message_type is not None
        found.append(message_type.model.decode(row["payload"]))
    return found


async def hear(config: Config, state: PurgeState) -> None:
    async with config.units.begin() as uow:
        await remember_purges(state, uow)


async def test_a_request_lives_from_asking_to_the_end(config: Config) -> None:
    tenant_id = await config.tenant()
    assert (await call(config, "GET", tenant_id))["stage"] == "none"

    first = await call(config, "POST", tenant_id, 202)
    again = await call(config, "POST", tenant_id, 200)
    (asked,) = await messages(config, tenant_id)
    assert isinstance(asked, ErasureAsked)
    assert first == again == await call(config, "GET", tenant_id)
    assert (first["stage"], first["can_be_withdrawn"], first["begins_at"]) == ("asked", True, None)
    assert first["asked_at"] == NOW.isoformat() == asked.asked_at.isoformat()

    named = (a_wish(asked.wish_id),)
    await hear(config, said(a_plan(Phase.PLANNED), wishes=named, tenant_id=tenant_id))
    planned = await call(config, "GET", tenant_id)
    assert planned["begins_at"] == (NOW + 7 * DAY).isoformat()
    assert planned["purges"][0]["classes"] == list(TENANT_CLASSES)
    await hear(config, said(a_plan(Phase.REQUESTED), wishes=named, tenant_id=tenant_id))
    erasing = await call(config, "GET", tenant_id)
    assert (erasing["stage"], erasing["can_be_withdrawn"]) == ("erasing", False)
    await call(config, "DELETE", tenant_id, 409)
    await call(config, "POST", tenant_id, 410)
    assert await messages(config, tenant_id) == [asked]

    await config.order_erasure(tenant_id)
    await config.eraser_job().run()
    async with config.units.begin() as uow:
        await forget_purges(tenant_id, uow)
    assert (await call(config, "GET", tenant_id))["stage"] == "erased"
    for table in ("purge_states", "erasure_requests"):
        count = f"SELECT count(*) FROM {table} WHERE tenant_id = $1"
        assert await config.runtime.fetchval(count, tenant_id) == 0


async def test_a_withdrawal_takes_back_all_that_stands(config: Config) -> None:
    tenant_id = await config.tenant()
    await call(config, "POST", tenant_id, 202)
    (asked,) = await messages(config, tenant_id)
    wishes = (a_wish(by="privacy"), a_wish(asked.wish_id))
    await hear(config, said(a_plan(Phase.PLANNED), wishes=wishes, tenant_id=tenant_id))

    shown = await call(config, "DELETE", tenant_id, 202)
    await call(config, "DELETE", tenant_id, 200)

    assert shown["stage"] == "withdrawing"
    withdrawn = (await messages(config, tenant_id))[1:]
    assert [each.wish_id for each in withdrawn] == [wish.wish_id for wish in wishes]
    await hear(config, said(a_plan(Phase.WITHDRAWN), tenant_id=tenant_id))
    assert (await call(config, "GET", tenant_id))["stage"] == "none"
    await call(config, "POST", tenant_id, 202)
    assert len(await messages(config, tenant_id)) == 4


async def test_a_customer_withdraws_what_the_privacy_role_asked_for(config: Config) -> None:
    tenant_id = await config.tenant()
    wish = a_wish(by="privacy")
    await hear(config, said(a_plan(Phase.PLANNED), wishes=(wish,), tenant_id=tenant_id))

    assert (await call(config, "DELETE", tenant_id, 202))["stage"] == "withdrawing"

    (withdrawn,) = await messages(config, tenant_id)
    assert withdrawn.wish_id == wish.wish_id


async def test_a_request_that_was_withdrawn_elsewhere_is_asked_for_no_longer(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    await call(config, "POST", tenant_id, 202)
    (asked,) = await messages(config, tenant_id)
    unheard = said(UNINSTALLED, tenant_id=tenant_id)
    await hear(config, unheard)
    assert (await call(config, "GET", tenant_id))["stage"] == "asked"

    named = (a_wish(asked.wish_id),)
    await hear(config, said(a_plan(Phase.PLANNED), wishes=named, tenant_id=tenant_id))
    await hear(config, unheard)

    assert (await call(config, "GET", tenant_id))["stage"] == "none"


async def test_who_asks_twice_at_once_asks_once(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        answers = await asyncio.gather(*(client.post(PATH) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert len(await messages(config, tenant_id)) == 1


@pytest.mark.parametrize(
    "kind",
    [
        {"platform": Platform.FORGE},
        {"platform": Platform.DATACENTER},
        {"status": TenantStatus.UNINSTALLED},
    ],
)
async def test_whoever_has_anything_here_or_elsewhere_may_ask(
    config: Config, kind: dict[str, Any]
) -> None:
    tenant_id = await config.tenant(**kind)

    assert (await call(config, "POST", tenant_id, 202))["stage"] == "asked"


async def test_a_forge_tenant_whose_old_content_is_gone_may_ask(config: Config) -> None:
    tenant_id = await config.tenant(platform=Platform.FORGE)
    await hear(config, said(FORGE, tenant_id=tenant_id))
    await config.order_erasure(tenant_id)
    await config.eraser_job().run()

    assert (await call(config, "POST", tenant_id, 202))["stage"] == "asked"


async def test_a_hold_is_shown_with_its_classes_and_not_why(config: Config) -> None:
    tenant_id = await config.tenant()
    hold = Hold(hold_id=uuid4(), classes=(DataClass.CONTENT,), basis="legal-claims", placed_at=NOW)
    await hear(config, said(HELD, holds=(hold,), tenant_id=tenant_id))

    shown = await call(config, "GET", tenant_id)

    assert shown["holds"] == [
        {
            "classes": ["content"],
            "basis": "legal-claims",
            "placed_at": NOW.isoformat().replace("+00:00", "Z"),
        }
    ]
    assert [(plan["classes"], plan["held"]) for plan in shown["purges"]] == [(["content"], True)]


async def test_nobody_asks_for_a_tenant_that_is_unknown_or_without_a_session(
    config: Config,
) -> None:
    await call(config, "POST", uuid4(), 503)
    async with config.client() as client:
        for method in ("GET", "POST", "DELETE"):
            assert (await client.request(method, PATH)).status_code == 401


async def test_nobody_sees_or_withdraws_the_request_of_another(config: Config) -> None:
    mine, theirs = await config.tenant(), await config.tenant()
    await call(config, "POST", theirs, 202)

    assert (await call(config, "GET", mine))["stage"] == "none"
    assert (await call(config, "DELETE", mine, 200))["stage"] == "none"
    assert (await call(config, "GET", theirs))["stage"] == "asked"
