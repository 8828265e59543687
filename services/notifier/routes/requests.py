"""Where a person asks about their own data, and where the link that they are mailed leads."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.pages import PageFiles, templates_in
from chassis.service import Running, running
from chassis.unit_of_work import UnitOfWork
from services.notifier import requests
from services.notifier.clients import MailServer
from services.notifier.context import Context
from services.notifier.domain.deliveries import Accepted, Refused, Unknown, message_id
from services.notifier.domain.people import Language
from services.notifier.domain.requests import (
    ANSWER_PATH,
    LINK_LASTS,
    REQUEST_PATH,
    Answerer,
    AnswerLinks,
    Format,
    Kept,
    PersonRequest,
    RequestKind,
    address_in,
    link_has_ended,
    name_in,
    wants_answer,
)
from services.notifier.letters.exports import as_json, as_pdf
from services.notifier.letters.letter import Envelope
from services.notifier.letters.requests import RequestLetters
from services.notifier.routes.forms import form_of
from services.notifier.settings import NotifierSettings
from services.notifier.store import requests as store

log = structlog.get_logger(__name__)

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"answer.js": "text/javascript"}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a person is shown for a request: a step, and what is said with it."""

    step: str
    status: int = HTTPStatus.OK
    request: PersonRequest | None = None
    kept: Kept | None = None
    said: str | None = None
    problem: str | None = None


_GONE: Final = _Answer("gone", HTTPStatus.NOT_FOUND)
_CODE: Final = _Answer("code")


class RequestPages:
    """The pages of requests, and the mail that leads from the first to the second."""

    def __init__(
        self, settings: NotifierSettings, letters: RequestLetters, server: MailServer
    ) -> None:
        self._letters = letters
        self._server = server
        self._settings = settings
        self._templates = templates_in(_PAGES)
        self._templates.globals.update(
            vendor_name=settings.vendor_name, address=settings.mail_from, days=LINK_LASTS.days
        )

    def router(self) -> APIRouter:
        """Return the routes, which are open to anybody."""
        router = APIRouter(include_in_schema=False)
        for path, show, act in (
            (REQUEST_PATH, self.show, self.ask),
            (ANSWER_PATH, self.enter, self.answer),
        ):
            router.add_api_route(path, show, methods=["GET"], response_model=None)
            router.add_api_route(path, act, methods=["POST"], response_model=None)
        PageFiles(_PAGES, _STATIC).add_to(router, below="/pages")
        return router

    # -- asking ----------------------------------------------------------------------------------

    async def show(self) -> Response:
        """Show what may be asked."""
        return self._asking()

    async def ask(self, request: Request) -> Response:
        """Mail a link to the address that was given; the answer is the same for every address."""
        form = await form_of(request)
        address, kind = address_in(form.get("address", "")), form.get("kind")
        if address is None:
            return self._asking("This is no address that we can write to.")
        if kind not in set(RequestKind):
            return self._asking("Choose what you wish.")
        notifier = _notifier(request)
        index = requests.index_of(notifier.context.keys, address)
        try:
            async with notifier.units.begin() as uow:
                received = await requests.receive(uow, index, RequestKind(kind))
                language = await store.language_of(uow.connection, index)
        except requests.TooManyRequests:
            problem = f"There are too many requests now. Try again in an hour, or write to {self._settings.mail_from}."
            return self._asking(problem, HTTPStatus.TOO_MANY_REQUESTS, {"retry-after": "3600"})
        if received is not None and not await self._mailed(notifier, received, address, language):
            problem = f"The mail could not be sent. Try again in some minutes, or write to {self._settings.mail_from}."
            return self._asking(problem, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "300"})
        return self._page("request.html", {"done": True}, HTTPStatus.ACCEPTED)

    async def _mailed(
        self,
        notifier: Running[Context],
        received: PersonRequest,
        address: str,
        language: Language,
    ) -> bool:
        """Mail the link; False where the server would not take it now, which forgets the request.

        What the server says of the address is told nobody.
        """
        context = notifier.context
        named = message_id(
            context.keys.blind_index,
            received.request_id,
            received.address_index,
            context.mail_domain,
        )
        envelope = Envelope(named, notifier.units.clock.wall())
        letter = self._letters.write(received, self._links(notifier), address, language, envelope)
        outcome = await self._server.hand_over(letter)
        log.info(
            "request received",
            request_id=received.request_id,
            kind=received.kind,
            mail=type(outcome).__name__.lower(),
            status_code=getattr(outcome, "status_code", None),
        )
        if isinstance(outcome, Accepted | Unknown):
            return True
        async with notifier.units.begin() as uow:
            await store.drop_request(uow.connection, received.request_id)
        return isinstance(outcome, Refused)

    def _asking(
        self,
        problem: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        if status is None:
            status = HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK
        return self._page("request.html", {"done": False, "problem": problem}, status, headers)

    # -- answering -------------------------------------------------------------------------------

    async def enter(self) -> Response:
        """Take the code; the server does not know it yet, so nobody's look changes anything."""
        return self._step(_CODE, "")

    async def answer(self, request: Request) -> Response:
        """Show a request to whoever has its code, or do what they say about it."""
        form = await form_of(request)
        code, act = form.get("code", ""), form.get("act")
        notifier = _notifier(request)
        request_id = self._links(notifier).read(code)
        if request_id is None:
            return self._step(_GONE, "")
        if act in set(Format):
            return await self._export(notifier, request_id, Format(act))
        match act:
            case "correct":
                answered = await self._correct(notifier, request_id, form)
            case "object":
                answered = await self._decline_news(notifier, request_id)
            case "erase":
                answered = await self._erase(notifier, request_id)
            case _:
                answered = await self._look(notifier, request_id)
        return self._step(answered, code)

    async def _look(
        self, notifier: Running[Context], request_id: UUID, problem: str | None = None
    ) -> _Answer:
        async with notifier.units.begin() as uow:
            found = await _valid(uow, request_id)
            if found is None:
                return _GONE
            if found.answered_at and not any(map(found.may_fetch, Format)):
                return _answered(found)
            kept = await requests.kept_of(uow, notifier.context.keys, found.address_index)
        status = HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK
        return _Answer("look", status, found, kept, problem=problem)

    async def _export(
        self, notifier: Running[Context], request_id: UUID, wanted: Format
    ) -> Response:
        """Give a copy, each form once; a copy that cannot be made is not counted as given."""
        keys = notifier.context.keys
        async with notifier.units.begin() as uow:
            found = await _valid(uow, request_id)
            if found is None or not found.may_fetch(wanted):
                return self._step(_answered(found) if found else _GONE, "")
            export = requests.export(
                await requests.kept_of(uow, keys, found.address_index),
                found.reference,
                self._settings.vendor_name,
                self._settings.mail_from,
                self._settings.data_location,
                now=uow.now,
            )
        make, media_type = _COPIES[wanted]
        copy = await asyncio.to_thread(make, export)
        async with notifier.units.begin() as uow:
            found = await _valid(uow, request_id)
            if found is None or not found.may_fetch(wanted):
                return self._step(_answered(found) if found else _GONE, "")
            await store.note_fetched(uow.connection, request_id, wanted)
            await _note_answer(uow, found)
        return Response(
            copy,
            headers={
                "content-disposition": f'attachment; filename="{request_id}.{wanted}"',
                "cache-control": "no-store",
            },
            media_type=media_type,
        )

    async def _correct(
        self, notifier: Running[Context], request_id: UUID, form: Mapping[str, str]
    ) -> _Answer:
        typed, chosen = form.get("name", ""), form.get("language", "")
        name = name_in(typed) if typed.strip() else None
        if typed.strip() and name is None:
            return await self._look(notifier, request_id, "This cannot be a name.")
        if chosen not in {"", *Language} or (name is None and not chosen):
            return await self._look(notifier, request_id, "Say what is to be corrected.")
        async with notifier.units.begin() as uow:
            found = await _valid(uow, request_id)
            if found is None or not wants_answer(found, RequestKind.CORRECTION):
                return _answered(found) if found else _GONE
            changed = await requests.correct(
                uow,
                notifier.context.keys,
                found.address_index,
                name=name,
                language=Language(chosen) if chosen else None,
            )
            await _note_answer(uow, found)
        return _done(found, f"Corrected wherever you are a contact: {changed}.")

    async def _decline_news(self, notifier: Running[Context], request_id: UUID) -> _Answer:
        async with notifier.units.begin() as uow:
            found = await _valid(uow, request_id)
            if found is None or not wants_answer(found, RequestKind.OBJECTION):
                return _answered(found) if found else _GONE
            await requests.decline_news(uow, found.address_index)
            await _note_answer(uow, found)
        return _done(found, "You get no more news from us.")

    async def _erase(self, notifier: Running[Context], request_id: UUID) -> _Answer:
        """Erase, then note the answer: who is cut off between the two may do it again."""
        async with notifier.units.begin() as uow:
            found = await _valid(uow, request_id)
        if found is None or not wants_answer(found, RequestKind.ERASURE):
            return _answered(found) if found else _GONE
        forgotten = await requests.forget_person(notifier.units, found.address_index)
        async with notifier.units.begin() as uow:
            await _note_answer(uow, found)
        return _done(found, f"Erased wherever you were a contact: {forgotten}. Farewell.")

    def _links(self, notifier: Running[Context]) -> AnswerLinks:
        return AnswerLinks(notifier.context.keys.blind_index, str(self._settings.public_url))

    def _step(self, answer: _Answer, code: str) -> Response:
        shown = {
            "step": answer.step,
            "code": code,
            "request": answer.request,
            "kept": answer.kept,
            "said": answer.said,
            "problem": answer.problem,
        }
        return self._page("answer.html", shown, answer.status)

    def _page(
        self,
        name: str,
        shown: Mapping[str, Any],
        status: int,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        return Response(
            self._templates.get_template(name).render(shown),
            status_code=status,
            headers={**_HEADERS, **(headers or {})},
            media_type="text/html",
        )


_COPIES: Final = {
    Format.JSON: (as_json, "application/json"),
    Format.PDF: (as_pdf, "application/pdf"),
}


async def _valid(uow: UnitOfWork[Context], request_id: UUID) -> PersonRequest | None:
    """Find a request whose link still answers it, and keep others from answering it meanwhile."""
    found = await store.lock_request(uow.connection, request_id)
    return None if found is None or link_has_ended(found, now=uow.now) else found


async def _note_answer(uow: UnitOfWork[Context], request: PersonRequest) -> None:
    await store.note_answer(uow.connection, request.request_id, Answerer.PERSON, now=uow.now)
    log.info("request answered", request_id=request.request_id, kind=request.kind)


def _answered(request: PersonRequest) -> _Answer:
    return _Answer("answered", HTTPStatus.GONE, request)


def _done(request: PersonRequest, said: str) -> _Answer:
    return _Answer("done", HTTPStatus.OK, request, said=said)


def _notifier(request: Request) -> Running[Context]:
    found: Running[Context] = running(request)
    return found
