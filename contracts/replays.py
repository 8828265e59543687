"""How a message is marked that is said again to one service alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from uuid import UUID

from contracts.envelope import Headers
from contracts.messages import Kind

REPLAYED: Final = frozenset({Kind.EVENT, Kind.COMMAND})
"""What is replayed; state is restated instead, and a log is read whole by whoever reads it."""

REPLAY_HEADER: Final = "ce_replayid"
FORCED_HEADER: Final = "ce_replayforced"


@dataclass(frozen=True, slots=True)
class Mark:
    """Of which replay a record is, and whether it is to be handled although it was."""

    replay_id: UUID
    forced: bool = False


def marked(headers: Headers, mark: Mark) -> Headers:
    """Give a message's headers with a mark; its id stays, by which the inbox knows it."""
    given = [(name, value) for name, value in headers if name not in _OURS]
    given.append((REPLAY_HEADER, str(mark.replay_id).encode()))
    if mark.forced:
        given.append((FORCED_HEADER, b"true"))
    return given


def mark_of(headers: Sequence[tuple[str, bytes | None]]) -> Mark | None:
    """Read the mark of a record; None where it has none that can be read."""
    replay_id = forced = None
    # Marks stand last, so a look or two from the end finds them: this runs once for each record.
    for name, value in reversed(headers):
        if name == REPLAY_HEADER:
            replay_id = value
            break
        if name == FORCED_HEADER:
            forced = value
    return _mark(replay_id, forced)


@lru_cache(maxsize=16)
def _mark(replay_id: bytes | None, forced: bytes | None) -> Mark | None:
    # Of the many records of a replay each has the same.
    try:
        return Mark(UUID((replay_id or b"").decode("ascii")), forced == b"true")
    except ValueError:
        return None


_OURS: Final = frozenset({REPLAY_HEADER, FORCED_HEADER})
