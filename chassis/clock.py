"""The clock every service reads: business time can be moved, wall time cannot."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog

LOOK_EVERY_SECONDS = 0.05


class Clock(Protocol):
    """Tells the time; nothing else in the code asks the machine or the database for it."""

    def now(self) -> datetime:
        """Business time, in UTC: what deadlines, plans and states are reckoned by."""

    def wall(self) -> datetime:
        """Wall time, in UTC: what record timestamps and intervals of jobs are reckoned by."""


class SystemClock:
    """Business time is wall time."""

    def now(self) -> datetime:
        """The machine's time."""
        return datetime.now(UTC)

    def wall(self) -> datetime:
        """The machine's time."""
        return datetime.now(UTC)


class OffsetClock:
    """Business time is wall time plus the seconds that a small file holds.

    Several processes share one file, so that a laptop's whole stack can be moved
    to next spring. A missing or empty file means no offset. The file is looked at
    every 50 ms at most and read only when it changed; write it by renaming. What
    is not a number is logged and the last offset stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = timedelta()
        self._seen: tuple[int, int, int] | None = None
        self._look_again_at = 0.0

    def now(self) -> datetime:
        """Wall time plus the offset."""
        return datetime.now(UTC) + self.offset

    def wall(self) -> datetime:
        """The machine's time."""
        return datetime.now(UTC)

    @property
    def offset(self) -> timedelta:
        """By how much business time is ahead of wall time."""
        if time.monotonic() >= self._look_again_at:
            self._look()
        return self._offset

    def _look(self) -> None:
        self._look_again_at = time.monotonic() + LOOK_EVERY_SECONDS
        try:
            found = self._path.stat()
            identity = (found.st_ino, found.st_mtime_ns, found.st_size)
            if identity == self._seen:
                return
            text = self._path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            self._seen, self._offset = None, timedelta()
            return
        self._seen = identity
        try:
            self._offset = timedelta(seconds=float(text or "0"))
        except (ValueError, OverflowError):
            structlog.get_logger().warning("clock offset file holds no number, offset kept")


class ManualClock:
    """A clock that stands still until a test moves it; wall time moves with it."""

    def __init__(self, start: datetime) -> None:
        self._now = _in_utc(start)

    def now(self) -> datetime:
        """The time last set."""
        return self._now

    def wall(self) -> datetime:
        """The time last set."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the clock, backwards as well where ``by`` is negative."""
        self._now += by

    def set(self, to: datetime) -> None:
        """Put the clock at a moment."""
        self._now = _in_utc(to)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a clock needs a moment with a time zone")
    return moment.astimezone(UTC)
