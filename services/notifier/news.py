"""How news comes about: one person writes it, a second one approves it, and it is sent at its time."""

from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.identifiers import uuid7
from chassis.unit_of_work import UnitOfWork
from services.notifier.domain.news import (
    EDITABLE,
    Act,
    News,
    NewsRefused,
    Overtaken,
    Stage,
    require_good_time,
    require_second_person,
)
from services.notifier.store import campaigns
from services.notifier.store import news as store


def new_id(uow: UnitOfWork[Any]) -> UUID:
    """Make an id for news; that of the campaign that will send it."""
    return uuid7(uow.now)


async def write(uow: UnitOfWork[Any], news: News, *, by: str) -> None:
    """Keep a draft."""
    await store.add(uow.connection, news, now=uow.now)
    await store.note(uow.connection, news.campaign_id, Act.WRITTEN, by=by, now=uow.now)


async def change(uow: UnitOfWork[Any], news: News, *, version: int, by: str) -> None:
    """Make a draft of it that says this; who approved what it said before has not approved this."""
    kept = await _locked(uow, news.campaign_id, version)
    if kept.stage not in EDITABLE:
        raise NewsRefused("It is being sent, or was, and cannot be changed any more.")
    await store.change(uow.connection, news, now=uow.now)
    await store.note(uow.connection, news.campaign_id, Act.WRITTEN, by=by, now=uow.now)


async def approve(uow: UnitOfWork[Any], campaign_id: UUID, *, version: int, by: str) -> None:
    """Let a draft be scheduled, as a second person has read it."""
    kept = await _locked(uow, campaign_id, version)
    if kept.stage is not Stage.DRAFT:
        raise NewsRefused("It is approved already.")
    done = await store.acts(uow.connection, campaign_id)
    require_second_person({each.by for each in done if each.act is Act.WRITTEN}, by)
    await store.approve(uow.connection, campaign_id, now=uow.now)
    await store.note(uow.connection, campaign_id, Act.APPROVED, by=by, now=uow.now)


async def schedule(
    uow: UnitOfWork[Any], campaign_id: UUID, *, version: int, send_at: datetime | None, by: str
) -> None:
    """Let it be sent at its time; None is now."""
    kept = await _locked(uow, campaign_id, version)
    if kept.stage is not Stage.APPROVED:
        raise NewsRefused("Only what is approved can be scheduled.")
    if kept.announced_at is not None:
        raise NewsRefused("It was sent before a restore, to people who cannot be known any more.")
    at = send_at or uow.now
    require_good_time(at, now=uow.now)
    if not await store.count_recipients(uow.connection, kept.news.kind, kept.news.segment):
        raise NewsRefused("Nobody would get it. Choose another segment.")
    await store.schedule(uow.connection, kept, at, now=uow.now)
    await store.note(uow.connection, campaign_id, Act.SCHEDULED, by=by, now=uow.now)


async def steer(uow: UnitOfWork[Any], campaign_id: UUID, act: Act, *, by: str) -> None:
    """Pause, resume or stop a campaign; to stop is for good, and only news can be stopped."""
    match act:
        case Act.PAUSED:
            done = await campaigns.pause_campaign(uow.connection, campaign_id)
        case Act.RESUMED:
            done = await campaigns.resume_campaign(uow.connection, campaign_id)
        case Act.STOPPED:
            done = await campaigns.stop_news(uow.connection, campaign_id)
        case _:
            raise NewsRefused("Pause it, resume it or stop it.")
    if not done:
        raise NewsRefused("It has moved on meanwhile, and that cannot be done with it now.")
    await store.note(uow.connection, campaign_id, act, by=by, now=uow.now)


async def _locked(uow: UnitOfWork[Any], campaign_id: UUID, version: int) -> store.Kept:
    await store.lock(uow.connection, campaign_id)
    kept = await store.find(uow.connection, campaign_id)
    if kept is None:
        raise NewsRefused("It is not there any more.")
    if kept.version != version:
        [*_, last] = await store.acts(uow.connection, campaign_id)
        raise Overtaken(f"{last.by} changed it meanwhile. Nothing of yours was kept.")
    return kept
