"""What is kept of an error: the fields that the privacy policy names, read from a Sentry event.

Whatever else an event holds, such as the user, the address of the page, breadcrumbs and tags, is
never read, so that it reaches neither disk nor log.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID, uuid4

from services.config.domain.scrubbing import scrub, scrub_file

MOST_TYPE: Final = 100
MOST_VALUE: Final = 1_000
MOST_NAME: Final = 200
MOST_FILE: Final = 300
MOST_RELEASE: Final = 100
MOST_FRAMES: Final = 50
MOST_CAUSES: Final = 5
_MOST_NUMBER: Final = 2**31 - 1

LEVELS: Final = frozenset({"fatal", "error", "warning", "info", "debug"})
NO_EXCEPTION: Final = "Message"
"""The type of an error that was reported in words alone."""

# How wrong a browser's clock may be before it is not believed at all.
_CREDIBLE: Final = timedelta(days=1)

Anonymise = Callable[[str], bytes]
"""Makes a browser's id one that nobody can lead back to it, nor join over days."""


class Frame(NamedTuple):
    """One call on the stack; numbers count from 1."""

    function: str
    file: str
    line: int | None
    column: int | None
    in_app: bool


@dataclass(frozen=True, slots=True)
class Thrown:
    """One exception; the frames begin with the outermost call, as Sentry has them."""

    type: str
    value: str = field(repr=False)
    frames: tuple[Frame, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Agent:
    """A browser and a system by family and major version, of which millions are alike."""

    browser: str
    browser_major: int | None
    os: str
    os_major: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """An error as it is kept; the last of ``thrown`` is what was thrown, the others its causes."""

    event_id: UUID
    occurred_at: datetime
    release: str
    level: str
    handled: bool | None
    agent: Agent
    tracking: bytes | None = field(repr=False)
    thrown: tuple[Thrown, ...] = field(repr=False)

    @property
    def culprit(self) -> str:
        """Where it was thrown, as the innermost call of the app itself."""
        frames = _of_the_app(self.thrown[-1].frames)
        if not frames:
            return ""
        return " in ".join(part for part in (frames[-1].function, frames[-1].file) if part)


def report_of(
    event: Mapping[str, Any],
    *,
    event_id: UUID | None,
    agent: Agent,
    received_at: datetime,
    anonymise: Anonymise,
) -> Report:
    """Keep what may be kept of an event, whatever shape it has; the envelope's id comes first."""
    thrown = tuple(_exceptions(event))
    handled = _handled(event)
    user = event.get("user")
    tracked = _text(user.get("id")) if isinstance(user, dict) else ""
    level = event.get("level")
    return Report(
        event_id=event_id or id_of(event.get("event_id")) or uuid4(),
        occurred_at=_occurred_at(event.get("timestamp"), received_at),
        release=_release(_text(event.get("release"))),
        level=level if isinstance(level, str) and level in LEVELS else "error",
        handled=handled,
        agent=agent,
        tracking=anonymise(tracked) if tracked else None,
        thrown=thrown or (_message(event),),
    )


def id_of(told: object) -> UUID | None:
    """Read an event's id: 32 hexadecimal digits, of which Sentry's own tools leave out the dashes."""
    try:
        return UUID(told) if isinstance(told, str) else None
    except ValueError:
        return None


# -- fingerprint -------------------------------------------------------------------------------

# Bundlers put a hash of the content into a file's name, which is another one in each release.
_CONTENT_HASH: Final = re.compile(
    r"[.-](?=[A-Za-z_]*\d|[0-9_]*[A-Za-z])[A-Za-z0-9_]{8,}(?=\.[a-z]+$)|[.-]?\[(?:id|secret|iban)\]"
)
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_NUMBER: Final = re.compile(r"\d+")


def fingerprint_of(app: str, report: Report) -> bytes:
    """Name the group of an error: 16 bytes, equal for what is the same fault in another release.

    It is the app, the exception's type, and the functions and files of the app's own calls; where
    nothing tells whose a call is, all calls. Lines and columns move, and are not among it.
    """
    thrown = report.thrown[-1]
    told = [app, thrown.type]
    frames = _of_the_app(thrown.frames)
    # Most calls of a stack are in the same few files.
    files = {file: _of_any_release(file) for file in {frame.file for frame in frames}}
    for frame in frames:
        told += [frame.function, files[frame.file]]
    if not thrown.frames:
        told.append(_NUMBER.sub("0", thrown.value))
    return blake2b("\0".join(told).encode(), digest_size=16).digest()


def _of_the_app(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(frame for frame in frames if frame.in_app) or frames


def _of_any_release(file: str) -> str:
    return _VERSION.sub("0", _CONTENT_HASH.sub("", file))


# -- the allow-list ----------------------------------------------------------------------------


def _exceptions(event: Mapping[str, Any]) -> Iterator[Thrown]:
    for told in _listed(event)[-MOST_CAUSES:]:
        if isinstance(told, dict):
            yield Thrown(
                type=scrub(_text(told.get("type")), MOST_TYPE) or "Error",
                value=scrub(_text(told.get("value")), MOST_VALUE),
                frames=tuple(_frames(told.get("stacktrace"))),
            )


def _listed(event: Mapping[str, Any]) -> list[Any]:
    told = event.get("exception")
    values = told.get("values") if isinstance(told, dict) else told
    return values if isinstance(values, list) else []


def _frames(stack: object) -> Iterator[Frame]:
    told = stack.get("frames") if isinstance(stack, dict) else None
    if not isinstance(told, list):
        return
    # Most calls of a stack are in the same few files.
    files: dict[str, str] = {}
    # The innermost calls come last, and say most.
    for each in told[-MOST_FRAMES:]:
        if isinstance(each, dict):
            file = _text(each.get("filename"))
            if file not in files:
                files[file] = scrub_file(file, MOST_FILE)
            yield Frame(
                function=scrub(_text(each.get("function")), MOST_NAME),
                file=files[file],
                line=_number(each.get("lineno")),
                column=_number(each.get("colno")),
                in_app=each.get("in_app") is not False,
            )


def _message(event: Mapping[str, Any]) -> Thrown:
    told = event.get("message")
    if isinstance(told, dict):
        told = told.get("formatted") or told.get("message")
    return Thrown(NO_EXCEPTION, scrub(_text(told), MOST_VALUE), ())


def _handled(event: Mapping[str, Any]) -> bool | None:
    for told in reversed(_listed(event)):
        mechanism = told.get("mechanism") if isinstance(told, dict) else None
        if isinstance(mechanism, dict) and isinstance(mechanism.get("handled"), bool):
            handled: bool = mechanism["handled"]
            return handled
    return None


# Sentry's form of a release is a package, an @ and a version, which looks like an address of mail.
_RELEASE: Final = re.compile(r"([\w.-]{1,60})@(\d{1,6}(?:\.\d{1,6}){1,3}(?:[-+][\w.]{1,30})?)")


def _release(told: str) -> str:
    if found := _RELEASE.fullmatch(told):
        return "@".join(scrub(part, MOST_RELEASE) for part in found.groups())[:MOST_RELEASE]
    return scrub(told, MOST_RELEASE)


def _occurred_at(told: object, received_at: datetime) -> datetime:
    if isinstance(told, int | float) and not isinstance(told, bool):
        try:
            at = datetime.fromtimestamp(told, UTC)
        except (ValueError, OverflowError, OSError):
            return received_at
        if abs(at - received_at) <= _CREDIBLE:
            return at
    return received_at


def _text(told: object) -> str:
    return told if isinstance(told, str) else ""


def _number(told: object) -> int | None:
    return told if type(told) is int and 0 <= told <= _MOST_NUMBER else None


# -- browsers ----------------------------------------------------------------------------------

OTHER: Final = "Other"
_BROWSERS: Final = (
    # Each says that it is others as well: the first that is found is what it is.
    ("Edge", ("Edg",), re.compile(r"\b(?:Edg|EdgA|EdgiOS|Edge)/(\d{1,4})")),
    ("Opera", ("OPR/", "Opera/"), re.compile(r"\b(?:OPR|Opera)/(\d{1,4})")),
    ("Samsung Internet", ("SamsungBrowser/",), re.compile(r"\bSamsungBrowser/(\d{1,4})")),
    ("Firefox", ("Firefox/", "FxiOS/"), re.compile(r"\b(?:Firefox|FxiOS)/(\d{1,4})")),
    ("Chrome", ("Chrome/", "CriOS/"), re.compile(r"\b(?:HeadlessChrome|Chrome|CriOS)/(\d{1,4})")),
    ("Safari", ("Safari/",), re.compile(r"\bVersion/(\d{1,4})[\d.]* (?:Mobile/\w+ )?Safari/")),
)
_SYSTEMS: Final = (
    ("Windows", ("Windows NT ",), re.compile(r"\bWindows NT (\d{1,4})")),
    ("Android", ("Android ",), re.compile(r"\bAndroid (\d{1,4})")),
    ("iOS", (" OS ",), re.compile(r"\b(?:iPhone|CPU) OS (\d{1,4})")),
    ("macOS", ("Mac OS X ",), re.compile(r"\bMac OS X (\d{1,4})")),
    ("ChromeOS", ("CrOS ",), re.compile(r"\bCrOS \w+ (\d{1,5})")),
    ("Linux", ("Linux",), re.compile(r"\bLinux\b()")),
)
_MOST_AGENT: Final = 512


def agent_of(user_agent: str) -> Agent:
    """Say which browser and system a User-Agent header names; the header itself is not kept."""
    told = user_agent[:_MOST_AGENT]
    return Agent(*_family(told, _BROWSERS), *_family(told, _SYSTEMS))


_Families: TypeAlias = tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]


def _family(told: str, families: _Families) -> tuple[str, int | None]:
    # To look for a word costs a tenth of what its pattern costs.
    for name, words, pattern in families:
        if any(word in told for word in words) and (found := pattern.search(told)):
            return name, int(found[1]) if found[1] else None
    return OTHER, None
