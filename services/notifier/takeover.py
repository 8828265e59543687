"""Makes up for what a restore lost: what was mailed is in doubt, who is not written to was said."""

from contextlib import aclosing

import structlog

from chassis.broker import KafkaAccess
from chassis.own_topics import last_said
from chassis.service import Running
from contracts.suppressions import SuppressionState
from contracts.topics import NOTIFIER_SUPPRESSIONS
from services.notifier.context import Context
from services.notifier.store import deliveries, suppressions

log = structlog.get_logger(__name__)

_ADDRESSES_A_PAGE = 500


async def take_over(notifier: Running[Context], kafka: KafkaAccess) -> None:
    """Send nothing by ourselves that the lost database may have seen sent, nor to who opted out.

    Done again it changes nothing.
    """
    async with notifier.units.begin() as uow:
        doubted = await deliveries.doubt_all_unsettled(uow.connection)
    if doubted:
        log.error("restored, deliveries uncertain and not sent again", deliveries=doubted)
    taken = 0
    async with aclosing(last_said(kafka, NOTIFIER_SUPPRESSIONS, SuppressionState)) as partitions:
        async for partition in partitions:
            states = [said.state for said in partition]
            for first in range(0, len(states), _ADDRESSES_A_PAGE):
                async with notifier.units.begin() as uow:
                    taken += await suppressions.take_over(
                        uow.connection, states[first : first + _ADDRESSES_A_PAGE]
                    )
    log.warning("restored, suppressions taken over from the topic", suppressions=taken)
