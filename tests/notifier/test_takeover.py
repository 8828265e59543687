"""A restored notifier sends nothing a second time, and forgets people that had come back."""

from datetime import timedelta

from chassis.epochs import ensure_epoch, mark_restated
from contracts.policies import PolicyState
from contracts.tenants import Version
from services.notifier.takeover import doubt_deliveries, name_lost_revisions
from tests.notifier.builders import NOW, Notifier, Purge
from tests.notifier.policy_texts import publish


async def restored(notifier: Notifier) -> None:
    """Let the database be one that was restored, as it is when the service starts."""
    async with notifier.worker.acquire() as connection:
        await ensure_epoch(connection, wall=notifier.clock.wall(), force=True)
    await doubt_deliveries(notifier.units)


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


async def test_revisions_that_a_restore_lost_are_named(notifier: Notifier) -> None:
    kept = await publish(notifier)

    def said(number: int, text_hash: str) -> PolicyState:
        return PolicyState(
            number=number,
            version=Version(epoch=1, n=number),
            published_at=NOW,
            effective_at=NOW,
            text_hash=text_hash,
        )

    same, lost = said(1, kept.text_hash), said(2, "ab" * 32)
    assert await name_lost_revisions(notifier.units, [same]) == ()
    assert await name_lost_revisions(notifier.units, [lost, same]) == (2,)
    assert await name_lost_revisions(notifier.units, [said(1, "ab" * 32)]) == (1,)
