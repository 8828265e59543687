"""What may become a revision of the policy, when it is in force, and what is known of who was told."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final
from uuid import UUID, uuid5

from services.notifier.domain.deliveries import (
    Accepted,
    Deferred,
    NotTried,
    Refused,
    Settled,
    Suppressed,
    Unknown,
    Unwritable,
)
from services.notifier.domain.people import Language

NOTICE: Final = timedelta(days=30)
"""How long before its day a revision is published, unless a setting says otherwise."""

MOST_BYTES: Final = 50_000
LONGEST_SUMMARY: Final = 1000
LONGEST_REASON: Final = 300

PLANNED_AFTER: Final = timedelta(days=7)
"""For how long after its day those are still looked for who have to be told of a revision.

Whoever's delivery went with an erased tenant may be known by another one.
"""

_CAMPAIGNS: Final = UUID("3f1f0a52-6f0e-5d0c-9a55-6c1d6a1f0b77")


class PolicyRefused(Exception):  # noqa: N818 - reads as the fact it states
    """What was asked of the policy cannot be; says why, in words for the person who asked."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one person wrote, and a second one may publish.

    ``follows`` is the newest revision at that time, 0 where there was none. ``early_because`` says
    why the notice is shorter than usual.
    """

    follows: int
    text: str
    summary: Mapping[Language, str]
    effective_at: datetime
    early_because: str | None
    drafted_by: str

    @property
    def text_hash(self) -> str:
        """SHA-256 of the text's UTF-8, in hexadecimal."""
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Revision:
    """A published revision without its text."""

    number: int
    campaign_id: UUID
    text_hash: str
    summary: Mapping[Language, str]
    published_at: datetime
    effective_at: datetime
    early_because: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Which revision is in force, and which ones are to come."""

    current: Revision | None
    coming: tuple[Revision, ...]


def standing(revisions: Sequence[Revision], now: datetime) -> Standing:
    """Say what is in force: of the revisions whose day has come, the highest number."""
    by_number = sorted(revisions, key=lambda each: each.number)
    started = [each for each in by_number if each.effective_at <= now]
    current = started[-1] if started else None
    after = current.number if current else 0
    return Standing(current, tuple(each for each in by_number if each.number > after))


def campaign_of(number: int) -> UUID:
    """The campaign that tells of a revision: the same one also after a restore."""
    return uuid5(_CAMPAIGNS, str(number))


def plain_text(given: bytes) -> str:
    """Read a text as it will be kept; raises ``PolicyRefused``."""
    if len(given) > MOST_BYTES:
        raise PolicyRefused(f"The text has more than {MOST_BYTES:,} bytes.")
    try:
        text = given.decode("utf-8-sig").replace("\r\n", "\n").strip()
    except UnicodeDecodeError:
        raise PolicyRefused("The text is not UTF-8.") from None
    if not text:
        raise PolicyRefused("There is no text.")
    if not _printable(text.replace("\n", "").replace("\t", "")):
        raise PolicyRefused("The text has characters that nobody can see, such as control codes.")
    return f"{text}\n"


def plain_line(given: str, what: str, *, most: int) -> str:
    """Read what is said on one line; raises ``PolicyRefused``."""
    line = given.strip()
    if not 0 < len(line) <= most or not _printable(line):
        raise PolicyRefused(f"Give {what} on one line of {most} letters at most.")
    return line


def _printable(text: str) -> bool:
    return not any(unicodedata.category(letter).startswith("C") for letter in text)


def start_of(day: date) -> datetime:
    """The moment from which a revision of this day is in force."""
    return datetime.combine(day, time(), UTC)


def require_good_day(
    effective_at: datetime,
    *,
    now: datetime,
    notice: timedelta,
    early_because: str | None,
    last: Revision | None,
) -> None:
    """Raise ``PolicyRefused`` for a day that nobody could keep to or was told of too late."""
    if effective_at < start_of(now.date()):
        raise PolicyRefused("That day is over. A revision takes effect today at the soonest.")
    if last is not None and effective_at < last.effective_at:
        raise PolicyRefused(f"Revision {last.number} takes effect later, on {_day(last)}.")
    if early_because is None and effective_at < now + notice:
        raise PolicyRefused(
            f"People are told {notice.days} days before. Choose a later day, or say with"
            " --early-because why this cannot wait; it is published with the revision."
        )


def require_approval(draft: Draft, approved_by: str, *, last: Revision | None) -> None:
    """Raise ``PolicyRefused`` unless a second person approves what follows the newest revision."""
    if one_name(approved_by) == one_name(draft.drafted_by):
        raise PolicyRefused("Whoever drafted it cannot approve it. A second person has to read it.")
    newest = last.number if last else 0
    if draft.follows != newest:
        raise PolicyRefused(
            f"Revision {newest} was published after this was drafted. Draft it anew."
        )


def one_name(name: str) -> str:
    """The form in which the same person's name is the same."""
    return " ".join(name.split()).casefold()


def _day(revision: Revision) -> str:
    return f"{revision.effective_at:%Y-%m-%d}"


class Proof(StrEnum):
    """What is known of a person having been told of a revision."""

    ACCEPTED = "accepted"
    """A mail server took it and answers for it."""
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    """It was on its way when the connection ended, or our process did."""
    SUPPRESSED = "suppressed"
    """The address must not be written to."""


def proof_of(outcome: Settled) -> Proof | None:
    """Say what an attempt proves; None where it will be tried again."""
    match outcome:
        case Accepted():
            return Proof.ACCEPTED
        case Refused() | Unwritable():
            return Proof.FAILED
        case Unknown():
            return Proof.UNCERTAIN
        case Suppressed():
            return Proof.SUPPRESSED
        case Deferred() | NotTried():
            return None


@dataclass(frozen=True, slots=True)
class Failure:
    """A person who was not told; ``known_as`` is the keyed hash of the address."""

    known_as: bytes
    outcome: Proof
    status_code: int | None
    at: datetime
    suppressed_as: str | None

    @property
    def what_was_done(self) -> str:
        """Say what follows from it."""
        if self.suppressed_as is not None:
            return f"not written to any more: {self.suppressed_as}"
        if self.outcome is Proof.UNCERTAIN:
            return "sent once more where that was possible"
        return "given up, for a person to look at"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Who was told of a revision, as numbers that add up to ``contacts``.

    ``open`` are planned and not settled, ``unplanned`` not even that. ``uninformed`` counts
    tenants of which nobody is known to write to, ``seen_in_app`` those of them that saw the notice.
    """

    contacts: int
    proofs: Mapping[Proof, int]
    open: int
    unplanned: int
    uninformed: int
    seen_in_app: int
    failures: tuple[Failure, ...]
