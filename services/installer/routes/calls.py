"""What the routes of Atlassian's calls share: reading a body, refusing, counting, storing."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from starlette.requests import Request

from chassis.database import TRANSIENT_ERRORS
from chassis.problems import Problem
from chassis.service import running
from connect.calls import Refused
from connect.lifecycle import MAX_BODY_BYTES, InvalidBody
from services.installer.door import Overtaken

T = TypeVar("T")

NO_TOKEN: Final = "no-token"  # noqa: S105 - a reason
_NOT_NOW: Final[tuple[type[BaseException], ...]] = (Overtaken, *TRANSIENT_ERRORS)
_LONGEST_LENGTH: Final = 9
"""Digits of a Content-Length that need to be read to know that it is too large."""


class TurnedAway(Problem):
    """A call that brings nothing about; ``reason`` is a word of a closed list, for the figures."""

    def __init__(
        self,
        reason: str,
        status: int,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        extensions = {} if errors is None else {"errors": errors}
        super().__init__(status, detail=detail, headers=headers, extensions=extensions)
        self.reason = reason


def unknown_app() -> TurnedAway:
    """Make the answer to a call for an app that is none of ours."""
    return TurnedAway("unknown-app", 404, "There is no such app here.")


def too_large() -> TurnedAway:
    """Make the answer to a body over the limit.

    The connection stays open: to close it on a caller who still sends would
    cost him the answer.
    """
    return TurnedAway("too-large", 413, f"A lifecycle body has at most {MAX_BODY_BYTES} bytes.")


def _reason_of(refused: Refused) -> str:
    """Give the word under which a refusal is counted: what was wrong with the token, if it was."""
    if refused.reason is None:
        return refused.refusal.slug
    return refused.reason.value.replace(" ", "-")


@contextmanager
def refusing(realm: str, scheme: str = "JWT") -> Iterator[None]:
    """Turn what a gate or a body's model refuses into an answer that repeats nothing of it."""
    try:
        yield
    except Refused as refused:
        raise TurnedAway(
            _reason_of(refused),
            refused.status,
            str(refused),
            headers=refused.headers(realm, scheme),
        ) from None
    except InvalidBody as invalid:
        raise TurnedAway(
            "invalid-body",
            400,
            "The body is not that of this call.",
            errors=[
                {"field": name, "message": f"is not valid: {kind}"} for name, kind in invalid.faults
            ],
        ) from None


@contextmanager
def counting(request: Request, route: str) -> Iterator[None]:
    """Count a call that is turned away, under the name of its route."""
    try:
        yield
    except TurnedAway as away:
        figures = running(request).context.figures
        figures.calls_refused_total.labels(route, away.reason).inc()
        raise


def authorization_of(request: Request) -> list[str]:
    """Give every value of the header by which a call is signed."""
    return [
        value.decode("latin-1")
        for name, value in request.scope["headers"]
        if name == b"authorization"
    ]


def refuse_large(request: Request) -> None:
    """Refuse a body by the length that it declares, before anything else is looked at."""
    declared = request.headers.get("content-length", "0")
    if len(declared) > _LONGEST_LENGTH or (declared.isdecimal() and int(declared) > MAX_BODY_BYTES):
        raise too_large()


async def body_of(request: Request) -> bytes:
    """Read a body up to the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large()
    return bytes(body)


async def durably(story: Callable[[], Awaitable[T]]) -> T:
    """Have something stored, or answer that the same call may come again."""
    try:
        return await story()
    except _NOT_NOW:
        raise TurnedAway(
            "not-stored",
            503,
            "This call could not be stored just now. Try again.",
            headers={"retry-after": "5"},
        ) from None
