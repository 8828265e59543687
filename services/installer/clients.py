"""Customers' sites, asked no faster and no more often than they bear."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from connect.hosts import is_private_enough, parse_base_url
from connect.product import Access, ProductClient, Throttled, Unclear, Unknown

_MOST_PAUSES: Final = 1_000


class Sites:
    """Asks sites, ``per_second`` at most, and none that has just asked for a pause."""

    def __init__(
        self,
        product: ProductClient,
        *,
        per_second: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._product = product
        self._pace = _Pace(per_second, monotonic)
        self._pauses = _Pauses(monotonic)

    async def licence(self, base_url: str, addon_key: str, secret: str) -> Access:
        """Ask a site for the app and its licence; during a pause it is not asked at all.

        A site that could not be asked in private says nothing about access.
        """
        site = parse_base_url(base_url)
        if site is None or not is_private_enough(site):
            return Unclear(Unknown.NO_CONNECTION)
        left = self._pauses.left(site.authority)
        if left:
            return Throttled(left)
        await self._pace.turn()
        answer = await self._product.licence(base_url, addon_key, secret)
        if isinstance(answer, Throttled):
            self._pauses.begin(site.authority, answer.retry_after)
        return answer

    async def cloud_id(self, base_url: str) -> str | None:
        """Ask a site that has just answered for its cloud id; None where it does not say."""
        await self._pace.turn()
        answer = await self._product.cloud_id(base_url)
        return answer if isinstance(answer, str) else None


class _Pace:
    """Gives turns, so many a second and no more."""

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._seconds = 1 / per_second
        self._monotonic = monotonic
        self._next_at = monotonic()

    async def turn(self) -> None:
        now = self._monotonic()
        at = max(self._next_at, now)
        self._next_at = at + self._seconds
        if at > now:
            await asyncio.sleep(at - now)


class _Pauses:
    """Which hosts asked for a pause; of too many the oldest is forgotten, and asked once more."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: dict[str, float] = {}

    def left(self, host: str) -> timedelta:
        until = self._until.get(host, 0.0)
        return timedelta(seconds=max(0.0, until - self._monotonic()))

    def begin(self, host: str, pause: timedelta) -> None:
        self._until.pop(host, None)
        if len(self._until) >= _MOST_PAUSES:
            del self._until[next(iter(self._until))]
        self._until[host] = self._monotonic() + pause.total_seconds()
