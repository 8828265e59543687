"""The door of staff: sign-on at the identity provider, and whose request one is.

A page asks by the cookie of a session, a program by a bearer token. The cookie's prefix keeps other
hosts and plain connections from setting it (RFC 6265bis, section 4.1.3).
"""

import hmac
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import structlog
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from chassis import audit, tracing
from chassis.pages import STAFF_HEADERS, STAFF_PAGES, STAFF_STATIC, PageFiles, StaffPages, id_in
from chassis.problems import Problem
from chassis.signing import encoded
from chassis.staff import sessions
from chassis.staff.frame import STAFF, Page, frame_page
from chassis.staff.people import ANYBODY, Person
from chassis.staff.provider import Provider, ProviderAway, SignedOn, TokenRefused
from chassis.staff.sessions import Begun

log = structlog.get_logger(__name__)

SIGN_ON: Final = "/sign-on"
CALLBACK: Final = f"{SIGN_ON}/callback"
SIGN_OUT: Final = f"{SIGN_ON}/out"
LOGOUTS: Final = f"{SIGN_ON}/back-channel"
SIGN_ONS_A_MINUTE: Final = 30

# Of this service alone: no scheme, no host, nothing that a browser reads as one.
_OWN_PATH: Final = re.compile(r"/staff(?:/[A-Za-z0-9._~-]+)*(?:\?[A-Za-z0-9._~%&=+-]*)?")
_LONGEST_PATH: Final = 1000
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Said by a provider that may ask nothing and would have to (Core 1.0, section 3.1.2.6).
_WOULD_ASK: Final = frozenset(
    {
        "login_required",
        "interaction_required",
        "consent_required",
        "account_selection_required",
    }
)


@dataclass(frozen=True, slots=True)
class _Cookies:
    session: str
    browser: str


class Door:
    """Lets staff in. Without a ``provider`` it stands on a laptop and lets in whoever is there."""

    def __init__(
        self,
        service: str,
        public_url: str,
        provider: Provider | None,
        *,
        services: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a door; ``services`` are those whose pages are a link away, with their addresses."""
        self.pages: tuple[Page, ...] = ()
        self._service = service
        self._services = services or {}
        self._provider = provider
        self._public_url = public_url.rstrip("/")
        self._cookies = _Cookies(f"__Host-keepword-{service}", f"__Host-keepword-{service}-sign-on")
        self._pages = StaffPages(STAFF_PAGES)
        self._pages.templates.globals.update(service=service)
        self._begun = _Begun(monotonic)

    def router(self) -> APIRouter:
        """Return the routes of signing on and out; none but of style where there is no provider."""
        router = APIRouter(prefix=SIGN_ON, include_in_schema=False)
        PageFiles(STAFF_PAGES, STAFF_STATIC).add_to(router)
        if self._provider is None:
            return router
        router.add_api_route("", self.begin, methods=["GET"])
        router.add_api_route("/callback", self.come_back, methods=["GET"])
        router.add_api_route("/out", self.sign_out, methods=["POST"])
        router.add_api_route("/back-channel", self.hear_logout, methods=["POST"])
        router.add_api_route("/me", self.show_me, methods=["GET"], response_model=None)
        return router

    # -- whose request --------------------------------------------------------------------------

    async def person_of(self, request: Request) -> Person | None:
        """Say whose request it is, None where nobody is signed on.

        Raises ``Problem``: 401 for a bearer token that is refused, 403 where a page of another
        site makes a signed-on browser send something, 503 where nothing can be verified now.
        """
        if self._provider is None:
            return ANYBODY
        if "authorization" in request.headers:
            return await self._bearer(request, self._provider)
        session = request.cookies.get(self._cookies.session)
        if not session:
            return None
        units = request.app.state.running.units
        person = await sessions.person_of(
            units.pool, session, visits=_is_visit(request), wall=units.clock.wall()
        )
        if person is not None and request.method not in _SAFE_METHODS:
            self.require_own_page(request)
        return person

    async def note(self, request: Request, person: Person) -> None:
        """Write down what a person is about to change; where that fails it is not done.

        Of the address ids are kept, and nothing that somebody may have typed.
        """
        if request.method in _SAFE_METHODS or not person.subject:
            return
        told = {name: str(value) for name, value in request.path_params.items()}
        ids = {name: value for name, value in told.items() if id_in(value)}
        act = f"{request.method} {tracing.route_name(request.scope)}"
        await _write_down(request, person, act, about=ids)

    def require_own_page(self, request: Request) -> None:
        """Raise ``Problem`` unless a browser says that a page of ours sends this.

        Browsers send one of the two headers with all that is not merely looked at, and no page can
        change them.
        """
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        parts = urlsplit(self._public_url)
        own = site == "same-origin" if site else origin == f"{parts.scheme}://{parts.netloc}"
        if not own:
            raise Problem(403, detail="This can be sent from its own page alone.")

    def to_sign_on(self, request: Request) -> Response:
        """Lead a browser to the sign-on and back to where it wanted to be.

        What it wanted to change is not done afterwards: it then comes to the first page.
        """
        query = f"?{request.url.query}" if request.url.query else ""
        looks = request.method in _SAFE_METHODS
        wanted = (looks and own_path(f"{request.url.path}{query}")) or STAFF
        return self._lead(f"{self._public_url}{SIGN_ON}?{urlencode({'to': wanted})}")

    async def _bearer(self, request: Request, provider: Provider) -> Person:
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("Bearer")
        try:
            return await provider.bearer(token.strip(), wall=_wall(request))
        except TokenRefused as refused:
            log.warning("bearer token refused", why=str(refused))
            raise _unauthorized('Bearer error="invalid_token"') from None
        except ProviderAway:
            raise _not_now() from None

    # -- signing on -----------------------------------------------------------------------------

    async def begin(self, request: Request, to: str = STAFF) -> Response:
        """Send a browser to the provider; first without being asked anything there."""
        return await self._begin(request, own_path(to) or STAFF, silently=True)

    async def _begin(self, request: Request, to: str, *, silently: bool) -> Response:
        assert self._provider is not None
        if silently and not self._begun.may(request.client.host if request.client else ""):
            return self._say(
                "Too many tries",
                "Somebody at your address has begun to sign on very often. Try again in a minute.",
                status=HTTPStatus.TOO_MANY_REQUESTS,
            )
        browser = request.cookies.get(self._cookies.browser) or secrets.token_urlsafe(32)
        state = secrets.token_urlsafe(32)
        try:
            url = await self._provider.sign_on_url(
                redirect_uri=f"{self._public_url}{CALLBACK}",
                state=state,
                nonce=_derived(browser, state, "nonce"),
                verifier=_derived(browser, state, "verifier"),
                silently=silently,
            )
        except ProviderAway:
            return self._away()
        units = request.app.state.running.units
        await sessions.begin_sign_on(
            units.pool,
            state=state,
            browser=browser,
            begun=Begun(to, silently),
            wall=units.clock.wall(),
        )
        answer = self._lead(url)
        self._set(answer, self._cookies.browser, browser, lasts=sessions.SIGN_ON_LASTS)
        return answer

    async def come_back(
        self, request: Request, state: str = "", code: str = "", error: str = ""
    ) -> Response:
        """Take the provider's answer, and let a session begin under a new name."""
        units = request.app.state.running.units
        browser = request.cookies.get(self._cookies.browser, "")
        begun = await sessions.take_sign_on(
            units.pool, state=state, browser=browser, wall=units.clock.wall()
        )
        if begun is not None and begun.silent and error in _WOULD_ASK:
            return await self._begin(request, begun.return_to, silently=False)
        try:
            signed_on = await self._redeemed(request, begun, browser, state=state, code=code)
        except TokenRefused as refused:
            return self._refused(str(refused))
        except ProviderAway:
            return self._away()
        assert begun is not None
        await _write_down(request, signed_on.person, "sign-on", about={})
        await self._forget(request)
        session = secrets.token_urlsafe(32)
        await sessions.begin(units.pool, session, signed_on, wall=units.clock.wall())
        log.info("signed on", roles=sorted(signed_on.person.roles))
        answer = self._lead(f"{self._public_url}{begun.return_to}")
        self._set(answer, self._cookies.session, session, lasts=sessions.LONGEST)
        return answer

    async def _redeemed(
        self, request: Request, begun: Begun | None, browser: str, *, state: str, code: str
    ) -> SignedOn:
        assert self._provider is not None
        if begun is None:
            raise TokenRefused("no sign-on of this browser waits for that answer")
        if not code:
            raise TokenRefused("the provider did not let the person in")
        signed_on = await self._provider.redeem(
            code,
            verifier=_derived(browser, state, "verifier"),
            redirect_uri=f"{self._public_url}{CALLBACK}",
            nonce=_derived(browser, state, "nonce"),
            wall=_wall(request),
        )
        if not signed_on.person.roles:
            raise TokenRefused("no group of the person gives a role")
        return signed_on

    # -- signing out ----------------------------------------------------------------------------

    async def sign_out(self, request: Request) -> Response:
        """End the session here, and say where the provider's own is ended."""
        assert self._provider is not None
        self.require_own_page(request)
        await self._forget(request)
        try:
            elsewhere = await self._provider.sign_out_url(f"{self._public_url}{STAFF}")
        except ProviderAway:
            elsewhere = None
        answer = self._say(
            "You are signed out",
            "Other services of Keepword, and where you signed on, may still know you.",
            elsewhere=elsewhere,
        )
        answer.delete_cookie(self._cookies.session, secure=True, httponly=True, samesite="lax")
        return answer

    async def hear_logout(self, request: Request) -> Response:
        """End the sessions that the provider names in a logout token."""
        assert self._provider is not None
        form = parse_qs((await request.body()).decode("ascii", "replace"), max_num_fields=10)
        units = request.app.state.running.units
        wall = units.clock.wall()
        try:
            whose = await self._provider.logout(form.get("logout_token", [""])[0], wall=wall)
        except TokenRefused as refused:
            log.warning("logout token refused", why=str(refused))
            raise Problem(400, detail="That is no logout token for this service.") from None
        except ProviderAway:
            raise _not_now() from None
        await sessions.end_all(units.pool, whose)
        log.info("sessions ended by the provider")
        return Response(status_code=HTTPStatus.OK, headers={"cache-control": "no-store"})

    async def show_me(self, request: Request) -> dict[str, Any]:
        """Say who is signed on, and as what."""
        person = await self.person_of(request)
        if person is None:
            raise _unauthorized("Bearer")
        return {"subject": person.subject, "name": person.name, "roles": sorted(person.roles)}

    async def _forget(self, request: Request) -> None:
        if session := request.cookies.get(self._cookies.session):
            await sessions.end(request.app.state.running.units.pool, session)

    # -- answers --------------------------------------------------------------------------------

    def not_allowed(self, person: Person) -> Response:
        """Say that somebody's roles do not open a page."""
        roles = ", ".join(sorted(person.roles))
        return self._say(
            "This is not open to you",
            f"None of your roles may do this. Your roles: {roles}.",
            status=HTTPStatus.FORBIDDEN,
        )

    def frame(self, request: Request, person: Person) -> None:
        """Let the pages that answer this request say whose it is and what else is open to them."""
        frame_page(
            request, person, service=self._service, services=self._services, pages=self.pages
        )

    def start(self, person: Person) -> Response:
        """Show who is signed on and what is open to them."""
        shown = {
            "person": person,
            "roles": ", ".join(sorted(person.roles)),
            "pages": [page for page in self.pages if page.roles & person.roles],
        }
        return self._pages.page("start.html", shown)

    def _refused(self, why: str) -> Response:
        log.warning("sign-on refused", why=why)
        return self._say(
            "You are not signed on",
            f"Not accepted: {why}. Begin again; if it stays so, ask whoever looks after accounts.",
            status=HTTPStatus.FORBIDDEN,
        )

    def _away(self) -> Response:
        return self._say(
            "Nobody can sign on now",
            "Where accounts are kept does not answer. Try again in a minute.",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
        )

    def _say(
        self, title: str, text: str, *, status: int = HTTPStatus.OK, elsewhere: str | None = None
    ) -> Response:
        shown: Mapping[str, Any] = {
            "title": title,
            "text": text,
            "elsewhere": elsewhere,
            "again": f"{self._public_url}{SIGN_ON}",
            "style": f"{self._public_url}{SIGN_ON}/staff.css",
        }
        return Response(
            self._pages.templates.get_template("sign-on.html").render(shown),
            status_code=status,
            headers=STAFF_HEADERS,
            media_type="text/html",
        )

    def _lead(self, url: str) -> Response:
        return RedirectResponse(url, status_code=HTTPStatus.SEE_OTHER, headers=STAFF_HEADERS)

    def _set(self, answer: Response, name: str, value: str, *, lasts: Any) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=int(lasts.total_seconds()),
            path="/",
            secure=True,
            httponly=True,
            samesite="lax",
        )


class _Begun:
    """Counts who begins to sign on within a minute, by address; forgets all with the next minute."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._minute = -1
        self._count: Counter[str] = Counter()

    def may(self, address: str) -> bool:
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            self._minute, self._count = minute, Counter()
        self._count[address] += 1
        return self._count[address] <= SIGN_ONS_A_MINUTE


def own_path(text: str) -> str | None:
    """Return the path of one of this service's pages for staff, None for all else."""
    plain = len(text) <= _LONGEST_PATH and "/." not in text and _OWN_PATH.fullmatch(text)
    return text if plain else None


async def _write_down(
    request: Request, person: Person, act: str, *, about: Mapping[str, str]
) -> None:
    units = request.app.state.running.units
    async with units.pool.acquire() as connection, connection.transaction():
        await audit.append(
            connection, subject=person.subject, act=act, about=about, wall=units.clock.wall()
        )


def _is_visit(request: Request) -> bool:
    """Whether a person does something, and not a page that keeps itself fresh."""
    by_script = request.headers.get("sec-fetch-dest") == "empty"
    return request.method not in _SAFE_METHODS or not by_script


def _derived(browser: str, state: str, purpose: str) -> str:
    """Make what only this browser's sign-on can know, so that no secret of it is stored here."""
    told = hmac.digest(browser.encode(), f"{purpose} {state}".encode(), "sha256")
    return encoded(told)


def _wall(request: Request) -> Any:
    return request.app.state.running.units.clock.wall()


def _unauthorized(challenge: str) -> Problem:
    return Problem(
        401,
        detail="Sign on first: this is for members of staff.",
        headers={"www-authenticate": challenge},
    )


def _not_now() -> Problem:
    return Problem(
        503,
        detail="Nobody's sign-on can be verified now. Try again.",
        headers={"retry-after": "5"},
    )
