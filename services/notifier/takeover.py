"""Makes up for what a restore lost: what was mailed meanwhile is in no topic, so it is in doubt."""

import structlog

from chassis.broker import KafkaAccess
from chassis.service import Running
from services.notifier.context import Context
from services.notifier.store import campaigns
from services.notifier.store import deliveries as store

log = structlog.get_logger(__name__)


async def take_over(notifier: Running[Context], _: KafkaAccess) -> None:
    """Send nothing by ourselves that the lost database may have seen sent.

    Campaigns wait for a person, who may know from the mail server's log what went out. Receipts
    do not: people's erasure waits for them, and what was planned of them is left in doubt.
    """
    async with notifier.units.begin() as uow:
        paused = await campaigns.pause_all_but_receipts(uow.connection)
        doubted = await store.doubt_all_unsettled(uow.connection)
    if paused:
        log.error("restored, campaigns paused until somebody resumes them", campaigns=paused)
    if doubted:
        log.error("restored, deliveries uncertain and not sent again", deliveries=doubted)
