"""A customer asks for its erasure while it has the app, thinks again, and asks once more."""

from collections.abc import Mapping
from typing import Any

from contracts.classes import DataClass
from contracts.purges import ClockKind, Phase, Plan
from devstack.journey import Journey
from tests.support.journey import Travellers, entrust, let_it_start

PATH = "/api/v1/erasure-requests"


async def request(journey: Journey, session: Mapping[str, str], method: str) -> dict[str, Any]:
    """What the customer's browser gets from config."""
    answer = await journey.http.request(
        method, f"{journey.stack.endpoints.config}{PATH}", headers=session
    )
    shown: dict[str, Any] = answer.json() | {"status": answer.status_code}
    return shown


async def until_it_sees(
    journey: Journey, session: Mapping[str, str], stage: str, *, planned: bool = False
) -> dict[str, Any]:
    async def seen() -> dict[str, Any] | None:
        shown = await request(journey, session, "GET")
        right = shown["stage"] == stage and (shown["begins_at"] is not None or not planned)
        return shown if right else None

    return await journey.until(seen, f"the customer sees {stage}")


async def wished(journey: Journey) -> Plan:
    plan = await journey.wait_for_plan()
    assert plan.clock == ClockKind.ERASURE_ASKED
    return plan


async def test_a_customer_that_asks_is_gone_although_it_never_uninstalled(
    customer: Travellers,
) -> None:
    hooli, neighbour = customer("hooli"), customer("neighbour")
    given, _ = await entrust(hooli), await entrust(neighbour)
    untouched = await neighbour.rows()
    session = await hooli.open_session()

    assert (await request(hooli, session, "POST"))["status"] == 202
    await until_it_sees(hooli, session, "asked", planned=True)
    assert (await request(hooli, session, "DELETE"))["stage"] == "withdrawing"
    await until_it_sees(hooli, session, "none")
    assert (await hooli.plans())[0].phase is Phase.WITHDRAWN

    await request(hooli, session, "POST")
    shown = await until_it_sees(hooli, session, "asked", planned=True)
    plan = await wished(hooli)
    assert shown["begins_at"] == plan.start_at.isoformat()
    await let_it_start(hooli, plan)
    await hooli.wait_for_phase(Phase.CLOSED)
    await hooli.wait_until_gone()

    await until_it_sees(hooli, session, "erased")
    assert (await request(hooli, session, "DELETE"))["status"] == 409
    assert (await request(hooli, session, "POST"))["status"] == 410
    [mail] = await hooli.receipt_mails(given.address)
    (_, last) = await hooli.receipt(mail.code)
    assert last.receipt is not None
    counts = {each: n for step in last.receipt.steps for each, n in step.counts.items()}
    assert counts[DataClass.INSTALLATION] == counts[DataClass.CONTACTS] == 1
    assert await hooli.traces_of(*given.secrets_of(hooli)) == []
    assert await neighbour.rows() == untouched
