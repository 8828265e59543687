"""The HTTP edge that every service shares: problem answers, safe headers, limits, figures.

Errors are ``application/problem+json`` of RFC 9457. They never repeat what was sent.
"""

import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import tracing
from chassis.metrics import Metrics

MEDIA_TYPE: Final = "application/problem+json"
log = structlog.get_logger()

_LONGEST_FIELD_NAME = 64
# Their messages repeat the input, or what somebody's validator said of it.
REPEATING_ERRORS: Final = frozenset(
    {
        "assertion_error",
        "bytes_invalid_encoding",
        "date_from_datetime_parsing",
        "date_parsing",
        "datetime_from_date_parsing",
        "datetime_object_invalid",
        "datetime_parsing",
        "get_attribute_error",
        "iteration_error",
        "json_invalid",
        "mapping_type",
        "no_such_attribute",
        "time_delta_parsing",
        "time_parsing",
        "timezone_offset",
        "union_tag_invalid",
        "url_parsing",
        "url_syntax_violation",
        "uuid_parsing",
        "value_error",
    }
)


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """An error answer: raise it in a route, or return its ``response()``.

    ``type`` is a URI that names the kind of problem, ``extensions`` are further
    members of the answer. Nothing in it may be secret or repeat what was sent.
    """

    def __init__(
        self,
        status: int,
        title: str | None = None,
        detail: str | None = None,
        *,
        type: str = "about:blank",  # noqa: A002 - the member's name in RFC 9457
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.title = _phrase(status) if title is None else title
        self.detail = detail
        self.type = type
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})
        super().__init__(f"{status} {self.title}")

    def body(self) -> dict[str, Any]:
        """The members of the answer; extensions cannot replace the standard ones."""
        told = {"type": self.type, "title": self.title, "status": self.status}
        if self.detail is not None:
            told["detail"] = self.detail
        return {**self.extensions, **told}

    def response(self) -> Response:
        """The answer itself."""
        return Response(
            json.dumps(self.body(), ensure_ascii=False),
            status_code=self.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


def answer_with_problems(app: Starlette) -> None:
    """Make every error of a FastAPI or Starlette application a problem answer."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(Exception, _answer_unhandled)


async def _answer_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem.response()


async def _answer_http_exception(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, HTTPException)
    if refused.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        known = (refused.headers or {}).get("Allow", "")
        allowed = _allowed_methods(request) | {each for each in known.split(", ") if each}
        return Problem(405, headers={"allow": ", ".join(sorted(allowed))}).response()
    # Starlette says the status's phrase where a route says nothing.
    phrases = {_phrase(refused.status_code), HTTPStatus(refused.status_code).phrase}
    detail = None if refused.detail in phrases else refused.detail
    return Problem(refused.status_code, detail=detail, headers=refused.headers).response()


def _allowed_methods(request: Request) -> set[str]:
    """Say what may be done at an address, whichever of its routes does it (RFC 9110, 15.5.6)."""
    return {
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }


async def _answer_invalid_request(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, RequestValidationError)
    return Problem(
        400,
        "The request is not valid",
        extensions={"errors": [_told(error) for error in refused.errors()]},
    ).response()


async def _answer_unhandled(_: Request, __: Exception) -> Response:
    # Starlette raises the failure once more behind this answer, and HttpEdge logs it.
    return Problem(500).response()


def _told(error: Mapping[str, Any]) -> dict[str, str]:
    """Where a request is wrong and what was expected there, without what was found."""
    kind, location = str(error["type"]), tuple(error["loc"])
    if kind == "extra_forbidden":
        # Here the last step is not ours but the name that was sent.
        location = location[:-1]
    field = ".".join(str(step)[:_LONGEST_FIELD_NAME] for step in location)
    message = f"is not valid: {kind}" if kind in REPEATING_ERRORS else str(error["msg"])
    return {"field": field, "message": message}


# Python 3.11 and 3.13 do not agree on these; RFC 9110 has the words.
_RENAMED: Final = {413: "Content Too Large", 422: "Unprocessable Content"}


def _phrase(status: int) -> str:
    if status in _RENAMED:
        return _RENAMED[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class BodyLimit:
    """ASGI middleware that takes at most so many bytes of a request's body.

    Addresses in ``larger`` may carry as many as it says. Content-Length is believed when it is too large, and the bytes are counted in
    any case. Whatever the application makes of the interruption, the answer is 413.
    """

    def __init__(
        self, app: ASGIApp, *, most_bytes: int, larger: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; only requests over HTTP have a body to count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most_bytes = self._larger.get(scope["path"], self._most_bytes)
        if _content_length(scope) > most_bytes:
            await _too_large(most_bytes).response()(scope, receive, send)
            return
        exchange = _Counted(most_bytes, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.refused:
                raise
        if exchange.refused:
            await _too_large(most_bytes).response()(scope, receive, send)


class _Counted:
    """One request whose body is counted while the application reads it."""

    __slots__ = ("_left", "_receive", "_send", "_started", "_too_large")

    def __init__(self, most_bytes: int, receive: Receive, send: Send) -> None:
        self._left = most_bytes
        self._receive = receive
        self._send = send
        self._started = self._too_large = False

    @property
    def refused(self) -> bool:
        """Whether the body was too large and nothing has been answered yet."""
        return self._too_large and not self._started

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._too_large = True
                # Frameworks hand this kind on as it is, without an error in the log.
                raise HTTPException(413)
        return message

    async def send(self, message: Message) -> None:
        if not self.refused:
            self._started = True
            await self._send(message)


def _too_large(most_bytes: int) -> Problem:
    return Problem(
        413,
        detail=f"A request may carry at most {most_bytes} bytes.",
        # What is still on its way is not read.
        headers={"connection": "close"},
    )


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class HttpEdge:
    """The outermost ASGI layer of a service: safe headers, figures, trace, last resort.

    Every answer gets ``X-Content-Type-Options: nosniff``, and ``Cache-Control:
    no-store`` where the route does not say otherwise. Those that ``headers_of``
    names for its path go before all others of the name, whoever answers there. A request is one span and one count, by the name of its route. What the application lets out is logged
    once and answered with 500 where nothing has been answered yet.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        *,
        headers_of: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._headers_of = {
            path: [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            for path, headers in (headers_of or {}).items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; only requests over HTTP are counted and traced."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = time.perf_counter()
        answer = _Answer(send, self._headers_of.get(scope["path"], ()))
        with tracing.server_span(scope) as span:
            try:
                await self._app(scope, receive, answer.send)
            except Exception as failure:  # noqa: BLE001 - the last resort of every request
                await _settle(failure, answer, scope, receive)
            finally:
                self._metrics.http_request(
                    tracing.route_name(scope),
                    scope["method"],
                    answer.status,
                    time.perf_counter() - started_at,
                )
                if span.is_recording():
                    span.set_attribute("http.response.status_code", answer.status)


class _Answer:
    """What has been sent of one answer, and the headers it gets on its way out."""

    __slots__ = ("_headers", "_send", "complete", "status")

    # As nginx says it: the caller went away before there was an answer.
    NONE = 499

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.status = self.NONE
        self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            named = {name for name, _ in self._headers}
            others = (each for each in message.get("headers", ()) if each[0].lower() not in named)
            message["headers"] = _with_safe_headers((*others, *self._headers))
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)


def _with_safe_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    safe = list(headers)
    names = {name.lower() for name, _ in safe}
    if b"cache-control" not in names:
        safe.append((b"cache-control", b"no-store"))
    if b"x-content-type-options" not in names:
        safe.append((b"x-content-type-options", b"nosniff"))
    return safe


async def _settle(failure: Exception, answer: _Answer, scope: Scope, receive: Receive) -> None:
    if isinstance(failure, ClientDisconnect):
        return
    log.error("request failed", route=tracing.route_name(scope), exc_info=failure)
    if answer.complete:
        return
    if answer.status != _Answer.NONE:
        # Half an answer is out: only closing the connection tells the caller.
        raise failure
    await Problem(500).response()(scope, receive, answer.send)
