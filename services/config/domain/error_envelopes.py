r"""Reads what the stock Sentry SDK sends: an envelope of lines of JSON and payloads.

The grammar is ``Headers { "\n" Headers "\n" Payload } [ "\n" ]``, as Sentry's developer
documentation has it; the limits are ours, a small part of Sentry's.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

MOST_HEADER_BYTES: Final = 8 * 1024
MOST_BYTES: Final = 256 * 1024
MOST_ITEMS: Final = 10
MOST_DEPTH: Final = 32

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKET: Final = bytes(set(range(256)) - set(b"[]{}"))
_OPENING: Final = frozenset(b"[{")


class BadEnvelope(Exception):  # noqa: N818 - names what is so
    """These bytes are no envelope within our limits; says why, never what they hold."""


class TooLarge(Exception):  # noqa: N818 - names what is so
    """These bytes, or a part of them, are more than we take."""


def split(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Read an envelope's own header, and leave the items unread.

    Who may send is known by the header, and who may not is not read any further.
    Raises ``BadEnvelope`` or ``TooLarge``.
    """
    if len(body) > MOST_BYTES:
        raise TooLarge
    header, _, items = body.partition(b"\n")
    return _header(header), items


def event_in(items: bytes) -> dict[str, Any] | None:
    """Find the event among an envelope's items, and pass over every other kind.

    An envelope has one event at most, so what would be a second is passed over too.
    Raises ``BadEnvelope`` or ``TooLarge``.
    """
    event = None
    for kind, payload in _items(items):
        if kind == "event" and event is None:
            event = _object(payload, "the event")
    return event


def _items(rest: bytes) -> Iterator[tuple[str, bytes]]:
    count = 0
    while rest not in {b"", b"\n"}:
        count += 1
        if count > MOST_ITEMS:
            raise BadEnvelope("it has too many items")
        line, _, rest = rest.partition(b"\n")
        header = _header(line)
        kind = header.get("type")
        if not isinstance(kind, str):
            raise BadEnvelope("an item has no type")
        payload, rest = _payload(header, rest)
        yield kind, payload


def _payload(header: dict[str, Any], rest: bytes) -> tuple[bytes, bytes]:
    length = header.get("length")
    if length is None:
        payload, _, rest = rest.partition(b"\n")
        return payload, rest
    # True is an int, too.
    if type(length) is not int or not 0 <= length <= len(rest):
        raise BadEnvelope("an item is not as long as it says")
    payload, rest = rest[:length], rest[length:]
    if rest and not rest.startswith(b"\n"):
        raise BadEnvelope("an item is not as long as it says")
    return payload, rest[1:]


def _header(line: bytes) -> dict[str, Any]:
    if len(line) > MOST_HEADER_BYTES:
        raise TooLarge
    return _object(line, "a header")


def _object(text: bytes, what: str) -> dict[str, Any]:
    if _is_too_deep(text):
        raise BadEnvelope(f"{what} is nested too deep")
    try:
        told = _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        raise BadEnvelope(f"{what} is not JSON") from None
    if not isinstance(told, dict):
        raise BadEnvelope(f"{what} is not an object")
    return told


def _is_too_deep(text: bytes) -> bool:
    """Look at the brackets alone, before anything is built of them."""
    brackets = text.translate(None, _NO_BRACKET)
    for _ in range(MOST_DEPTH):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not brackets:
            return False
    # Too deep, or they stand in texts and have no partner.
    depth = 0
    for bracket in _STRINGS.sub(b"", text).translate(None, _NO_BRACKET):
        depth += 1 if bracket in _OPENING else -1
        if depth > MOST_DEPTH:
            return True
    return False


def _refuse(_: str) -> NoReturn:
    raise ValueError("neither NaN nor Infinity is JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
