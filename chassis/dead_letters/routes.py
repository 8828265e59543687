"""The pages of dead letters, for those of our staff who mend them."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.dead_letters import acts
from chassis.dead_letters.acts import NotPossible, Word
from chassis.dead_letters.redrives import JOB
from chassis.dead_letters.written import State
from chassis.pages import StaffPages, form_of, id_in, see
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, said_by
from chassis.unit_of_work import UnitOfWork

_PAGES: Final = Path(__file__).parent / "pages"
_STATIC: Final = {"dead-letters.css": "text/css"}
_SHOWN: Final = 200
_MENDING: Final = (Role.DEVELOPER, Role.OPERATOR)
_MENDERS: Final = allowed(*_MENDING)
_NOTHING: Final[Mapping[str, str]] = {"by": "", "reason": "", "body": "", "problem": ""}
_ACTS: Final[Mapping[str, Callable[..., Awaitable[Any]]]] = {
    "edit": acts.edit,
    "redrive": acts.redrive,
    "discard": acts.discard,
}


def dead_letters_routers(service: str) -> tuple[APIRouter, ...]:
    """Return the routes by which a service shows its dead letters and takes a person's word."""
    router = StaffRouter(prefix="/staff/dead-letters", include_in_schema=False)
    pages = _Pages(service)
    router.add_api_route("", pages.show_groups, methods=["GET"])
    router.add_api_route("/groups/{fingerprint}", pages.show_group, methods=["GET"])
    router.add_api_route("/groups/{fingerprint}/{act}", pages.act_on_group, methods=["POST"])
    router.add_api_route("/{letter}", pages.show_letter, methods=["GET"])
    router.add_api_route("/{letter}/{act}", pages.act_on_letter, methods=["POST"])
    return pages.router(), router


class _Pages(StaffPages):
    def __init__(self, service: str) -> None:
        super().__init__(_PAGES, _STATIC)
        self.templates.globals.update(
            service=service, States=State, state_is_not_mended=acts.STATE_IS_NOT_MENDED
        )

    @allowed(*_MENDING, page="Dead letters")
    async def show_groups(self, request: Request) -> Response:
        """Show the causes."""
        async with _service(request).units.begin() as uow:
            found = await acts.groups(uow.connection, limit=_SHOWN)
            return self.page("groups.html", {"groups": found, "now": uow.now})

    @_MENDERS
    async def show_group(self, request: Request, fingerprint: str) -> Response:
        """Show the letters of a cause."""
        async with _service(request).units.begin() as uow:
            return await self._group(uow, fingerprint)

    @_MENDERS
    async def show_letter(self, request: Request, letter: str) -> Response:
        """Show a letter with its body."""
        async with _service(request).units.begin() as uow:
            return await self._letter(uow, id_in(letter))

    @_MENDERS
    async def act_on_group(self, request: Request, fingerprint: str, act: str) -> Response:
        """Try a group again, or put it aside."""
        form = await form_of(request)
        async with _service(request).units.begin() as uow:
            problem = await _act(uow, act, fingerprint, form)
            if problem is not None:
                given = {**_NOTHING, **form, "problem": problem}
                return await self._group(uow, fingerprint, given=given)
        _service(request).wake_job(JOB)
        return see(f"../{fingerprint}")

    @_MENDERS
    async def act_on_letter(self, request: Request, letter: str, act: str) -> Response:
        """Mend a letter, try it again or put it aside."""
        form, letter_id = await form_of(request), id_in(letter)
        async with _service(request).units.begin() as uow:
            problem = await _act(uow, act, letter_id, form)
            if problem is not None:
                given = {**_NOTHING, **form, "problem": problem}
                return await self._letter(uow, letter_id, given=given)
        _service(request).wake_job(JOB)
        return see(f"../{letter}")

    async def _group(
        self,
        uow: UnitOfWork[Any],
        fingerprint: str,
        given: Mapping[str, str] = _NOTHING,
    ) -> Response:
        found = await acts.letters(uow.connection, fingerprint, limit=_SHOWN)
        if not found:
            return self._nothing("group")
        shown = {"letters": found, "given": given, "most": _SHOWN}
        return self.page("group.html", shown, status=_status(given))

    async def _letter(
        self,
        uow: UnitOfWork[Any],
        letter_id: UUID | None,
        given: Mapping[str, str] = _NOTHING,
    ) -> Response:
        found = await acts.opened(uow.connection, letter_id) if letter_id else None
        if found is None:
            return self._nothing("dead letter")
        shown = {"found": found, "given": given}
        return self.page("letter.html", shown, status=_status(given))

    def _nothing(self, what: str) -> Response:
        return self.page("none.html", {"what": what}, status=HTTPStatus.NOT_FOUND)


async def _act(
    uow: UnitOfWork[Any], act: str, which: UUID | str | None, form: Mapping[str, str]
) -> str | None:
    """Do what a form asks for, or say why it is refused."""
    do = _ACTS.get(act)
    if which is None or do is None or (do is acts.edit and not isinstance(which, UUID)):
        return "That cannot be done here."
    given = {"body": form.get("body", "").encode()} if do is acts.edit else {}
    try:
        word = Word(said_by(form.get("by", "")), form.get("reason", ""))
        await do(uow.connection, which, word=word, now=uow.now, **given)
    except NotPossible as refused:
        return str(refused)
    return None


def _service(request: Request) -> Any:
    # As `chassis.service.running` says it, which imports this module.
    return request.app.state.running


def _status(given: Mapping[str, str]) -> int:
    return HTTPStatus.CONFLICT if given["problem"] else HTTPStatus.OK
