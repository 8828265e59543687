"""A restored notifier sends nothing a second time, and forgets people that had come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest

from chassis.broker import KafkaAccess
from chassis.epochs import ensure_epoch, mark_restated
from chassis.metrics import Metrics
from chassis.relay import Relay
from chassis.service import Resources, Running
from contracts.policies import PolicyState
from contracts.tenants import Version
from contracts.topics import NOTIFIER_NOTICES, NOTIFIER_POLICIES, NOTIFIER_SUPPRESSIONS
from devstack.kafka import create_topics
from services.notifier.domain.news import Stage
from services.notifier.domain.people import ADDRESS_INDEX
from services.notifier.domain.suppressions import EVERYTHING, Reason
from services.notifier.store.campaigns import resume_campaign
from services.notifier.store.suppressions import lift, suppress, suppressions_of
from services.notifier.takeover import name_lost_revisions, take_over
from tests.notifier.builders import NOW, Notifier, Purge
from tests.notifier.news_texts import jobs as news_jobs
from tests.notifier.news_texts import kept, scheduled
from tests.notifier.policy_texts import publish
from tests.notifier.test_policy_changes import jobs
from tests.support.chassis import no_restate
from tests.support.topics import read_all


@pytest.fixture
async def bus(access: KafkaAccess) -> KafkaAccess:
    """The session's broker, with the topics that notifier reads itself."""
    await create_topics(
        [NOTIFIER_SUPPRESSIONS, NOTIFIER_POLICIES, NOTIFIER_NOTICES], **access.client_options()
    )
    return access


@asynccontextmanager
async def relaying(notifier: Notifier, bus: KafkaAccess) -> AsyncIterator[None]:
    """Publish what notifier says, for as long as the block lasts."""
    relay = Relay(
        database_url=notifier.roles.worker_url,
        kafka=bus,
        clock=notifier.clock,
        metrics=Metrics(),
        restate=no_restate,
        idle=timedelta(milliseconds=50),
    )
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        relay.stop()
        await running


async def said(notifier: Notifier, bus: KafkaAccess, records: int) -> None:
    """Let notifier's outbox reach the topic, which holds so many records of this address then."""
    async with relaying(notifier, bus), asyncio.timeout(60):
        while True:
            found = await read_all(bus, NOTIFIER_SUPPRESSIONS.name)
            ours = await ada_of(notifier)
            if sum(record.key == ours.hex().encode() for record in found) >= records:
                return
            await asyncio.sleep(0.1)


async def ada_of(notifier: Notifier) -> bytes:
    return notifier.keys.blind_index(ADDRESS_INDEX, "ada@c.example")


async def begin_epoch(notifier: Notifier) -> None:
    async with notifier.worker.acquire() as connection:
        await ensure_epoch(connection, wall=notifier.clock.wall(), force=True)


async def restored(notifier: Notifier, bus: KafkaAccess) -> None:
    """Let the database be one that was restored, as it is when the service starts."""
    await begin_epoch(notifier)
    nothing = cast("Resources", None)
    context = notifier.units.context
    await take_over(Running(nothing, notifier.units, context, lambda _: None), bus)


async def doors_open(notifier: Notifier) -> None:
    async with notifier.worker.acquire() as connection:
        wall = notifier.clock.wall()
        await mark_restated(connection, await ensure_epoch(connection, wall=wall), wall=wall)


async def settled(notifier: Notifier, purge: Purge) -> list[tuple[str, int]]:
    return [(row["state"], row["doubts"]) for row in await notifier.deliveries(purge)]


async def test_what_was_planned_before_a_restore_is_uncertain_and_not_sent(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = await notifier.start_wave_2(tenant_id)
    await restored(notifier, bus)
    assert await settled(notifier, purge) == [("uncertain", 2)]
    await doors_open(notifier)
    notifier.clock.advance(timedelta(hours=5))
    assert await notifier.mail.run() == 0
    assert notifier.mails == []
    assert await notifier.erase() == 1
    assert await notifier.contacts(tenant_id) == []


async def test_people_who_came_back_are_erased_again_without_a_second_mail(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = Purge(tenant_id)
    await restored(notifier, bus)
    restored_at = notifier.clock.wall()
    await notifier.read_receipt(purge)
    await notifier.read_wave_2(purge)
    await doors_open(notifier)
    await notifier.obey(purge.wave_2())
    assert await notifier.mail.run() == 0
    assert notifier.mails == []
    assert await notifier.erase() == 1
    [answer] = await notifier.answers(tenant_id)
    assert answer.restored_at == restored_at
    assert sum(answer.counts.values()) == 1


async def test_a_purge_that_begins_after_the_restore_is_mailed_as_ever(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    await restored(notifier, bus)
    await doors_open(notifier)
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await notifier.mail.run()
    assert len(notifier.mails) == 1
    assert [state for state, _ in await settled(notifier, purge)] == ["sent"]


async def test_a_campaign_that_may_have_reached_more_people_waits_for_a_person(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    revision = await publish(notifier)
    await notifier.tenant("ada@c.example")
    await jobs(notifier).plan()

    await restored(notifier, bus)
    await jobs(notifier).plan_joiners()

    assert await notifier.mail.run() == 0
    async with notifier.units.begin() as uow:
        assert await resume_campaign(uow.connection, revision.campaign_id)
        assert not await resume_campaign(uow.connection, revision.campaign_id)
    # Whether she was told is not known, so she is not told again.
    assert await notifier.mail.run() == 0


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


async def test_a_suppression_that_the_dump_lacks_is_in_force_before_anything_is_sent(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    ada = await ada_of(notifier)
    async with notifier.units.begin() as uow:
        await suppress(uow, ada, scope=EVERYTHING, reason=Reason.ERASED)
    await said(notifier, bus, 1)
    await forget_suppressions(notifier)

    await restored(notifier, bus)
    await restored(notifier, bus)

    async with notifier.units.begin() as uow:
        assert await suppressions_of(uow.connection, ada) == {(EVERYTHING, Reason.ERASED)}
    await doors_open(notifier)
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await notifier.mail.run()
    assert notifier.mails == []
    assert await notifier.states(purge) == ["suppressed"]


async def test_what_was_lifted_last_is_not_taken_over_and_what_stands_here_stays(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    ada = await ada_of(notifier)
    async with notifier.units.begin() as uow:
        await suppress(uow, ada, scope="optional", reason=Reason.OPTED_OUT)
    async with notifier.units.begin() as uow:
        await lift(uow, ada, scope="optional", reason=Reason.OPTED_OUT)
    await said(notifier, bus, 2)
    async with notifier.units.begin() as uow:
        await suppress(uow, ada, scope=EVERYTHING, reason=Reason.BOUNCED)

    await restored(notifier, bus)

    async with notifier.units.begin() as uow:
        assert await suppressions_of(uow.connection, ada) == {(EVERYTHING, Reason.BOUNCED)}


async def forget_suppressions(notifier: Notifier) -> None:
    """Let the database be one from before anybody was suppressed."""
    await notifier.worker.execute("DELETE FROM suppressions")


async def test_news_that_the_lost_database_had_begun_is_never_begun_again(
    notifier: Notifier, bus: KafkaAccess
) -> None:
    await notifier.tenant("ada@c.example")
    begun, other = await scheduled(notifier), await scheduled(notifier, at=NOW + timedelta(days=1))
    await news_jobs(notifier).plan()
    async with relaying(notifier, bus), asyncio.timeout(60):
        while not any(
            record.key == str(begun).encode()
            for record in await read_all(bus, NOTIFIER_NOTICES.name)
        ):
            await asyncio.sleep(0.1)
    # What a backup of an hour before has.
    await notifier.worker.execute("UPDATE product_news SET planned_at = NULL, announced_at = NULL")
    await notifier.worker.execute("UPDATE campaigns SET state = 'waiting'")
    await notifier.worker.execute("DELETE FROM deliveries")
    await restored(notifier, bus)

    assert (await kept(notifier, begun)).stage is Stage.STOPPED
    assert (await kept(notifier, other)).stage is Stage.PAUSED
    assert await news_jobs(notifier).plan() == await notifier.mail.run() == 0
