"""Says whether this process lives, whether it may be given work, and its figures."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from chassis.logs import redacted_text
from chassis.metrics import CONTENT_TYPE, Metrics

PATIENCE_SECONDS: Final = 2.0

Check = Callable[[], "str | Awaitable[str | None] | None"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; the reason is empty when it is well.

    A mere warning takes no work away from the process.
    """

    name: str
    well: bool
    reason: str = ""
    warning: bool = False


class Health:
    """The named checks of a process.

    A check returns nothing when all is well and a reason when not; an exception
    counts as a reason too, by its type alone. A check may be asynchronous and has
    two seconds; a synchronous one must not block.
    """

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._liveness: dict[str, Check] = {}
        self._readiness: dict[str, Check] = {}
        self._only_warn: set[str] = set()

    def add_liveness(self, name: str, check: Check) -> None:
        """Restart this process when the check fails: only for what a restart mends."""
        _add(self._liveness, name, check)

    def add_readiness(self, name: str, check: Check) -> None:
        """Give this process no work while the check fails."""
        _add(self._readiness, name, check)

    def add_warning(self, name: str, check: Check) -> None:
        """Show a person beside the readiness what is wrong; this process works on all the same."""
        _add(self._readiness, name, check)
        self._only_warn.add(name)

    async def alive(self) -> list[Finding]:
        """Run the liveness checks, all at once."""
        return await self._run(self._liveness)

    async def ready(self) -> list[Finding]:
        """Run the readiness checks and those that only warn, all at once."""
        found = await self._run(self._readiness)
        return [replace(each, warning=each.name in self._only_warn) for each in found]

    async def _run(self, checks: Mapping[str, Check]) -> list[Finding]:
        return list(
            await asyncio.gather(*(self._find(name, check) for name, check in checks.items()))
        )

    async def _find(self, name: str, check: Check) -> Finding:
        try:
            reason = await self._asked(check)
        except TimeoutError:
            return Finding(name, well=False, reason="no answer in time")
        except Exception as failure:  # noqa: BLE001 - whatever a check raises is its answer
            # The message may name hosts and roles.
            return Finding(name, well=False, reason=type(failure).__name__)
        return Finding(name, well=reason is None, reason=redacted_text(reason or ""))

    async def _asked(self, check: Check) -> str | None:
        answer = check()
        if not inspect.isawaitable(answer):
            return answer
        asking = asyncio.ensure_future(answer)
        try:
            done, _ = await asyncio.wait({asking}, timeout=self._patience_seconds)
        finally:
            # Not awaited: a check that ignores its cancellation must not hold the probe.
            asking.cancel()
        if not done:
            raise TimeoutError
        return asking.result()


def routes(health: Health, metrics: Metrics) -> list[BaseRoute]:
    """``/livez``, ``/readyz`` (200 or 503, each check with its state) and ``/metrics``.

    What only warns has the state ``warning``, and the answer stays 200.
    """

    async def livez(_: Request) -> Response:
        return _answer(await health.alive())

    async def readyz(_: Request) -> Response:
        return _answer(await health.ready())

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    return [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", exposition, methods=["GET"]),
    ]


def _add(checks: dict[str, Check], name: str, check: Check) -> None:
    if name in checks:
        raise ValueError(f"there is a check named {name!r} already")
    checks[name] = check


def _answer(findings: list[Finding]) -> JSONResponse:
    well = all(finding.well or finding.warning for finding in findings)
    checks = {
        finding.name: {"state": "ok"}
        if finding.well
        else {"state": "warning" if finding.warning else "failing", "reason": finding.reason}
        for finding in findings
    }
    return JSONResponse(
        {"state": "ok" if well else "failing", "checks": checks}, status_code=200 if well else 503
    )
