"""A customer asks for its erasure while it has the app; what is held goes after the release."""

from contracts.classes import DataClass
from contracts.purges import ClockKind, Phase, Plan
from devstack.journey import Journey
from tests.support.journey import (
    Travellers,
    entrust,
    erasure_request,
    let_it_start,
    until_it_sees,
)


async def wished(journey: Journey) -> Plan:
    plan = await journey.wait_for_plan()
    assert plan.clock == ClockKind.ERASURE_ASKED
    return plan


async def test_a_customer_that_asks_is_gone_although_it_never_uninstalled(
    customer: Travellers,
) -> None:
    hooli, neighbour = customer("hooli"), customer("neighbour")
    given, _ = await entrust(hooli), await entrust(neighbour)
    untouched = await neighbour.belongings()
    session = await hooli.open_session()

    assert (await erasure_request(hooli, session, "POST"))["status"] == 202
    await until_it_sees(hooli, session, "asked", planned=True)
    assert (await erasure_request(hooli, session, "DELETE"))["stage"] == "withdrawing"
    await until_it_sees(hooli, session, "none")
    assert (await hooli.plans())[0].phase is Phase.WITHDRAWN

    await erasure_request(hooli, session, "POST")
    shown = await until_it_sees(hooli, session, "asked", planned=True)
    plan = await wished(hooli)
    assert shown["begins_at"] == plan.start_at.isoformat()
    await let_it_start(hooli, plan)
    await hooli.wait_for_phase(Phase.CLOSED)
    await hooli.wait_until_gone()

    await until_it_sees(hooli, session, "erased")
    assert (await erasure_request(hooli, session, "DELETE"))["status"] == 409
    assert (await erasure_request(hooli, session, "POST"))["status"] == 410
    [mail] = await hooli.receipt_mails(given.address)
    (_, last) = await hooli.receipt(mail.code)
    assert last.receipt is not None
    counts = {each: n for step in last.receipt.steps for each, n in step.counts.items()}
    assert counts[DataClass.INSTALLATION] == counts[DataClass.CONTACTS] == 1
    assert await hooli.traces_of(*given.secrets_of(hooli)) == []
    assert await neighbour.belongings() == untouched


async def test_what_is_held_is_kept_while_the_rest_goes_and_goes_when_it_is_released(
    customer: Travellers,
) -> None:
    umbrella = customer("umbrella")
    given = await entrust(umbrella)
    session = await umbrella.open_session()
    purger = umbrella.stack.endpoints.of("purger")
    placed = await umbrella.http.post(
        f"{purger}/staff/tenants/{umbrella.tenant_id}/holds",
        json={
            "name": "Kim Keeper",
            "reason": "court file 7 U 12/26",
            "basis": "legal-claims",
            "classes": ["content"],
        },
    )
    assert placed.status_code == 201, placed.text

    await erasure_request(umbrella, session, "POST")
    await until_it_sees(umbrella, session, "asked", planned=True)
    await let_it_start(umbrella, await wished(umbrella))
    await umbrella.wait_for_phase(Phase.CLOSED)

    async def only_content() -> dict[str, int] | None:
        rows = {name: count for name, count in (await umbrella.rows()).items() if "." in name}
        return rows if rows.get("config.things") == len(given.passwords) else None

    kept = await umbrella.until(only_content, "the content is kept")
    assert "config.tenant_keys" in kept
    assert not any(name.startswith(("notifier.c", "installer.installations")) for name in kept)
    shown = await until_it_sees(umbrella, session, "erasing")
    assert [hold["classes"] for hold in shown["holds"]] == [["content"]]
    assert [plan["phase"] for plan in shown["purges"] if plan["held"]] == ["planned"]

    hold_id = placed.json()["hold_id"]
    released = await umbrella.http.post(
        f"{purger}/staff/holds/{hold_id}/releases",
        json={"name": "Robin Reader", "reason": "settled"},
    )
    assert released.status_code == 200, released.text
    await umbrella.wait_until_gone()
    await until_it_sees(umbrella, session, "erased")
    assert await umbrella.traces_of(*given.secrets_of(umbrella)) == []
