"""Campaigns on their way: chunks, domains, tenants that leave, servers and templates that fail."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from devstack.mail import REPLIES, Answer, Moment
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import (
    Deferred,
    Pace,
    Refused,
    is_a_dead_mailbox,
)
from services.notifier.domain.people import ADDRESS
from services.notifier.domain.suppressions import EVERYTHING, Reason
from services.notifier.jobs.deliveries import Deliveries, Writer
from services.notifier.store import deliveries as store
from services.notifier.store.campaigns import pause_campaign, progress
from services.notifier.store.people import sealed_contacts
from services.notifier.store.suppressions import suppressions_of
from tests.notifier.builders import NOW, Notifier

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def at_pace(notifier: Notifier, **pace: Any) -> Deliveries:
    return replace(notifier.mail, pace=replace(Pace(), **pace))


@pytest.mark.parametrize(
    ("enhanced", "dead"),
    [("5.1.1", True), ("5.1.10", True), ("5.2.1", True), ("5.1.8", False), ("5.7.1", False),
     ("5.2.2", False), ("4.1.1", False), (None, False)],
)  # fmt: skip
def test_only_codes_about_the_mailbox_itself_suppress(enhanced: str | None, dead: bool) -> None:
    assert is_a_dead_mailbox(enhanced) is dead
    assert Refused(550, enhanced).nobody_is_there is dead


@pytest.mark.parametrize(
    ("deferred", "by_the_domain"),
    [(Deferred(421), True), (Deferred(451, "4.7.1"), True), (Deferred(452, "4.2.2"), False),
     (Deferred(None), False), (Deferred(450), False)],
    ids=range(5),
)  # fmt: skip
def test_a_full_mailbox_slows_no_domain(deferred: Deferred, by_the_domain: bool) -> None:
    assert deferred.by_the_domain is by_the_domain


async def test_contacts_of_many_tenants_are_read_at_once_and_of_no_other(
    notifier: Notifier,
) -> None:
    ours = [await notifier.tenant(f"p{n}@c.example") for n in range(3)]
    other = await notifier.tenant("other@c.example")
    wanted = set()
    for tenant_id in (*ours, other):
        wanted |= {(tenant_id, each["contact_id"]) for each in await notifier.contacts(tenant_id)}
    async with notifier.units.begin() as uow:
        assert await sealed_contacts(uow.connection, wanted) == {}
        await uow.act_for(*ours)
        found = await sealed_contacts(uow.connection, wanted)
        assert {tenant_id for tenant_id, _ in found} == set(ours)
    async with notifier.units.begin() as uow:
        assert await sealed_contacts(uow.connection, wanted) == {}


async def test_a_person_of_two_tenants_is_told_once(notifier: Notifier) -> None:
    tenants = [await notifier.tenant("ada@c.example") for _ in range(2)]
    await notifier.plan(Kind.POLICY_CHANGE, *tenants)
    assert await notifier.mail.run() == 1
    assert len(notifier.mails) == 1


async def test_a_contact_that_is_gone_is_looked_for_elsewhere(notifier: Notifier) -> None:
    first, second = [await notifier.tenant("ada@c.example") for _ in range(2)]
    campaign_id = await notifier.plan(Kind.PRODUCT_UPDATE, first, second)
    await notifier.worker.execute("DELETE FROM audience WHERE tenant_id = $1", first)
    assert await notifier.mail.run() == 1
    assert await notifier.states(campaign_id) == ["sent"]


async def test_news_in_doubt_is_never_sent_again(notifier: Notifier) -> None:
    campaign_id = await notifier.plan(Kind.PRODUCT_UPDATE, await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.DROP, Moment.AFTER_DATA)
    await notifier.mail.run()
    notifier.clock.advance(timedelta(hours=5))
    assert await notifier.mail.run() == 0
    assert await notifier.states(campaign_id) == ["uncertain"]
    assert len(notifier.mails) == 1


async def test_news_whose_worker_died_is_never_sent_again(notifier: Notifier) -> None:
    campaign_id = await notifier.plan(Kind.PRODUCT_UPDATE, await notifier.tenant("ada@c.example"))
    async with notifier.units.begin() as uow:
        await store.claim_due_deliveries(
            uow.connection, UUID(int=1), wall=NOW, lease=MINUTE, limit=1
        )
    notifier.clock.advance(2 * MINUTE)
    assert await notifier.mail.run() == 0
    assert await notifier.states(campaign_id) == ["uncertain"]


async def test_what_was_claimed_and_never_handed_over_is_as_if_it_had_not_been(
    notifier: Notifier,
) -> None:
    campaign_id = await notifier.plan(Kind.PRODUCT_UPDATE, await notifier.tenant("ada@c.example"))
    async with notifier.units.begin() as uow:
        await store.claim_due_deliveries(
            uow.connection, UUID(int=1), wall=NOW, lease=MINUTE, limit=1
        )
        await store.let_go(uow.connection, UUID(int=1))
    [row] = await notifier.deliveries(campaign_id)
    assert (row["state"], row["attempts"]) == ("planned", 0)


async def test_a_dead_mailbox_is_suppressed_and_a_refusal_for_policy_is_not(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    for reply, wanted in (
        ("550 5.7.26 Not from you", set()),
        ("550 5.1.1 Nobody", {(EVERYTHING, Reason.BOUNCED)}),
    ):
        monkeypatch.setitem(REPLIES, Answer.REFUSE, reply)
        campaign_id = await notifier.plan(Kind.POLICY_CHANGE, tenant_id)
        notifier.sink.mailbox.fail_next(Answer.REFUSE, Moment.BEFORE_DATA)
        await notifier.mail.run()
        assert await notifier.states(campaign_id) == ["failed"]
        [contact] = await notifier.contacts(tenant_id)
        async with notifier.units.begin() as uow:
            found = await suppressions_of(uow.connection, contact["address_index"])
        assert found == wanted


async def test_a_domain_gets_no_more_than_its_rate_and_others_do_not_wait_for_it(
    notifier: Notifier,
) -> None:
    many = await notifier.tenant(*(f"p{n}@big.example" for n in range(8)), "ada@small.example")
    campaign_id = await notifier.plan(Kind.POLICY_CHANGE, many)
    mail = at_pace(notifier, domain_per_second=1.0)
    await mail.run()
    sent = [mail.recipients[0] for mail in notifier.mails]
    # Five seconds of idleness are five at once, and the next one is due.
    assert len([each for each in sent if each.endswith("@big.example")]) == 6
    assert "ada@small.example" in sent
    assert await mail.run() == 0
    for _ in range(2):
        notifier.clock.advance(SECOND)
        assert await mail.run() == 1
    assert set(await notifier.states(campaign_id)) == {"sent"}


async def test_a_server_that_throttles_slows_only_its_domain(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        REPLIES,
        Answer.DEFER,
        "450 4.7.1 Greylisted, try again",
    )
    tenant_id = await notifier.tenant("ada@busy.example")
    campaign_id = await notifier.plan(Kind.POLICY_CHANGE, tenant_id)
    notifier.sink.mailbox.fail_next(Answer.DEFER, Moment.BEFORE_DATA)
    assert await notifier.mail.run() == 1
    later = await notifier.plan(
        Kind.POLICY_CHANGE,
        await notifier.tenant("bob@busy.example"),
        await notifier.tenant("eve@idle.example"),
    )
    assert await notifier.mail.run() == 1
    assert sorted(await notifier.states(later)) == ["planned", "sent"]
    tried = 0
    for pause in (MINUTE, SECOND):
        notifier.clock.advance(pause)
        tried += await notifier.mail.run()
    assert tried == 2
    assert await notifier.states(campaign_id) == ["sent"]
    assert await notifier.states(later) == ["sent", "sent"]


async def test_a_paused_campaign_stops_within_one_chunk(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant(*(f"p{n}@c{n}.example" for n in range(6)))
    campaign_id = await notifier.plan(Kind.POLICY_CHANGE, tenant_id)
    mail = at_pace(notifier, connections=1, chunk=2)
    real_turn = Deliveries._turn
    turns = 0

    async def pausing(self: Deliveries, *given: Any) -> Any:
        nonlocal turns
        turns += 1
        if turns == 2:
            async with notifier.units.begin() as uow:
                assert await pause_campaign(uow.connection, campaign_id)
        return await real_turn(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deliveries, "_turn", pausing)
        assert await mail.run() == 2
    assert sorted(await notifier.states(campaign_id)) == ["planned"] * 4 + ["sent"] * 2
    async with notifier.units.begin() as uow:
        [shown] = await progress(uow.connection, now=NOW, limit=5)
    assert (shown.state, dict(shown.counts)) == ("paused", {"planned": 4, "sent": 2})
    assert shown.per_minute == 0.2


async def test_a_template_that_raises_pauses_its_campaign_and_no_other(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example", "bob@d.example")

    def write(*_: Any) -> Any:
        raise ValueError("ada@c.example is no name")

    async def read(*_: Any) -> str:
        return ""

    broken = await notifier.plan(Kind.NEW_PRODUCT, tenant_id)
    whole = await notifier.plan(Kind.POLICY_CHANGE, tenant_id)
    writers = {**notifier.mail.writers, Kind.NEW_PRODUCT: Writer(read, write)}
    mail = replace(notifier.mail, writers=writers)
    while await mail.run():
        pass
    assert await notifier.states(broken) == ["planned", "planned"]
    assert await notifier.states(whole) == ["sent", "sent"]
    assert len(notifier.mails) == 2
    state = "SELECT state FROM campaigns WHERE campaign_id = $1"
    assert await notifier.worker.fetchval(state, broken) == "paused"
    assert mail.figures.campaigns_broken_total.labels("new-product")._value.get() >= 1


async def test_a_campaign_whose_text_cannot_be_read_is_paused(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example")

    async def read(connection: Any, _: UUID) -> None:
        await connection.execute("SELECT * FROM no_such_table")

    broken = await notifier.plan(Kind.NEW_PRODUCT, tenant_id)
    whole = await notifier.plan(Kind.POLICY_CHANGE, tenant_id)
    other = notifier.mail.writers[Kind.POLICY_CHANGE]
    writers = {**notifier.mail.writers, Kind.NEW_PRODUCT: Writer(read, other.write)}
    while await replace(notifier.mail, writers=writers).run():
        pass
    assert await notifier.states(broken) == ["planned"]
    assert await notifier.states(whole) == ["sent"]


async def test_what_is_no_address_fails_alone(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example", "bob@d.example")
    async with notifier.units.begin() as uow:
        await uow.act_for(tenant_id)
        bad = await notifier.keys.seal(
            uow.connection, tenant_id, ADDRESS, b"ada@c.example\r\nBcc: x@y.example", now=NOW
        )
        [contact_id, *_] = [each["contact_id"] for each in await notifier.contacts(tenant_id)]
        await uow.connection.execute(
            "UPDATE contacts SET address = $1 WHERE tenant_id = $2 AND contact_id = $3",
            bad,
            tenant_id,
            contact_id,
        )
    campaign_id = await notifier.plan(Kind.POLICY_CHANGE, tenant_id)
    await notifier.mail.run()
    assert sorted(await notifier.states(campaign_id)) == ["failed", "sent"]


async def test_who_is_cut_off_in_the_middle_leaves_the_untried_untried(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await notifier.tenant(*(f"p{n}@c{n}.example" for n in range(3)))
    campaign_id = await notifier.plan(Kind.PRODUCT_UPDATE, tenant_id)
    at_it = asyncio.Event()
    session = "services.notifier.clients.MailSession.send"

    async def hangs(*_: Any) -> Any:
        at_it.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(session, hangs)
    running = asyncio.create_task(notifier.mail.run())
    await at_it.wait()
    running.cancel()
    await asyncio.wait({running})
    rows = await notifier.deliveries(campaign_id)
    assert [(row["state"], row["attempts"]) for row in rows] == [("planned", 0)] * 3
