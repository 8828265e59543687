"""A restored notifier sends nothing a second time, and forgets people that had come back."""

from datetime import timedelta
from typing import cast

from chassis.broker import KafkaAccess
from chassis.epochs import ensure_epoch, mark_restated
from chassis.service import Resources, Running
from services.notifier.domain.campaigns import Kind
from services.notifier.store.campaigns import doubts, resume_campaign
from services.notifier.takeover import take_over
from tests.notifier.builders import Notifier, Purge

KAFKA = KafkaAccess("nowhere:1", "test")


async def restored(notifier: Notifier) -> None:
    """Let the database be one that was restored, as it is when the service starts."""
    async with notifier.worker.acquire() as connection:
        await ensure_epoch(connection, wall=notifier.clock.wall(), force=True)
    nothing = cast("Resources", None)
    context = notifier.units.context
    await take_over(Running(nothing, notifier.units, context, lambda _: None), KAFKA)


async def doors_open(notifier: Notifier) -> None:
    async with notifier.worker.acquire() as connection:
        wall = notifier.clock.wall()
        await mark_restated(connection, await ensure_epoch(connection, wall=wall), wall=wall)


async def settled(notifier: Notifier, purge: Purge) -> list[tuple[str, int]]:
    return [(row["state"], row["doubts"]) for row in await notifier.deliveries(purge)]


async def test_what_was_planned_before_a_restore_is_uncertain_and_not_sent(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = await notifier.start_wave_2(tenant_id)
    await restored(notifier)
    assert await settled(notifier, purge) == [("uncertain", 2)]
    await doors_open(notifier)
    notifier.clock.advance(timedelta(hours=5))
    assert await notifier.mail.run() == 0
    assert notifier.mails == []
    assert await notifier.eraser_job().run() == 1
    assert await notifier.contacts(tenant_id) == []


async def test_people_who_came_back_are_erased_again_without_a_second_mail(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = Purge(tenant_id)
    await restored(notifier)
    await notifier.read_receipt(purge)
    await notifier.read_wave_2(purge)
    await doors_open(notifier)
    await notifier.obey(purge.wave_2())
    assert await notifier.mail.run() == 0
    assert notifier.mails == []
    assert await notifier.eraser_job().run() == 1
    [answer] = await notifier.answers(tenant_id)
    assert answer.restored_at == notifier.clock.wall()
    assert sum(answer.counts.values()) == 1


async def test_a_purge_that_begins_after_the_restore_is_mailed_as_ever(
    notifier: Notifier,
) -> None:
    await restored(notifier)
    await doors_open(notifier)
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await notifier.mail.run()
    assert len(notifier.mails) == 1
    assert [state for state, _ in await settled(notifier, purge)] == ["sent"]


async def test_campaigns_wait_for_a_person_after_a_restore_and_what_is_owed_goes_out_then(
    notifier: Notifier,
) -> None:
    owed, news = [
        await notifier.plan(kind, await notifier.tenant("ada@c.example"))
        for kind in (Kind.POLICY_CHANGE, Kind.PRODUCT_UPDATE)
    ]
    await restored(notifier)
    assert await notifier.mail.run() == 0
    for campaign_id in (owed, news):
        async with notifier.units.begin() as uow:
            assert await resume_campaign(uow.connection, campaign_id)
            assert not await resume_campaign(uow.connection, campaign_id)
    assert await notifier.mail.run() == 1
    assert await notifier.states(owed) == ["sent"]
    assert await notifier.states(news) == ["uncertain"]
    async with notifier.units.begin() as uow:
        listed = await doubts(uow.connection, limit=10)
    assert {(each.kind, each.state) for each in listed} == {
        (Kind.POLICY_CHANGE, "sent"),
        (Kind.PRODUCT_UPDATE, "uncertain"),
    }
