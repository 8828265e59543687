"""`keepword policies`: drafting, reading, approving revisions of the policy, and who was told."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chassis.clock import Clock
from chassis.database import Connection
from chassis.unit_of_work import Units
from cli.databases import rehearsed_unit, run_on, run_units_by_somebody, shown
from cli.running import FAILED, MISUSED
from services.notifier import policies
from services.notifier.domain.differences import ComparedBlock, Mark, difference
from services.notifier.domain.people import Language
from services.notifier.domain.policies import (
    MOST_BYTES,
    NOTICE,
    Draft,
    PolicyRefused,
    Proof,
    plain_text,
    standing,
)
from services.notifier.store import evidence
from services.notifier.store import policies as store

_NOTICE_VARIABLE: Final = "KEEPWORD_POLICY_NOTICE_DAYS"
_MARKS: Final = {
    Mark.SAME: "{}",
    Mark.REMOVED: "[red]\\[-{}-][/]",
    Mark.ADDED: "[green]{{+{}+}}[/]",
}


def run_draft(
    file: Path,
    *,
    summary: str,
    summary_de: str,
    effective: datetime,
    early_because: str | None,
    by: str,
) -> int:
    """Keep a text as a draft, for a second person to read and approve."""
    try:
        # One byte more than may be, so that a text that is too long is seen to be.
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
        plain_text(text)
        notice = _notice()
    except OSError as failure:
        Console().print(f"{escape(str(file))} cannot be read: {failure.strerror}.")
        return MISUSED
    except PolicyRefused as refused:
        Console().print(escape(str(refused)), soft_wrap=True)
        return MISUSED
    wanted = policies.Wanted(
        text,
        {Language.ENGLISH: summary, Language.GERMAN: summary_de},
        effective.date(),
        early_because,
        by,
    )

    async def keep(units: Units[Any], console: Console) -> int:
        try:
            async with units.begin() as uow:
                kept = await policies.draft(uow, wanted, notice=notice)
        except PolicyRefused as refused:
            return _refuse(console, refused)
        console.print(
            f"Draft {kept.draft_id} is kept. It becomes revision {kept.draft.follows + 1} when"
            f" somebody else has read it (keepword policies show draft-{kept.draft_id}) and says"
            f" keepword policies approve {kept.draft_id} --by NAME.",
            soft_wrap=True,
        )
        return 0

    return run_units_by_somebody("notifier", by, keep)


def run_approve(draft_id: int, *, by: str, dry_run: bool) -> int:
    """Publish a draft that somebody else wrote, or show whether it might be."""

    async def publish(units: Units[Any], console: Console) -> int:
        try:
            notice = _notice()
            async with rehearsed_unit(units, dry_run=dry_run) as uow:
                published = await policies.approve(uow, draft_id, approved_by=by, notice=notice)
        except PolicyRefused as refused:
            return _refuse(console, refused)
        if dry_run:
            console.print(
                f"It would become revision {published.number}, in force from"
                f" {published.effective_at:%Y-%m-%d} on, and every contact would be told."
                " Nothing was published.",
                soft_wrap=True,
            )
            return 0
        console.print(
            f"Revision {published.number} is published, in force from"
            f" {published.effective_at:%Y-%m-%d} on. Every contact is told now: see"
            f" keepword policies coverage {published.number}.",
            soft_wrap=True,
        )
        return 0

    return run_units_by_somebody("notifier", by, publish)


def run_list() -> int:
    """Show the revisions, and the drafts that may still become one."""

    async def show(connection: Connection, clock: Clock, console: Console) -> int:
        revisions = await store.revisions(connection)
        now = standing(revisions, clock.now())
        table = Table("revision", "published", "in force from", "standing", "summary")
        for each in revisions:
            current = now.current is not None and each.number == now.current.number
            told = "in force" if current else "to come" if each in now.coming else "replaced"
            table.add_row(
                str(each.number),
                shown(each.published_at),
                f"{each.effective_at:%Y-%m-%d}",
                told,
                escape(each.summary[Language.ENGLISH]),
            )
        drafts = await store.open_drafts(connection)
        for kept in drafts:
            table.add_row(
                f"draft-{kept.draft_id}",
                "",
                f"{kept.draft.effective_at:%Y-%m-%d}",
                f"drafted by {escape(kept.draft.drafted_by)}",
                escape(kept.draft.summary[Language.ENGLISH]),
            )
        if revisions or drafts:
            console.print(table)
        console.print(f"Revisions: {len(revisions)}. Open drafts: {len(drafts)}.")
        return 0

    return run_on("notifier", show)


def run_show(which: str) -> int:
    """Show a revision or a draft, word for word."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        kept = await _draft(connection, which)
        text = await _text(connection, which)
        if text is None:
            console.print(f"There is no {_named(which)}.")
            return FAILED
        if kept is not None:
            _show_draft(console, kept)
        console.print(text, markup=False, highlight=False, soft_wrap=True, end="")
        return 0

    return run_on("notifier", show)


def run_diff(earlier: str, later: str) -> int:
    """Show what is different between any two of revisions and drafts."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        texts = [await _text(connection, which) for which in (earlier, later)]
        for which, text in zip((earlier, later), texts, strict=True):
            if text is None:
                console.print(f"There is no {_named(which)}.")
                return FAILED
        before, after = texts
        assert before is not None
        assert after is not None
        changed = [block for block in difference(before, after) if block.changed]
        for block in changed:
            console.print(_marked(block), highlight=False, soft_wrap=True)
            console.print()
        console.print(f"Paragraphs that are different: {len(changed)}.")
        return 0

    if earlier == later:
        Console().print("Name two different ones.")
        return MISUSED
    return run_on("notifier", show)


def run_coverage(number: int) -> int:
    """Show who was told of a revision, as numbers, and by hash who was not."""

    async def show(connection: Connection, _: Clock, console: Console) -> int:
        if await store.revision(connection, number) is None:
            console.print(f"There is no revision {number}.")
            return FAILED
        covered = await evidence.coverage(connection, number)
        table = Table("", "persons")
        table.add_row("contacts", str(covered.contacts))
        for proof in Proof:
            table.add_row(proof.value, str(covered.proofs[proof]))
        table.add_row("open", str(covered.open))
        table.add_row("not planned yet", str(covered.unplanned))
        console.print(table)
        console.print(
            f"Tenants without any contact, uninformed: {covered.uninformed}."
            f" Of these, notice seen in the app: {covered.seen_in_app}.",
            soft_wrap=True,
        )
        if covered.failures:
            failures = Table("known as", "outcome", "status", "at", "what was done")
            for each in covered.failures:
                failures.add_row(
                    each.known_as.hex(),
                    each.outcome.value,
                    str(each.status_code or ""),
                    shown(each.at),
                    each.what_was_done,
                )
            console.print(failures)
        return 0

    return run_on("notifier", show)


def _notice() -> timedelta:
    """Read how long before its day a revision is published; raises ``PolicyRefused``."""
    given = os.environ.get(_NOTICE_VARIABLE)
    if given is None:
        return NOTICE
    if not given.isascii() or not given.isdigit() or not 0 < int(given) <= 366:  # noqa: PLR2004 - a year
        raise PolicyRefused(f"{_NOTICE_VARIABLE} is not a number of days from 1 to 366.")
    return timedelta(days=int(given))


def _refuse(console: Console, refused: PolicyRefused) -> int:
    console.print(escape(str(refused)), soft_wrap=True)
    return FAILED


_DRAFT: Final = "draft-"


def _id(text: str) -> int | None:
    plain = text.isascii() and text.isdigit() and len(text) <= 9  # noqa: PLR2004 - fits an integer of PostgreSQL
    return int(text) if plain else None


async def _draft(connection: Connection, which: str) -> store.KeptDraft | None:
    draft_id = _id(which.removeprefix(_DRAFT)) if which.startswith(_DRAFT) else None
    return None if draft_id is None else await store.draft(connection, draft_id)


async def _text(connection: Connection, which: str) -> str | None:
    if which.startswith(_DRAFT):
        kept = await _draft(connection, which)
        return kept.draft.text if kept else None
    number = _id(which)
    return None if number is None else await store.text_of(connection, number)


def _named(which: str) -> str:
    kind = "draft" if which.startswith(_DRAFT) else "revision"
    return escape(f"{kind} {which.removeprefix(_DRAFT)}")


def _show_draft(console: Console, kept: store.KeptDraft) -> None:
    told: Draft = kept.draft
    became = f", published as revision {kept.number}" if kept.number else ""
    console.print(
        f"Draft {kept.draft_id} by {escape(told.drafted_by)}{became}, in force from"
        f" {told.effective_at:%Y-%m-%d} on.",
        soft_wrap=True,
    )
    for said in told.summary.values():
        console.print(escape(said), soft_wrap=True)
    if told.early_because:
        console.print(f"Sooner than usual: {escape(told.early_because)}", soft_wrap=True)
    console.print()


def _marked(block: ComparedBlock) -> str:
    return " ".join(_MARKS[piece.mark].format(escape(piece.text)) for piece in block.pieces)
