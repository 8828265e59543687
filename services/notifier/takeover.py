"""Makes up for what a restore lost: what was mailed meanwhile is in no topic, so it is in doubt."""

import structlog

from chassis.broker import KafkaAccess
from chassis.service import Running
from services.notifier.context import Context
from services.notifier.store import deliveries as store
from services.notifier.store import lifecycle

log = structlog.get_logger(__name__)


async def take_over(notifier: Running[Context], _: KafkaAccess) -> None:
    """Send nothing by ourselves that the lost database may have seen sent."""
    async with notifier.units.begin() as uow:
        doubted = await store.doubt_all_unsettled(uow.connection)
        await lifecycle.doubt_the_past(uow.connection, now=uow.now)
    if doubted:
        log.error("restored, deliveries uncertain and not sent again", deliveries=doubted)
