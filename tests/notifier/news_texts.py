"""News of products, and what brings it out, for tests."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.notifier import news as process
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.news import News, Segment, written
from services.notifier.domain.people import Language
from services.notifier.jobs.news import NewsJobs
from services.notifier.store import news as store
from tests.notifier.builders import Notifier

ENGLISH = (
    "Exports are faster",
    "# Faster\n\nRead [how](https://vendor.example/fast).\n\n* one\n* two\n",
)
GERMAN = ("Exporte sind schneller", "Mehr [dazu](https://vendor.example/schnell).\n")
WRITER, READER = "Kim Keeper", "Robin Reader"


def a_news(
    english: tuple[str, str] = ENGLISH,
    german: tuple[str, str] = GERMAN,
    *,
    kind: str = Kind.PRODUCT_UPDATE,
    segment: Segment | None = None,
) -> News:
    words = {Language.ENGLISH: english, Language.GERMAN: german}
    return written(UUID(int=0), kind, words, segment or Segment())


async def write(notifier: Notifier, news: News | None = None, by: str = WRITER) -> UUID:
    async with notifier.units.begin() as uow:
        told = replace(news or a_news(), campaign_id=process.new_id(uow))
        await process.write(uow, told, by=by)
    return told.campaign_id


async def kept(notifier: Notifier, campaign_id: UUID) -> store.Kept:
    async with notifier.units.begin() as uow:
        found = await store.find(uow.connection, campaign_id)
    assert found is not None
    return found


async def approve(notifier: Notifier, campaign_id: UUID, by: str = READER) -> None:
    version = (await kept(notifier, campaign_id)).version
    async with notifier.units.begin() as uow:
        await process.approve(uow, campaign_id, version=version, by=by)


async def schedule(notifier: Notifier, campaign_id: UUID, at: datetime | None = None) -> None:
    version = (await kept(notifier, campaign_id)).version
    async with notifier.units.begin() as uow:
        await process.schedule(uow, campaign_id, version=version, send_at=at, by=WRITER)


async def scheduled(
    notifier: Notifier, news: News | None = None, at: datetime | None = None
) -> UUID:
    """Bring news to where it only has to wait for its time."""
    campaign_id = await write(notifier, news)
    await approve(notifier, campaign_id)
    await schedule(notifier, campaign_id, at)
    return campaign_id


def jobs(notifier: Notifier) -> NewsJobs:
    return NewsJobs(notifier.units, notifier.worker)


async def send(notifier: Notifier, news: News | None = None, **others: Any) -> UUID:
    """Send news to everybody whom it is for."""
    campaign_id = await scheduled(notifier, news, **others)
    await jobs(notifier).plan()
    await notifier.mail.run()
    return campaign_id
