"""Where staff write news of products, see it as it will arrive, try it out and let it go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from http import HTTPStatus
from secrets import token_hex
from typing import Any, Final, assert_never
from uuid import UUID

from fastapi import Request
from pydantic import ValidationError
from starlette.responses import Response

from chassis.pages import form_of, id_in, see
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, said_by
from chassis.unit_of_work import UnitOfWork
from services.notifier import news as process
from services.notifier.clients import MailServer
from services.notifier.context import Context
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import Accepted, Deferred, Outcome, Refused, Unknown
from services.notifier.domain.news import (
    EDITABLE,
    LONGEST_NAME,
    LONGEST_SEGMENT,
    LONGEST_SUBJECT,
    Check,
    News,
    NewsRefused,
    Overtaken,
    Segment,
    Verdict,
    Written,
    check_list,
    name_of,
    written,
)
from services.notifier.domain.people import (
    ADDRESS_INDEX,
    ContactInput,
    Language,
    Recipient,
    one_form,
)
from services.notifier.domain.policies import PolicyRefused, plain_line
from services.notifier.domain.preferences import Links
from services.notifier.letters.letter import Envelope, Letter, Unsubscribing
from services.notifier.letters.news import TEST_MARK, NewsLetters
from services.notifier.routes.staff import (
    EditorPages,
    bodies_of,
    notifier_of,
    number_in,
)
from services.notifier.store import news as store

_NOBODY: Final = UUID(int=0)
_EXAMPLE: Final = "ada@customer.example"
_SHOWN: Final = 100
_SEGMENT: Final = ("addon_key", "product", "edition", "region")
_FIELDS: Final = (
    *("by", "kind", "subject_en", "text_en", "subject_de", "text_de", *_SEGMENT),
    *("send_at", "address", "language", "view", "light"),
)
_NEW: Final = {**dict.fromkeys(_FIELDS, ""), "kind": Kind.PRODUCT_UPDATE.value, "version": "0"}


@dataclass(frozen=True, slots=True)
class _Look:
    """What is seen of news that was written: whom it reaches, and what is wrong with it."""

    recipients: int
    checks: Sequence[Check]

    @property
    def faults(self) -> list[str]:
        return [each.said for each in self.checks if each.verdict is Verdict.BAD]


class NewsPages:
    """The pages on which news comes about."""

    def __init__(
        self, pages: EditorPages, letters: NewsLetters, server: MailServer, public_url: str
    ) -> None:
        self._pages = pages
        self._letters = letters
        self._server = server
        self._public_url = public_url

    def router(self) -> StaffRouter:
        """Return the routes."""
        router = StaffRouter(prefix="/staff/news", include_in_schema=False)
        for path, method, act in (
            ("", "GET", self.list_all),
            ("", "POST", self.write),
            ("/new", "GET", self.begin),
            ("/preview", "POST", self.preview),
            ("/checks", "POST", self.checks),
            ("/{news}", "GET", self.show),
            ("/{news}", "POST", self.change),
            ("/{news}/approve", "POST", self.approve),
            ("/{news}/schedule", "POST", self.schedule),
            ("/{news}/test", "POST", self.test),
        ):
            router.add_api_route(path, act, methods=[method], response_model=None)
        return router

    @allowed(Role.MARKETING, page="News")
    async def list_all(self, request: Request) -> Response:
        """List all news, what was changed last first."""
        async with notifier_of(request).units.begin() as uow:
            found = await store.latest(uow.connection, limit=_SHOWN)
        return self._pages.page("news-list.html", {"found": found})

    @allowed(Role.MARKETING)
    async def begin(self, request: Request) -> Response:
        """Show an empty editor."""
        async with notifier_of(request).units.begin() as uow:
            return await self._editor(uow, None, _NEW)

    @allowed(Role.MARKETING)
    async def show(self, request: Request, news: str) -> Response:
        """Show news: the editor while it can be changed, then what was sent."""
        async with notifier_of(request).units.begin() as uow:
            kept = await self._find(uow, news)
            if kept is None:
                return self._none()
            return await self._editor(uow, kept, _form_with(kept))

    @allowed(Role.MARKETING)
    async def write(self, request: Request) -> Response:
        """Keep a new draft."""
        form = _NEW | await form_of(request)
        async with notifier_of(request).units.begin() as uow:
            try:
                by, told = name_of(said_by(form["by"])), _news(process.new_id(uow), form)
            except NewsRefused as refused:
                return await self._editor(uow, None, form, problem=refused)
            await process.write(uow, told, by=by)
        return see(f"news/{told.campaign_id}?kept")

    @allowed(Role.MARKETING)
    async def change(self, request: Request, news: str) -> Response:
        """Keep a draft's new words; where somebody else was faster, show both."""
        form = _NEW | await form_of(request)
        async with notifier_of(request).units.begin() as uow:
            kept = await self._find(uow, news)
            if kept is None:
                return self._none()
            try:
                by, told = name_of(said_by(form["by"])), _news(kept.news.campaign_id, form)
                await process.change(uow, told, version=_version(form), by=by)
            except NewsRefused as refused:
                return await self._editor(uow, kept, form, problem=refused)
        return see(f"{kept.news.campaign_id}?kept")

    @allowed(Role.MARKETING)
    async def approve(self, request: Request, news: str) -> Response:
        """Let a draft be scheduled, unless the check list says that it cannot be sent so."""

        async def act(uow: UnitOfWork[Context], kept: store.Kept, form: Mapping[str, str]) -> None:
            by = name_of(said_by(form["by"]))
            if faults := (await self._look(uow, kept.news)).faults:
                raise NewsRefused(f"It cannot be sent so. {' '.join(faults)}")
            await process.approve(uow, kept.news.campaign_id, version=_version(form), by=by)

        return await self._act(request, news, act)

    @allowed(Role.MARKETING)
    async def schedule(self, request: Request, news: str) -> Response:
        """Let it be sent at a time in UTC, or at once."""

        async def act(uow: UnitOfWork[Context], kept: store.Kept, form: Mapping[str, str]) -> None:
            await process.schedule(
                uow,
                kept.news.campaign_id,
                version=_version(form),
                send_at=_time(form["send_at"]),
                by=name_of(said_by(form["by"])),
            )

        return await self._act(request, news, act)

    @allowed(Role.MARKETING)
    async def test(self, request: Request, news: str) -> Response:
        """Send it to one address, which is not kept, outside of any campaign."""
        form = _NEW | await form_of(request)
        notifier = notifier_of(request)
        async with notifier.units.begin() as uow:
            kept = await self._find(uow, news)
        if kept is None:
            return self._none()
        try:
            reader = _reader(kept.news, form["language"], form["address"])
        except NewsRefused as refused:
            return await self._answer(request, kept, form, problem=refused)
        named = f"<{token_hex(20)}@{notifier.context.mail_domain}>"
        letter = self._letter(
            notifier.context, kept.news, reader, named, notifier.units.clock.wall(), mark=TEST_MARK
        )
        outcome = await self._server.hand_over(letter)
        if isinstance(outcome, Accepted):
            return await self._answer(request, kept, form, said=_outcome(outcome))
        return await self._answer(request, kept, form, problem=NewsRefused(_outcome(outcome)))

    @allowed(Role.MARKETING)
    async def preview(self, request: Request) -> Response:
        """Show what is in the editor as it would arrive."""
        form = _NEW | await form_of(request)
        try:
            told = _news(_NOBODY, form)
            reader = _reader(told, form["language"], _EXAMPLE)
        except NewsRefused as refused:
            dark = form["light"] == "dark"
            return self._pages.preview("preview-none.html", {"why": refused, "dark": dark})
        notifier = notifier_of(request)
        letter = self._letter(
            notifier.context, told, reader, "<preview@localhost>", notifier.units.clock.wall()
        )
        return self._pages.letter(
            letter, plain=form["view"] == "text", dark=form["light"] == "dark"
        )

    @allowed(Role.MARKETING)
    async def checks(self, request: Request) -> Response:
        """Show the check list of what is in the editor."""
        form = _NEW | await form_of(request)
        async with notifier_of(request).units.begin() as uow:
            shown = await self._checked(uow, form)
        return self._pages.page("news-checks.html", shown)

    async def _act(self, request: Request, news: str, act: Any) -> Response:
        form = _NEW | await form_of(request)
        async with notifier_of(request).units.begin() as uow:
            kept = await self._find(uow, news)
            if kept is None:
                return self._none()
            try:
                await act(uow, kept, form)
            except NewsRefused as refused:
                return await self._editor(uow, kept, _form_with(kept, form), problem=refused)
        notifier_of(request).wake_job("plan news")
        return see(f"../{kept.news.campaign_id}")

    async def _answer(
        self,
        request: Request,
        kept: store.Kept,
        form: Mapping[str, str],
        *,
        problem: NewsRefused | None = None,
        said: str | None = None,
    ) -> Response:
        async with notifier_of(request).units.begin() as uow:
            return await self._editor(uow, kept, _form_with(kept, form), problem=problem, said=said)

    async def _editor(
        self,
        uow: UnitOfWork[Context],
        kept: store.Kept | None,
        form: Mapping[str, str],
        *,
        problem: NewsRefused | None = None,
        said: str | None = None,
    ) -> Response:
        overtaken = isinstance(problem, Overtaken)
        shown = {
            **await self._checked(uow, form),
            "kept": kept,
            "form": {**form, "version": kept.version if kept else 0},
            "acts": await store.acts(uow.connection, kept.news.campaign_id) if kept else [],
            "choices": await store.choices(uow.connection),
            "editable": kept is None or kept.stage in EDITABLE,
            "overtaken": overtaken,
            "problem": problem,
            "said": said,
            "now": uow.now,
            "kinds": [kind.value for kind in (Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT)],
            "longest_name": LONGEST_NAME,
            "longest_subject": LONGEST_SUBJECT,
        }
        status = HTTPStatus.OK
        if problem is not None:
            status = HTTPStatus.CONFLICT if overtaken else HTTPStatus.UNPROCESSABLE_ENTITY
        return self._pages.page("news-editor.html", shown, status=status)

    async def _checked(
        self, uow: UnitOfWork[Context], form: Mapping[str, str]
    ) -> dict[str, _Look | NewsRefused | None]:
        try:
            return {"look": await self._look(uow, _news(_NOBODY, form)), "unfinished": None}
        except NewsRefused as refused:
            return {"look": None, "unfinished": refused}

    async def _look(self, uow: UnitOfWork[Context], news: News) -> _Look:
        found = {}
        for language in news.words:
            reader = _reader(news, language, _EXAMPLE)
            letter = self._letter(uow.context, news, reader, "<preview@localhost>", uow.now)
            found[language] = _seen(letter)
        recipients = await store.count_recipients(uow.connection, news.kind, news.segment)
        return _Look(recipients, check_list(news, found, recipients=recipients))

    def _letter(
        self,
        context: Context,
        news: News,
        reader: Recipient,
        named: str,
        sent_at: datetime,
        *,
        mark: str = "",
    ) -> Letter:
        """Write to somebody who is no recipient; what they choose is noted all the same."""
        keyed_hash = context.keys.blind_index
        links = Links(keyed_hash, self._public_url)
        whose = keyed_hash(ADDRESS_INDEX, one_form(reader.address)), news.kind, news.campaign_id
        unsubscribing = Unsubscribing(
            news.kind, links.unsubscribe_url(*whose), links.preferences_url(*whose)
        )
        return self._letters.write(news, reader, Envelope(named, sent_at, unsubscribing), mark=mark)

    async def _find(self, uow: UnitOfWork[Context], news: str) -> store.Kept | None:
        campaign_id = id_in(news)
        return await store.find(uow.connection, campaign_id) if campaign_id else None

    def _none(self) -> Response:
        return self._pages.nothing("There is no such news.")


def _form_with(kept: store.Kept, form: Mapping[str, str] = _NEW) -> dict[str, str]:
    """What the editor shows of news that is kept, and what else a person has typed."""
    english, german = kept.news.words[Language.ENGLISH], kept.news.words.get(Language.GERMAN)
    segment = kept.news.segment
    return {
        **form,
        "kind": kept.news.kind.value,
        "subject_en": english.subject,
        "text_en": english.text,
        "subject_de": german.subject if german else "",
        "text_de": german.text if german else "",
        **{name: getattr(segment, name) or "" for name in _SEGMENT},
    }


def _news(campaign_id: UUID, form: Mapping[str, str]) -> News:
    return written(
        campaign_id,
        form["kind"],
        {
            Language.ENGLISH: (form["subject_en"], form["text_en"]),
            Language.GERMAN: (form["subject_de"], form["text_de"]),
        },
        Segment(**{name: _part(form[name]) for name in _SEGMENT}),
    )


def _part(chosen: str) -> str | None:
    try:
        return plain_line(chosen, "a segment", most=LONGEST_SEGMENT) if chosen else None
    except PolicyRefused as refused:
        raise NewsRefused(str(refused)) from None


def _version(form: Mapping[str, str]) -> int:
    return number_in(form["version"]) or 0


def _time(given: str) -> datetime | None:
    """Read a time in UTC; None for at once."""
    if not given.strip():
        return None
    try:
        time = datetime.fromisoformat(given.strip())
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except ValueError:
        raise NewsRefused("That is no time. Write it as 2026-11-30T09:00, in UTC.") from None


def _reader(news: News, language: str, address: str) -> Recipient:
    """Somebody to try it out on; raises ``NewsRefused`` for what is no address."""
    try:
        contact = ContactInput(tenant_id=_NOBODY, name="Ada Example", address=address.strip())
    except ValidationError:
        raise NewsRefused("That is no address that can be written to.") from None
    wished = Language.GERMAN if language == Language.GERMAN else Language.ENGLISH
    return Recipient(contact.name, contact.address, news.segment.addon_key, wished)


def _seen(letter: Letter) -> Written:
    text, html = bodies_of(letter)
    address = str(message_from_bytes(letter.content)["List-Unsubscribe"]).strip(" <>\r\n")
    return Written(len(letter.content), address in text and address in html)


def _outcome(outcome: Outcome) -> str:
    match outcome:
        case Accepted():
            return "The mail server took it."
        case Deferred(status_code=None):
            return "The mail server cannot be reached. Nothing was sent."
        case Deferred(status_code=code):
            return f"The mail server does not take it now ({code}). Nothing was sent."
        case Refused(status_code=code):
            return f"The mail server refuses it ({code}). Nothing was sent."
        case Unknown():
            return "The mail server did not answer. It may have been sent."
        case other:
            assert_never(other)
