"""When a message is tried again, what became of it, and by what it is known."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

PATIENCE: Final = timedelta(hours=72)
"""How long, in business time, a receipt or a move may delay the erasure of those concerned."""

FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=4)

MOST_DOUBTS: Final = 2
"""A receipt whose fate is unknown is sent once more; when that is unknown too, it is left at it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The mail server took the message and answers for it."""

    status_code: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server did not take it and may later; None where it could not be asked at all."""

    status_code: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will never take it."""

    status_code: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """The message was on its way when the connection ended: it may have been taken."""


Outcome = Accepted | Deferred | Refused | Unknown


def pause_after(attempts: int, *, first: timedelta = FIRST_PAUSE) -> timedelta:
    """How long to wait after so many attempts: a minute, doubled each time, never over 4 hours."""
    doubled: timedelta = first * 2 ** min(attempts - 1, 16)
    return min(doubled, LONGEST_PAUSE)


def message_id(
    keyed_hash: Callable[[str, bytes], bytes], campaign_id: UUID, address_index: bytes, domain: str
) -> str:
    """The Message-ID of what a campaign says to an address, the same whenever it is sent.

    So a mailbox may fold a message that had to be sent twice, and a server's
    log can be asked. Who lacks the key learns nothing from it.
    """
    told = keyed_hash("message-id", campaign_id.bytes + address_index)
    return f"<{told.hex()[:40]}@{domain}>"
