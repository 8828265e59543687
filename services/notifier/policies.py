"""How a text becomes a revision of the policy: one person drafts it, a second one publishes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from chassis.unit_of_work import UnitOfWork, Units
from contracts.policies import PolicyState
from contracts.tenants import Version
from services.notifier.domain.people import Language
from services.notifier.domain.policies import (
    LONGEST_REASON,
    LONGEST_SUMMARY,
    Draft,
    PolicyRefused,
    Revision,
    plain_line,
    plain_text,
    require_approval,
    require_good_day,
    start_of,
)
from services.notifier.domain.policy_text import MOST_BLOCKS, blocks
from services.notifier.store import policies as store


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants to become the policy; ``text`` is Markdown in UTF-8."""

    text: bytes
    summary: Mapping[Language, str]
    effective_on: date
    early_because: str | None
    drafted_by: str


async def draft(uow: UnitOfWork[Any], wanted: Wanted, *, notice: timedelta) -> store.KeptDraft:
    """Keep a draft for somebody else to read and approve; raises ``PolicyRefused``."""
    text = plain_text(wanted.text)
    if len(blocks(text)) > MOST_BLOCKS:
        raise PolicyRefused(f"The text has more than {MOST_BLOCKS:,} paragraphs.")
    summary = {
        language: plain_line(said, "a summary", most=LONGEST_SUMMARY)
        for language, said in wanted.summary.items()
    }
    early = wanted.early_because
    because = None if early is None else plain_line(early, "a reason", most=LONGEST_REASON)
    effective_at = start_of(wanted.effective_on)
    await store.lock_policies(uow.connection)
    last = await store.newest_revision(uow.connection)
    require_good_day(effective_at, now=uow.now, notice=notice, early_because=because, last=last)
    drafted = Draft(
        last.number if last else 0,
        text,
        summary,
        effective_at,
        because,
        " ".join(wanted.drafted_by.split()),
    )
    draft_id = await store.add_draft(uow.connection, drafted, now=uow.now)
    return store.KeptDraft(draft_id, drafted, None)


async def approve(
    uow: UnitOfWork[Any], draft_id: int, *, approved_by: str, notice: timedelta
) -> Revision:
    """Publish a draft as the next revision, and say so; raises ``PolicyRefused``.

    Everybody is told of it from then on.
    """
    await store.lock_policies(uow.connection)
    kept = await store.draft(uow.connection, draft_id)
    if kept is None:
        raise PolicyRefused(f"There is no draft {draft_id}.")
    if kept.number is not None:
        raise PolicyRefused(f"Draft {draft_id} is published already, as revision {kept.number}.")
    last = await store.newest_revision(uow.connection)
    require_approval(kept.draft, approved_by, last=last)
    require_good_day(
        kept.draft.effective_at,
        now=uow.now,
        notice=notice,
        early_because=kept.draft.early_because,
        last=last,
    )
    published = await store.publish(
        uow.connection,
        draft_id,
        kept.draft.follows + 1,
        approved_by=" ".join(approved_by.split()),
        now=uow.now,
    )
    uow.outbox.add(_state(published, await uow.epoch()))
    return published


async def restate(units: Units[Any]) -> None:
    """Say all revisions again, under the present epoch."""
    async with units.begin() as uow:
        epoch = await uow.epoch()
        for revision in await store.revisions(uow.connection):
            uow.outbox.add(_state(revision, epoch))


def _state(revision: Revision, epoch: int) -> PolicyState:
    return PolicyState(
        number=revision.number,
        version=Version(epoch=epoch, n=revision.number),
        published_at=revision.published_at,
        effective_at=revision.effective_at,
        text_hash=revision.text_hash,
    )
