"""News of products: what it says to whom, what is wrong with it, and who may do what with it when."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from services.notifier.domain.campaigns import OPTIONAL, CampaignState, Kind
from services.notifier.domain.people import Language
from services.notifier.domain.policies import PolicyRefused, one_name, plain_line, plain_text
from services.notifier.domain.policy_text import addresses

LONGEST_SUBJECT: Final = 150
LONGEST_NAME: Final = 100
LONGEST_SEGMENT: Final = 200
MOST_TEXT_BYTES: Final = 20_000
FURTHEST: Final = timedelta(days=366)
"""How far ahead news may be scheduled."""

KEPT: Final = timedelta(days=400)
"""How long news is kept after its last change, with the names of the staff at it."""

_GOOD_SUBJECT: Final = 60
# What a large mail service shows of a message before it cuts it off.
_MOST_LETTER_BYTES: Final = 102 * 1024


class NewsRefused(Exception):  # noqa: N818 - reads as the fact it states
    """What was asked of news cannot be; says why, in words for the person who asked."""


class Overtaken(NewsRefused):
    """Somebody else changed it since the person who asks has read it."""


@dataclass(frozen=True, slots=True)
class Words:
    """A subject on one line, and a text in Markdown."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Whose people are told: those of tenants of which all that is given is true."""

    addon_key: str | None = None
    product: str | None = None
    edition: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What is said to whom; ``words`` has English, and German where it was translated."""

    campaign_id: UUID
    kind: Kind
    words: Mapping[Language, Words]
    segment: Segment

    def language_for(self, wished: Language) -> Language:
        """In which language somebody is told: English where there is no translation."""
        return wished if wished in self.words else Language.ENGLISH


class Stage(StrEnum):
    """How far news has come."""

    DRAFT = "draft"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"


EDITABLE: Final = frozenset({Stage.DRAFT, Stage.APPROVED, Stage.SCHEDULED})


class Act(StrEnum):
    """What a person did."""

    WRITTEN = "written"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPED = "stopped"


def stage_of(stage: Stage, campaign: CampaignState | None, *, planned: bool) -> Stage:
    """Say how far news has come by its own stage and that of the campaign that sends it.

    ``planned`` says whether its recipients are; a scheduled one may be paused before.
    """
    if campaign is None or (campaign in (CampaignState.WAITING, CampaignState.SENDING)):
        return Stage.SENDING if planned else stage
    return Stage(campaign.value)


def written(
    campaign_id: UUID, kind: str, words: Mapping[Language, tuple[str, str]], segment: Segment
) -> News:
    """Read what a person wrote, as subject and text by language; raises ``NewsRefused``.

    German may be left empty as a whole.
    """
    if kind not in OPTIONAL:
        raise NewsRefused("News is of one of two kinds. Choose one.")
    subject, text = words[Language.GERMAN]
    translated = bool(subject.strip() or text.strip())
    languages = [Language.ENGLISH, Language.GERMAN] if translated else [Language.ENGLISH]
    return News(
        campaign_id,
        Kind(kind),
        {language: _words(language, *words[language]) for language in languages},
        segment,
    )


_IN: Final[Mapping[Language, str]] = {Language.ENGLISH: "English", Language.GERMAN: "German"}


def _words(language: Language, subject: str, text: str) -> Words:
    told = text.encode("utf-8", "surrogatepass")
    if len(told) > MOST_TEXT_BYTES:
        raise NewsRefused(f"The {_IN[language]} text has more than {MOST_TEXT_BYTES:,} bytes.")
    try:
        return Words(
            plain_line(subject, f"the {_IN[language]} subject", most=LONGEST_SUBJECT),
            plain_text(told),
        )
    except PolicyRefused as refused:
        raise NewsRefused(f"{_IN[language]}: {refused}") from None


def name_of(given: str) -> str:
    """Read who acts; raises ``NewsRefused``."""
    try:
        return " ".join(plain_line(given, "your name", most=LONGEST_NAME).split())
    except PolicyRefused as refused:
        raise NewsRefused(str(refused)) from None


def require_second_person(authors: Collection[str], approved_by: str) -> None:
    """Raise ``NewsRefused`` for a person who wrote any of it."""
    if one_name(approved_by) in {one_name(author) for author in authors}:
        raise NewsRefused("Whoever wrote it cannot approve it. A second person has to read it.")


def require_good_time(send_at: datetime, *, now: datetime) -> None:
    """Raise ``NewsRefused`` for a time that is over or too far ahead."""
    if send_at < now:
        raise NewsRefused("That time is over. Choose one to come.")
    if send_at > now + FURTHEST:
        raise NewsRefused("That is more than a year ahead. Choose a sooner time.")


# -- the check list ---------------------------------------------------------------------------------


class Verdict(StrEnum):
    """What a check found."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    """A person may send it all the same."""
    BAD = "bad"
    """It cannot be approved so."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the check list, in words for the writer."""

    verdict: Verdict
    said: str


@dataclass(frozen=True, slots=True)
class Written:
    """What can be told of a letter that was written: its size in bytes, and the way out it offers."""

    size: int
    offers_a_way_out: bool


_PLACEHOLDER: Final = re.compile(
    r"\{\{.*?\}\}|\{%.*?%\}|\[\[.*?\]\]|\$\{[^}]*\}|%[A-Z_]{3,}%|\b(?:TODO|TBD|FIXME|XXX)\b"
    r"|(?i:lorem ipsum)"
)
# What looks like a link and was made none, as its address is not one that may be.
_NO_LINK: Final = re.compile(r"\]\(\s*<?(?!https://|mailto:)([^)\s>]*)", re.IGNORECASE)
_PLAIN_HTTP: Final = re.compile(r"\bhttp://\S+", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")


def check_list(
    news: News, letters: Mapping[Language, Written], *, recipients: int
) -> Sequence[Check]:
    """Say what is good and what is wrong with news, as it would be sent."""
    lines = [*_people(recipients), *_translation(news)]
    for language, words in news.words.items():
        name, letter = _IN[language], letters[language]
        lines += _subject(name, words.subject)
        lines += _placeholders(name, words)
        lines += _links(name, words.text)
        lines += _size(name, letter.size)
        if not letter.offers_a_way_out:
            lines.append(Check(Verdict.BAD, f"{name}: nobody can unsubscribe from it."))
    if all(letter.offers_a_way_out for letter in letters.values()):
        lines.append(Check(Verdict.GOOD, "It can be unsubscribed from in each language."))
    return lines


def _people(recipients: int) -> list[Check]:
    if recipients:
        return []
    return [Check(Verdict.DOUBTFUL, "Nobody would get it. Choose another segment.")]


def _translation(news: News) -> list[Check]:
    if Language.GERMAN in news.words:
        return [Check(Verdict.GOOD, "It is there in English and German.")]
    return [
        Check(
            Verdict.DOUBTFUL,
            "The German translation is missing. Who reads German gets it in English.",
        )
    ]


def _subject(name: str, subject: str) -> list[Check]:
    if len(subject) <= _GOOD_SUBJECT:
        return [Check(Verdict.GOOD, f"{name}: the subject has {len(subject)} letters.")]
    return [
        Check(
            Verdict.DOUBTFUL,
            f"{name}: the subject has {len(subject)} letters. Many programs show {_GOOD_SUBJECT}.",
        )
    ]


def _placeholders(name: str, words: Words) -> list[Check]:
    found = _PLACEHOLDER.search(f"{words.subject}\n{words.text}")
    if found is None:
        return []
    return [Check(Verdict.BAD, f"{name}: “{found[0][:40]}” is a placeholder that nobody filled.")]


def _links(name: str, text: str) -> list[Check]:
    good, bad = False, [found[0] for found in _PLAIN_HTTP.finditer(text)]
    bad += [found[1] for found in _NO_LINK.finditer(text) if not _PLAIN_HTTP.match(found[1])]
    for address in addresses(text):
        if _can_be_reached(address):
            good = True
        else:
            bad.append(address)
    lines = [
        Check(Verdict.BAD, f"{name}: “{address[:80]}” is no link that a reader can follow.")
        for address in dict.fromkeys(bad)
    ]
    if good and not bad:
        lines.append(Check(Verdict.GOOD, f"{name}: every link is one that a reader can follow."))
    return lines


def _can_be_reached(address: str) -> bool:
    """Whether the address can be one of the public web, or of a mailbox; nobody is asked."""
    parts = urlsplit(address)
    if parts.scheme == "mailto":
        return "@" in parts.path
    try:
        plain = parts.port in (None, 443) and "@" not in parts.netloc
    except ValueError:
        return False
    return plain and _HOST.fullmatch(parts.hostname or "") is not None


def _size(name: str, size: int) -> list[Check]:
    kilobytes = f"{size / 1024:.0f} KB"
    if size < _MOST_LETTER_BYTES:
        return [Check(Verdict.GOOD, f"{name}: the letter has {kilobytes}.")]
    return [
        Check(
            Verdict.BAD,
            f"{name}: the letter has {kilobytes}. What is over 102 KB is cut off by some programs.",
        )
    ]
