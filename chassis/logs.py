"""Structured logs as lines of JSON, without secrets, addresses or people's data.

Every logger of the process, ours and the libraries', ends in the same line of
processors, so that nothing is printed which was not redacted.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from time import monotonic
from types import TracebackType
from typing import Any, TextIO, cast
from uuid import UUID

import asyncpg
import pydantic
import structlog
from pydantic import SecretBytes, SecretStr
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from chassis import tracing

REDACTED = "[redacted]"

_SENSITIVE_KEY = re.compile(
    r"secret|token|passw|passphrase|authorization|cookie|credential|private_?key|api_?key"
    r"|client_?key|base_?url|display_?url|e_?mail|dsn|recipient|phone|database_?url"
    r"|^(mail|host|hostname|site|address|body|payload|data|jwt|wrapped_key|plain_key)$"
)
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,4}")
# To the last @ of the word: passwords hold @ and : too.
_LOGIN_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s]+@")
_EMAIL = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_NAMED_SECRET = re.compile(
    r"(?i)((?:password|secret|token|authorization|client_?key|api_?key|jwt|signature)[\"']?\s*[=:]"
    r"\s*[\"']?)(?:(?:bearer|basic|jwt)\s+)?[^\s,;&\"']+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic|jwt)\s+[A-Za-z0-9+/_.=-]{8,}")
# PostgreSQL puts the row's values into DETAIL, and the statement's into CONTEXT.
_POSTGRES_DETAIL = re.compile(
    r"\n?\b(?:DETAIL|CONTEXT|QUERY|STATEMENT):.*?(?=\nHINT:|\Z)", re.DOTALL
)

_OF_LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.access", "aiokafka", "faststream", "alembic")
# These say at INFO what carries addresses, or a line for each record.
_QUIET = ("uvicorn.access", "faststream", "httpx2", "httpcore2", "sqlalchemy.engine")

# So long a sentence of Kafka's client is not written again: while no broker answers, it says the
# same a hundred times a second.
_SAME_AGAIN_SECONDS = 10.0
_MOST_SENTENCES = 256
_MOST_FRAMES = 40
_MOST_CAUSES = 8
_LONGEST_TEXT = 8_000


def configure(service: str, level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send every log line of this process to stdout as JSON, from ``level`` up.

    Replaces the handlers of the root logger and of the libraries; may be called
    again. ``stream`` is for tests.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    out = sys.stdout if stream is None else stream
    shared = _processors(service)
    structlog.configure(
        processors=[*shared, _to_json],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = _JsonHandler(out)
    handler.addFilter(_NotTheSameAgain())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *shared,
                _to_json,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _OF_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Put fields on every line logged inside, also by functions called from here."""
    with bound_contextvars(**fields):
        yield


def redacted_text(text: str) -> str:
    """The text without tokens, logins, e-mail addresses and row values of PostgreSQL."""
    if "eyJ" in text:
        text = _JWT.sub(REDACTED, text)
    if "@" in text:
        text = _LOGIN_IN_URL.sub(rf"\g<1>{REDACTED}@", text)
        text = _EMAIL.sub(REDACTED, text)
    if ":" in text or "=" in text:
        text = _POSTGRES_DETAIL.sub("", text)
        text = _NAMED_SECRET.sub(rf"\g<1>{REDACTED}", text)
    text = _BEARER.sub(rf"\g<1> {REDACTED}", text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def redacted_message(failure: BaseException) -> str:
    """What an exception says, without the values that it was about.

    Messages of pydantic repeat the input, those of PostgreSQL's data exceptions
    (class 22, https://www.postgresql.org/docs/current/errcodes-appendix.html)
    and of asyncpg's encoder repeat the argument; of these only the kind is kept.
    """
    if isinstance(failure, pydantic.ValidationError):
        kinds = sorted({error["type"] for error in failure.errors(include_input=False)})
        return f"{failure.error_count()} invalid: {', '.join(kinds)}"
    if isinstance(failure, asyncpg.PostgresError):
        state = failure.sqlstate or ""
        return state if state.startswith("22") else f"{state} {redacted_text(str(failure))}".strip()
    if isinstance(failure, (asyncpg.InterfaceError, UnicodeError, KeyError)):
        return ""
    return redacted_text(str(failure))


def described(failure: BaseException) -> list[dict[str, Any]]:
    """An exception and its causes: type, redacted message and frames, without locals."""
    chain: list[dict[str, Any]] = []
    at: BaseException | None = failure
    seen: set[int] = set()
    while at is not None and id(at) not in seen and len(chain) < _MOST_CAUSES:
        seen.add(id(at))
        chain.append(_one_described(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return chain


def _one_described(failure: BaseException) -> dict[str, Any]:
    one: dict[str, Any] = {
        "type": f"{type(failure).__module__}.{type(failure).__qualname__}",
        "message": redacted_message(failure),
        "frames": _frames(failure.__traceback__),
    }
    if isinstance(failure, BaseExceptionGroup):
        one["group"] = [described(member) for member in failure.exceptions[:_MOST_CAUSES]]
    return one


def _frames(of: TracebackType | None) -> list[str]:
    frames = [
        f"{_short(frame.f_code.co_filename)}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(of)
    ]
    return frames[-_MOST_FRAMES:]


def _short(filename: str) -> str:
    # Where the code is installed is nobody's business; which module it is, is.
    return "/".join(PurePath(filename).parts[-3:])


def _processors(service: str) -> list[Processor]:
    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
        _name_trace,
        _describe_exception,
        redact,
    ]


def _logger_name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
        if repeated := getattr(record, "repeated", 0):
            event["repeated"] = repeated
    return event


def _name_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if (trace := tracing.trace_id()) is not None:
        event["trace_id"] = trace
    return event


def _describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    event.pop("stack_info", None)
    failure: BaseException | None = None
    if isinstance(given, BaseException):
        failure = given
    elif isinstance(given, tuple):
        failure = given[1]
    elif given:
        failure = sys.exc_info()[1]
    if failure is not None:
        event["exception"] = described(failure)
    return event


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: no value leaves it that looks like a secret or a person."""
    return cast("EventDict", _clean_mapping(event))


def _clean_mapping(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(key): REDACTED if _SENSITIVE_KEY.search(str(key).lower()) else _clean(value)
        for key, value in mapping.items()
    }


def _clean(value: object) -> object:  # noqa: PLR0911 - one line per kind of value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Enum):
        return _clean(value.value)
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, (UUID, Decimal, timedelta, PurePath)):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, BaseException):
        return {"type": type(value).__qualname__, "message": redacted_message(value)}
    if isinstance(value, (SecretStr, SecretBytes, bytes, bytearray, memoryview)):
        return REDACTED
    if isinstance(value, Mapping):
        return _clean_mapping(value)
    if isinstance(value, (Sequence, set, frozenset)):
        return [_clean(member) for member in value]
    # A repr may print anything: a model, a row, a request.
    return f"<{type(value).__name__}>"


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return json.dumps(event, ensure_ascii=False, default=lambda value: f"<{type(value).__name__}>")


class _NotTheSameAgain(logging.Filter):
    """Lets a complaint of Kafka's client pass once in ten seconds, with how often it was held back."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or record.levelno < logging.WARNING:
            return True
        sentence, now = f"{record.msg}{record.args}", monotonic()
        said_at, held_back = self._said.get(sentence, (-_SAME_AGAIN_SECONDS, 0))
        if now - said_at < _SAME_AGAIN_SECONDS:
            self._said[sentence] = said_at, held_back + 1
            return False
        if len(self._said) >= _MOST_SENTENCES:
            self._said.clear()
        self._said[sentence] = now, 0
        record.repeated = held_back
        return True


class _JsonHandler(logging.StreamHandler[TextIO]):
    """Writes what the formatter made; a record that cannot be rendered shows no arguments."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        lost = {"event": "log record could not be rendered", "logger": record.name}
        self.stream.write(f"{json.dumps(lost)}\n")
