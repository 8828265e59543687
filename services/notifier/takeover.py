"""Makes up for what a restore lost: what was mailed is in doubt, who is not written to was said."""

from collections.abc import Collection
from contextlib import aclosing
from uuid import UUID

import structlog

from chassis.broker import KafkaAccess
from chassis.own_topics import last_said
from chassis.service import Running
from chassis.unit_of_work import Units
from contracts.news import ProductUpdateAnnounced
from contracts.policies import PolicyState
from contracts.suppressions import SuppressionState
from contracts.topics import NOTIFIER_NOTICES, NOTIFIER_POLICIES, NOTIFIER_SUPPRESSIONS
from services.notifier.context import Context
from services.notifier.store import campaigns, lifecycle, news, policies, suppressions
from services.notifier.store import deliveries as store

log = structlog.get_logger(__name__)

_ADDRESSES_A_PAGE = 500


async def take_over(notifier: Running[Context], kafka: KafkaAccess) -> None:
    """Send nothing by ourselves that the lost database may have seen sent, nor to who opted out.

    Names the revisions that were lost. Done again it changes nothing.
    """
    await doubt_deliveries(notifier.units)
    said: list[PolicyState] = []
    async with aclosing(last_said(kafka, NOTIFIER_POLICIES, PolicyState)) as partitions:
        async for partition in partitions:
            said += [each.state for each in partition]
    await name_lost_revisions(notifier.units, said)
    await stop_news_that_began(notifier.units, kafka)
    await take_over_suppressions(notifier.units, kafka)


async def doubt_deliveries(units: Units[Context]) -> None:
    """Leave uncertain what may have been sent, and let large campaigns wait for a person.

    A campaign may have reached people of whom the restored database knows nothing.
    """
    async with units.begin() as uow:
        paused = await campaigns.pause_large_campaigns(uow.connection)
        doubted = await store.doubt_all_unsettled(uow.connection, now=uow.now)
        await lifecycle.doubt_the_past(uow.connection, now=uow.now)
    if paused:
        log.error("restored, campaigns paused until somebody resumes them", campaigns=paused)
    if doubted:
        log.error("restored, deliveries uncertain and not sent again", deliveries=doubted)


async def name_lost_revisions(
    units: Units[Context], said: Collection[PolicyState]
) -> tuple[int, ...]:
    """Say which revisions the topic has and the database lost, or has with another text.

    Their texts are in no topic. Whoever published them has to publish the same texts again, in
    the same order.
    """
    async with units.begin() as uow:
        known = {each.number: each.text_hash for each in await policies.revisions(uow.connection)}
    lost = tuple(sorted(s.number for s in said if known.get(s.number) != s.text_hash))
    if lost:
        log.error("restored, revisions of the policy are lost, publish them again", numbers=lost)
    return lost


async def stop_news_that_began(units: Units[Context], kafka: KafkaAccess) -> int:
    """Send no news that the lost database has begun to send, nobody knows to whom; count it."""
    announced: list[UUID] = []
    async with aclosing(last_said(kafka, NOTIFIER_NOTICES, ProductUpdateAnnounced)) as partitions:
        async for partition in partitions:
            announced += [said.state.campaign_id for said in partition]
    async with units.begin() as uow:
        stopped = await news.stop_announced(uow.connection, announced, now=uow.now)
    if stopped:
        log.error("restored, news stopped as the lost database had begun it", news=stopped)
    return stopped


async def take_over_suppressions(units: Units[Context], kafka: KafkaAccess) -> None:
    """Know again who must not be written to."""
    taken = 0
    async with aclosing(last_said(kafka, NOTIFIER_SUPPRESSIONS, SuppressionState)) as partitions:
        async for partition in partitions:
            states = [said.state for said in partition]
            for first in range(0, len(states), _ADDRESSES_A_PAGE):
                async with units.begin() as uow:
                    taken += await suppressions.take_over(
                        uow.connection, states[first : first + _ADDRESSES_A_PAGE]
                    )
    log.warning("restored, suppressions taken over from the topic", suppressions=taken)
