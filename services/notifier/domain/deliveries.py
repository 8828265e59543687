"""When a message is tried again, what became of it, and by what it is known."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.notifier.domain.campaigns import Kind

PATIENCE: Final = timedelta(hours=72)
"""How long, in business time, a receipt or a move may delay the erasure of those concerned."""

FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=4)

MOST_DOUBTS: Final = 2
"""What is owed and whose fate is unknown is sent once more; when that is unknown too, it is left
at it. News is never sent again: it has this many doubts from the first one on."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The mail server took the message and answers for it."""

    status_code: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server did not take it and may later; None where it could not be asked at all.

    ``enhanced`` is the code of RFC 3463, such as 4.7.1, where the server gave one.
    """

    status_code: int | None
    enhanced: str | None = None

    @property
    def by_the_domain(self) -> bool:
        """Whether it is the recipient's server that is busy or throttles, and not one mailbox.

        Everything else for that domain waits too, and nothing for others.
        """
        return self.status_code == _GOING_AWAY or (self.enhanced or "").startswith(_BUSY)


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will never take it; ``enhanced`` is its code of RFC 3463, where it gave one."""

    status_code: int
    enhanced: str | None = None

    @property
    def nobody_is_there(self) -> bool:
        """Whether no message can reach the address any more, whatever it says and whoever sends.

        A refusal of what we are or say (5.7.x) is not the recipient's fault, and the two codes
        about a sender's address are not about theirs.
        """
        return is_a_dead_mailbox(self.enhanced)


@dataclass(frozen=True, slots=True)
class Unknown:
    """The message was on its way when the connection ended: it may have been taken."""


@dataclass(frozen=True, slots=True)
class NotTried:
    """It was claimed, and then not handed over; tried again ``at`` a time, as if never claimed.

    ``has_slot`` says that this time is its turn among the messages to its domain.
    """

    at: datetime
    has_slot: bool = False


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The address must not be written to."""


@dataclass(frozen=True, slots=True)
class Unwritable:
    """The contact is gone, or cannot be read, or what is said is not known any more."""


Outcome = Accepted | Deferred | Refused | Unknown
Settled = Outcome | NotTried | Suppressed | Unwritable

_GOING_AWAY: Final = 421
_BUSY: Final = ("4.3.", "4.4.", "4.7.")
_DEAD_MAILBOX: Final = ("5.1.", "5.2.1")
_ABOUT_THE_SENDER: Final = frozenset({"5.1.7", "5.1.8"})


def is_a_dead_mailbox(enhanced: str | None) -> bool:
    """Whether a code of RFC 3463 says for good that nobody reads what is sent to an address."""
    if enhanced is None or enhanced in _ABOUT_THE_SENDER:
        return False
    return enhanced.startswith(_DEAD_MAILBOX[0]) or enhanced == _DEAD_MAILBOX[1]


def doubts_after(kind: Kind) -> int:
    """How many doubts one attempt of unknown fate adds: news is left at the first."""
    return MOST_DOUBTS if kind.optional else 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast mail goes out: of all connections together, and to one domain.

    ``chunk`` messages are in flight on each connection, so that many may be uncertain after a
    crash. A domain gets ``domain_per_second`` messages, after ``DOMAIN_BURST`` of idleness that
    much at once, and never more than ``domain_connections`` at the same time.
    """

    connections: int = 4
    chunk: int = 25
    domain_per_second: float = 20.0
    domain_connections: int = 2


DOMAIN_BURST: Final = timedelta(seconds=5)
DOMAIN_PAUSE: Final = timedelta(minutes=1)
"""How long a domain is left alone whose server says that it is busy."""


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
