"""Where staff draft revisions of the policy, see what is different, and a second person publishes."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from fastapi import Request
from markupsafe import Markup
from starlette.responses import Response

from chassis.pages import form_of, see
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, said_by
from chassis.unit_of_work import UnitOfWork
from services.notifier import policies as process
from services.notifier.context import Context
from services.notifier.domain.differences import difference
from services.notifier.domain.news import NewsRefused, name_of
from services.notifier.domain.people import Language, Recipient
from services.notifier.domain.policies import (
    LONGEST_REASON,
    LONGEST_SUMMARY,
    PolicyRefused,
    Revision,
    plain_text,
    standing,
)
from services.notifier.domain.policy_text import as_html
from services.notifier.letters.letter import Envelope, Stationery
from services.notifier.letters.policies import PolicyChanges
from services.notifier.letters.sheets import Sheets
from services.notifier.routes.staff import EditorPages, notifier_of, number_in
from services.notifier.settings import NotifierSettings
from services.notifier.store import policies as store

_NEW: Final = dict.fromkeys(
    ("by", "text", "summary_en", "summary_de", "effective_on", "early_because"), ""
)


class PolicyDraftPages:
    """The pages on which a revision comes about; ``notice`` is how long before its day it does."""

    def __init__(
        self,
        pages: EditorPages,
        settings: NotifierSettings,
        stationery: Stationery,
        sheets: Sheets,
    ) -> None:
        self._pages = pages
        self._changes = PolicyChanges(stationery, sheets, str(settings.public_url))
        self._notice = timedelta(days=settings.policy_notice_days)

    def router(self) -> StaffRouter:
        """Return the routes."""
        router = StaffRouter(prefix="/staff/policies", include_in_schema=False)
        for path, method, act in (
            ("", "GET", self.list_all),
            ("/drafts", "POST", self.write),
            ("/drafts/new", "GET", self.begin),
            ("/drafts/preview", "POST", self.preview),
            ("/drafts/{draft}", "GET", self.show),
            ("/drafts/{draft}/approve", "POST", self.approve),
        ):
            router.add_api_route(path, act, methods=[method], response_model=None)
        return router

    @allowed(Role.PRIVACY, page="Privacy policy")
    async def list_all(self, request: Request) -> Response:
        """List revisions, and the drafts that may still become one."""
        async with notifier_of(request).units.begin() as uow:
            revisions = await store.revisions(uow.connection)
            shown = {
                "revisions": revisions,
                "standing": standing(revisions, uow.now),
                "drafts": await store.open_drafts(uow.connection),
                "english": Language.ENGLISH,
            }
        return self._pages.page("policy-drafts.html", shown)

    @allowed(Role.PRIVACY)
    async def begin(self, request: Request) -> Response:
        """Show an editor with the newest revision's text, or that of a draft to go on from."""
        draft_id = number_in(request.query_params.get("from", ""))
        async with notifier_of(request).units.begin() as uow:
            last = await store.newest_revision(uow.connection)
            text = await store.text_of(uow.connection, last.number) if last else ""
            form = {**_NEW, "text": text or ""}
            kept = await store.draft(uow.connection, draft_id) if draft_id else None
            if kept is not None:
                form |= {
                    "text": kept.draft.text,
                    "summary_en": kept.draft.summary[Language.ENGLISH],
                    "summary_de": kept.draft.summary[Language.GERMAN],
                    "effective_on": f"{kept.draft.effective_at:%Y-%m-%d}",
                    "early_because": kept.draft.early_because or "",
                }
            return self._editor(form, now=uow.now)

    @allowed(Role.PRIVACY)
    async def write(self, request: Request) -> Response:
        """Keep a draft for a second person to read."""
        form = _NEW | await form_of(request)
        async with notifier_of(request).units.begin() as uow:
            try:
                kept = await process.draft(uow, _wanted(form), notice=self._notice)
            except (PolicyRefused, NewsRefused) as refused:
                return self._editor(form, now=uow.now, problem=str(refused))
        return see(f"drafts/{kept.draft_id}")

    @allowed(Role.PRIVACY)
    async def show(self, request: Request, draft: str) -> Response:
        """Show a draft: what is different, how it will be read, and who may publish it."""
        return await self._draft(request, draft)

    @allowed(Role.PRIVACY)
    async def approve(self, request: Request, draft: str) -> Response:
        """Publish a draft that somebody else wrote; everybody is told from then on."""
        form = _NEW | await form_of(request)
        draft_id = number_in(draft)
        if draft_id is None:
            return self._none()
        try:
            async with notifier_of(request).units.begin() as uow:
                published = await process.approve(
                    uow, draft_id, approved_by=name_of(said_by(form["by"])), notice=self._notice
                )
        except (PolicyRefused, NewsRefused) as refused:
            return await self._draft(request, draft, problem=str(refused), by=form["by"])
        notifier_of(request).wake_job("plan policy changes")
        return see(f"../../../campaigns/{published.campaign_id}")

    @allowed(Role.PRIVACY)
    async def preview(self, request: Request) -> Response:
        """Show what is in the editor as the policy's page, or as the mail that tells of it."""
        form = _NEW | await form_of(request)
        dark = form.get("light") == "dark"
        if form.get("view") in ("mail", "text"):
            async with notifier_of(request).units.begin() as uow:
                last = await store.newest_revision(uow.connection)
                now = uow.now
            revision = _as_if_published(form, last.number + 1 if last else 1, now)
            german = form.get("language") == Language.GERMAN
            reader = Recipient(
                "Ada Example",
                "ada@customer.example",
                None,
                Language.GERMAN if german else Language.ENGLISH,
            )
            letter = self._changes.write(revision, reader, Envelope("<preview@localhost>", now))
            return self._pages.letter(letter, plain=form["view"] == "text", dark=dark)
        try:
            text = plain_text(form["text"].encode("utf-8", "surrogatepass"))
        except PolicyRefused as refused:
            return self._pages.preview("preview-none.html", {"why": refused, "dark": dark})
        # Made by a renderer that lets no HTML of the text through.
        shown = {"text": Markup(as_html(text)), "dark": dark}  # noqa: S704 - see above
        return self._pages.preview("preview-policy.html", shown)

    async def _draft(
        self,
        request: Request,
        draft: str,
        *,
        problem: str | None = None,
        by: str = "",
    ) -> Response:
        draft_id = number_in(draft)
        async with notifier_of(request).units.begin() as uow:
            kept = await store.draft(uow.connection, draft_id) if draft_id else None
            if kept is None:
                return self._none()
            before = await self._text_before(uow, kept)
        blocks = difference(before, kept.draft.text)
        shown = {
            "kept": kept,
            "blocks": blocks,
            "changes": sum(block.changed for block in blocks),
            "english": Language.ENGLISH,
            "german": Language.GERMAN,
            "problem": problem,
            "by": by,
        }
        status = HTTPStatus.OK if problem is None else HTTPStatus.UNPROCESSABLE_ENTITY
        return self._pages.page("policy-draft.html", shown, status=status)

    async def _text_before(self, uow: UnitOfWork[Context], kept: store.KeptDraft) -> str:
        return await store.text_of(uow.connection, kept.draft.follows) or ""

    def _editor(
        self, form: Mapping[str, str], *, now: datetime, problem: str | None = None
    ) -> Response:
        shown = {
            "form": form,
            "now": now,
            "notice_days": self._notice.days,
            "longest_summary": LONGEST_SUMMARY,
            "longest_reason": LONGEST_REASON,
            "problem": problem,
        }
        status = HTTPStatus.OK if problem is None else HTTPStatus.UNPROCESSABLE_ENTITY
        return self._pages.page("policy-editor.html", shown, status=status)

    def _none(self) -> Response:
        return self._pages.nothing("There is no such draft.")


def _wanted(form: Mapping[str, str]) -> process.Wanted:
    return process.Wanted(
        text=form["text"].encode("utf-8", "surrogatepass"),
        summary={Language.ENGLISH: form["summary_en"], Language.GERMAN: form["summary_de"]},
        effective_on=_day(form["effective_on"]),
        early_because=form["early_because"].strip() or None,
        drafted_by=name_of(said_by(form["by"])),
    )


def _day(given: str) -> date:
    try:
        return date.fromisoformat(given.strip())
    except ValueError:
        raise PolicyRefused("Say from which day on it is in force, as 2026-12-31.") from None


def _as_if_published(form: Mapping[str, str], number: int, now: datetime) -> Revision:
    """What the mail says of what is in the editor, which may be half written."""
    try:
        day = _day(form["effective_on"])
    except PolicyRefused:
        day = now.date()
    return Revision(
        number,
        UUID(int=0),
        "",
        {
            Language.ENGLISH: form["summary_en"].strip() or "…",
            Language.GERMAN: form["summary_de"].strip() or "…",
        },
        now,
        datetime(day.year, day.month, day.day, tzinfo=UTC),
        form["early_because"].strip() or None,
    )
