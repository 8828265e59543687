"""Atlassian's calls: four lifecycle hooks and the descriptor, for each of the vendor's apps.

Plain Starlette routes: what is to be checked, and in which order, is Atlassian's protocol, and an
install should cost little more than its signature and its transaction.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from chassis.database import TRANSIENT_ERRORS
from chassis.problems import Problem
from chassis.service import running
from connect.calls import Refused
from connect.descriptor import CONTENT_TYPE
from connect.hosts import AllowedHosts
from connect.lifecycle import (
    MAX_BODY_BYTES,
    Installed,
    InvalidBody,
    LifecycleBody,
    Uninstalled,
    read_body,
)
from connect.signed_install import SignedInstalls
from services.installer.domain.tenants import Installation
from services.installer.door import Overtaken, hear_installed, hear_uninstalled
from services.installer.settings import path_of

Body = TypeVar("Body", bound=LifecycleBody)

# The connection stays open: to close it on a caller who still sends would cost him the answer.
_TOO_LARGE: Final = Problem(413, detail=f"A lifecycle body has at most {MAX_BODY_BYTES} bytes.")
_TRY_AGAIN: Final = Problem(
    503, detail="This call could not be stored just now. Try again.", headers={"retry-after": "5"}
)
_NOT_NOW: Final[tuple[type[BaseException], ...]] = (Overtaken, *TRANSIENT_ERRORS)
_LONGEST_LENGTH: Final = 9
"""Digits of a Content-Length that need to be read to know that it is too large."""


@dataclass(frozen=True, slots=True)
class AppDoor:
    """One app as it is called from outside."""

    gate: SignedInstalls
    descriptor: bytes


def lifecycle_router(apps: Mapping[str, AppDoor], hosts: AllowedHosts) -> APIRouter:
    """Return the routes by which Atlassian installs and uninstalls these apps."""
    calls = _Calls(apps, hosts)
    base = path_of("{addon_key}")
    router = APIRouter()
    router.add_route(f"{base}/lifecycle/installed", calls.installed, methods=["POST"])
    router.add_route(f"{base}/lifecycle/uninstalled", calls.uninstalled, methods=["POST"])
    router.add_route(f"{base}/lifecycle/enabled", calls.ignored, methods=["POST"])
    router.add_route(f"{base}/lifecycle/disabled", calls.ignored, methods=["POST"])
    router.add_route(f"{base}/atlassian-connect.json", calls.descriptor, methods=["GET"])
    return router


class _Calls:
    """The calls, for all apps."""

    def __init__(self, apps: Mapping[str, AppDoor], hosts: AllowedHosts) -> None:
        self._apps = apps
        self._hosts = hosts

    async def installed(self, request: Request) -> Response:
        """Store what the site says of itself; 204 once that is durable."""
        body = await self._signed(request, Installed)
        reported = Installation(
            addon_key=body.key,
            product_type=body.product_type,
            client_key=body.client_key,
            base_url=body.base_url,
            service_entitlement_number=body.service_entitlement_number,
            shared_secret=body.shared_secret.get_secret_value(),
            oauth_client_id=body.oauth_client_id,
        )
        await _durably(lambda: hear_installed(running(request).units, reported))
        return Response(status_code=204)

    async def uninstalled(self, request: Request) -> Response:
        """Note that the site removed the app; 204 also where nothing is known of it."""
        body = await self._signed(request, Uninstalled)
        await _durably(lambda: hear_uninstalled(running(request).units, body.key, body.client_key))
        return Response(status_code=204)

    async def ignored(self, request: Request) -> Response:
        """Take note of nothing: whether an app is enabled changes no promise.

        These calls can come late, out of order and without a token (Atlassian's
        AC-2561), so the answer is the same whatever they carry.
        """
        self._app(request)
        return Response(status_code=204)

    async def descriptor(self, request: Request) -> Response:
        """Serve the app's descriptor, the same bytes for as long as the app is the same."""
        return Response(
            self._app(request).descriptor,
            headers={"content-type": CONTENT_TYPE, "cache-control": "public, max-age=300"},
        )

    def _app(self, request: Request) -> AppDoor:
        app = self._apps.get(request.path_params["addon_key"])
        if app is None:
            raise Problem(404, detail="There is no such app here.")
        return app

    async def _signed(self, request: Request, model: type[Body]) -> Body:
        """Read a call that Atlassian signed, the signature before the body.

        Raises ``Problem``, which repeats nothing of what was sent.
        """
        app = self._app(request)
        addon_key: str = request.path_params["addon_key"]
        scope = request.scope
        _refuse_large(request)
        try:
            call = await app.gate.verify(
                method=scope["method"],
                raw_path=scope["raw_path"],
                raw_query=scope["query_string"],
                authorization=[
                    value.decode("latin-1")
                    for name, value in scope["headers"]
                    if name == b"authorization"
                ],
                base_path=path_of(addon_key),
            )
            body = read_body(model, await _body(request), self._hosts)
            app.gate.check_body(call, body)
        except Refused as refused:
            raise Problem(
                refused.status, detail=str(refused), headers=refused.headers(addon_key)
            ) from None
        except InvalidBody as invalid:
            raise Problem(
                400,
                detail="The body is not that of this lifecycle call.",
                extensions={
                    "errors": [
                        {"field": name, "message": f"is not valid: {kind}"}
                        for name, kind in invalid.faults
                    ]
                },
            ) from None
        return body


async def _durably(story: Callable[[], Awaitable[None]]) -> None:
    try:
        await story()
    except _NOT_NOW:
        raise _TRY_AGAIN from None


def _refuse_large(request: Request) -> None:
    declared = request.headers.get("content-length", "0")
    if len(declared) > _LONGEST_LENGTH or (declared.isdecimal() and int(declared) > MAX_BODY_BYTES):
        raise _TOO_LARGE


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _TOO_LARGE
    return bytes(body)
