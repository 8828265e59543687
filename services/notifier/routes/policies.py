"""Pages on which anybody reads the policy: in force, to come, before, and what is different."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from chassis.pages import PageFiles, templates_in
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role
from services.notifier.context import Context
from services.notifier.domain.differences import difference
from services.notifier.domain.people import Language
from services.notifier.domain.policies import Standing, standing
from services.notifier.domain.policy_text import as_html
from services.notifier.settings import NotifierSettings
from services.notifier.store import evidence, policies

_PAGES: Final = Path(__file__).parent.parent / "pages"
_STATIC: Final = {"policies.css": "text/css"}
_LONGEST_NUMBER: Final = 9
_FEED_TYPE: Final = "application/atom+xml"

CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # A revision takes effect by the clock.
    "cache-control": "no-cache",
}


class PolicyPages:
    """The pages of revisions; ``public_url`` is where others find them."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._templates = templates_in(_PAGES)
        self._templates.globals.update(
            vendor_name=settings.vendor_name,
            public_url=settings.public_url,
            english=Language.ENGLISH,
        )

    def router(self) -> APIRouter:
        """Return the routes that are open to anybody."""
        router = APIRouter(include_in_schema=False)
        for path, show in (
            ("/policy", self.current),
            ("/policy/history", self.history),
            ("/policy/feed.xml", self.feed),
            ("/policy/diff", self.choose),
            ("/policy/diff/{span}", self.compare),
            ("/policy/{number}", self.revision),
        ):
            router.add_api_route(path, show, methods=["GET"], response_model=None)
        PageFiles(_PAGES, _STATIC).add_to(router, below="/pages")
        return router

    def staff_router(self) -> StaffRouter:
        """Return the route for staff."""
        router = StaffRouter(include_in_schema=False)
        router.add_api_route(
            "/policies/{number}/coverage", self.coverage, methods=["GET"], response_model=None
        )
        return router

    async def current(self, request: Request) -> Response:
        """Show the revision in force, and from when on another one will be."""
        async with _notifier(request).units.begin() as uow:
            now = standing(await policies.revisions(uow.connection), uow.now)
            if now.current is None and not now.coming:
                return self._none("No policy has been published here yet.", root="")
            shown = now.current or now.coming[0]
            text = await policies.text_of(uow.connection, shown.number)
        assert text is not None
        return self._page("policy.html", _revision_page(shown.number, text, now), root="")

    async def revision(self, request: Request, number: str) -> Response:
        """Show any revision."""
        async with _notifier(request).units.begin() as uow:
            now = standing(await policies.revisions(uow.connection), uow.now)
            known = _number(number)
            text = await policies.text_of(uow.connection, known) if known else None
        if known is None or text is None:
            return self._none(root="../")
        return self._page("policy.html", _revision_page(known, text, now), root="../")

    async def history(self, request: Request) -> Response:
        """List all revisions, and let any two be compared."""
        async with _notifier(request).units.begin() as uow:
            revisions = await policies.revisions(uow.connection)
            now = standing(revisions, uow.now)
        shown = {"revisions": revisions, "now": now}
        return self._page("policy-history.html", shown, root="../")

    async def choose(
        self,
        earlier: Annotated[str, Query(alias="from", max_length=20)] = "",
        later: Annotated[str, Query(alias="to", max_length=20)] = "",
    ) -> Response:
        """Lead to the difference that the form on the history's page asks for."""
        one, other = _number(earlier), _number(later)
        if one is None or other is None:
            return self._none(root="../")
        return RedirectResponse(f"diff/{one}...{other}", status_code=HTTPStatus.SEE_OTHER)

    async def compare(self, request: Request, span: str) -> Response:
        """Show what is different between two revisions."""
        earlier, _, later = span.partition("...")
        one, other = _number(earlier), _number(later)
        if one is None or other is None:
            return self._none(root="../../")
        if one == other:
            return self._none(
                f"Revision {one} is the same as itself. Choose two different ones.", root="../../"
            )
        async with _notifier(request).units.begin() as uow:
            before = await policies.text_of(uow.connection, one)
            after = await policies.text_of(uow.connection, other)
        if before is None or after is None:
            return self._none(root="../../")
        compared = difference(before, after)
        shown = {
            "earlier": one,
            "later": other,
            "blocks": compared,
            "changes": sum(block.changed for block in compared),
        }
        return self._page("policy-diff.html", shown, root="../../")

    async def feed(self, request: Request) -> Response:
        """Give all revisions to feed readers (RFC 4287), the newest one first."""
        async with _notifier(request).units.begin() as uow:
            revisions = await policies.revisions(uow.connection)
            now = uow.now
        updated = revisions[0].published_at if revisions else now
        content = self._templates.get_template("policy-feed.xml").render(
            revisions=revisions, updated=updated
        )
        return Response(content, headers=_HEADERS, media_type=_FEED_TYPE)

    @allowed(Role.PRIVACY)
    async def coverage(self, request: Request, number: str) -> Response:
        """Show staff who was told of a revision and who was not; it names nobody."""
        known = _number(number)
        async with _notifier(request).units.begin() as uow:
            revision = await policies.revision(uow.connection, known) if known else None
            if revision is None:
                return self._none(root="../../../")
            covered = await evidence.coverage(uow.connection, revision.number)
        shown = {"revision": revision, "covered": covered}
        return self._page("policy-coverage.html", shown, root="../../../")

    def _none(self, why: str = "There is no such revision.", *, root: str) -> Response:
        return self._page("no-policy.html", {"why": why}, root=root, status=HTTPStatus.NOT_FOUND)

    def _page(
        self, name: str, shown: Mapping[str, Any], *, root: str, status: int = HTTPStatus.OK
    ) -> Response:
        """Render a page; ``root`` leads from it to where the service's paths begin."""
        return Response(
            self._templates.get_template(name).render(shown, root=root),
            status_code=status,
            headers=_HEADERS,
            media_type="text/html",
        )


def _revision_page(number: int, text: str, now: Standing) -> dict[str, Any]:
    known = {each.number: each for each in (*now.coming, *([now.current] if now.current else []))}
    return {
        "number": number,
        "revision": known.get(number),
        "now": now,
        # Made by a renderer that lets no HTML of the text through.
        "text": Markup(as_html(text)),  # noqa: S704 - see above
    }


def _number(text: str) -> int | None:
    """Read a revision's number; None for what cannot be one."""
    plain = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    return int(text) or None if plain else None


def _notifier(request: Request) -> Running[Context]:
    found: Running[Context] = running(request)
    return found
