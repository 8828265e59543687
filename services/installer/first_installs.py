"""Writes first installs that come at the same time together: one statement, one commit."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import structlog

from chassis.database import TRANSIENT_ERRORS
from chassis.unit_of_work import Units
from services.installer.store import tenants as store
from services.installer.store.tenants import FirstInstall

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    first: FirstInstall
    stored: asyncio.Future[bool]

    def settle(self, added: bool) -> None:
        if not self.stored.done():  # its request may have been given up
            self.stored.set_result(added)

    def fail(self, failure: BaseException) -> None:
        if not self.stored.done():
            self.stored.set_exception(failure)


class FirstInstalls:
    """Gathers the first installs that come while others are being written.

    A call that comes alone is written alone and at once. ``most_at_once``
    bounds the statements under way, so that calls gather while they run.
    """

    def __init__(self, *, most_at_once: int = 2, most_together: int = 64) -> None:
        self._most_at_once = most_at_once
        self._most_together = most_together
        self._waiting: deque[_Waiting] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    async def add(self, units: Units[Any], first: FirstInstall) -> bool:
        """Store a first install; False where `store.add_tenants` left it out.

        Raises one of ``TRANSIENT_ERRORS`` where the database is away or busy.
        """
        waiting = _Waiting(first, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._writers) < self._most_at_once:
            writer = asyncio.create_task(self._write(units))
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await waiting.stored

    async def _write(self, units: Units[Any]) -> None:
        while self._waiting:
            together = [
                self._waiting.popleft() for _ in range(min(len(self._waiting), self._most_together))
            ]
            try:
                added = await store.add_tenants(
                    units.pool, [each.first for each in together], wall=units.clock.wall()
                )
            except TRANSIENT_ERRORS as failure:
                for each in together:
                    each.fail(failure)
                continue
            except Exception as failure:  # noqa: BLE001 - on the long way each shows its own fault
                log.warning("first installs go one by one", error=type(failure).__name__)
                added = set()
            units.wake_relay()
            for each in together:
                each.settle(each.first.state.tenant_id in added)
