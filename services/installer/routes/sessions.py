"""Session tokens for apps' pages, and the public keys by which other services check them."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chassis.problems import Problem
from chassis.service import running
from chassis.signing import JWKS_PATH
from services.installer.callers import Caller
from services.installer.domain.visits import Refusal
from services.installer.routes.calls import authorization_of
from services.installer.sessions import LIFETIME, SessionSigner
from services.installer.settings import path_of
from services.installer.visitors import NoSession, admit

_REFUSED: Final = {
    Refusal.UNPROVEN: (401, "A token of a site that has installed the app is needed."),
    Refusal.LEFT: (403, "The app is not installed."),
    Refusal.KEPT_ELSEWHERE: (403, "This kind of app keeps its content in the customer's product."),
    Refusal.GONE: (410, "What this tenant kept here is being erased, or is erased."),
    Refusal.NOT_NOW: (503, "This cannot be answered just now. Try again."),
}


def sessions_router(app_keys: Collection[str], signer: SessionSigner) -> APIRouter:
    """Return the routes of session tokens and of the key set (RFC 7517)."""

    async def make_token(request: Request) -> Response:
        """Give the app's own page, which shows Atlassian's context token, a session token."""
        addon_key: str = request.path_params["addon_key"]
        if addon_key not in app_keys:
            raise Problem(404, detail="There is no such app here.")
        this = running(request)
        authorization = authorization_of(request)
        try:
            caller = await admit(
                this.units,
                addon_key,
                lambda gate: gate.verify_context(authorization=authorization),
            )
        except NoSession as none:
            raise turn_away(request, "session-tokens", addon_key, none.refusal) from None
        session = session_for(signer, caller, wall=this.units.clock.wall())
        return JSONResponse(session, status_code=201)

    router = APIRouter()
    router.add_route(f"{path_of('{addon_key}')}/session-tokens", make_token, methods=["POST"])
    router.add_route(JWKS_PATH, signer.publish, methods=["GET"])
    return router


def session_for(
    signer: SessionSigner, caller: Caller, *, wall: datetime, administers: bool = False
) -> dict[str, Any]:
    """Make what the page's script keeps.

    An administrator's is not renewed as one: a context token does not say on which page it was
    made, and who administers today may not tomorrow.
    """
    return {
        "token": signer.token_for(caller.tenant_id, wall=wall, administers=administers),
        "expires_in_seconds": int(LIFETIME.total_seconds()),
    }


def turn_away(request: Request, route: str, addon_key: str, refusal: Refusal) -> Problem:
    """Count somebody who gets no session, and give the answer.

    Its ``reason`` tells the page's script which advice to show.
    """
    figures = running(request).context.figures
    figures.calls_refused_total.labels(route, refusal.value).inc()
    status, detail = _REFUSED[refusal]
    headers = {
        Refusal.UNPROVEN: {"www-authenticate": f'JWT realm="{addon_key}"'},
        Refusal.NOT_NOW: {"retry-after": "5"},
    }.get(refusal)
    return Problem(status, detail=detail, headers=headers, extensions={"reason": refusal.value})
