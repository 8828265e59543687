"""What our clients do with any answer: read so much of it and no more, and heed when to come back."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

UNPACKED = {"Accept-Encoding": "identity"}
"""The header of a request whose answer is read by :func:`read_at_most`."""

DEFAULT_RETRY_AFTER = timedelta(minutes=1)
MIN_RETRY_AFTER = timedelta(seconds=1)
MAX_RETRY_AFTER = timedelta(hours=1)

_SECONDS = re.compile(r"[0-9]{1,9}")


class TooLarge(Exception):  # noqa: N818 - names what is so
    """An answer is larger than any honest one."""


def retry_after(header: str | None, now: float) -> timedelta:
    """Read a ``Retry-After`` header: seconds, or a date that is compared with ``now``.

    Absent and unreadable ones mean :data:`DEFAULT_RETRY_AFTER`; what is asked
    for lies between :data:`MIN_RETRY_AFTER` and :data:`MAX_RETRY_AFTER`, so a
    host can neither hold us in a circle nor send us away for ever.
    """
    wanted = _wanted(header.strip(), now) if header is not None else None
    if wanted is None:
        return DEFAULT_RETRY_AFTER
    return min(max(wanted, MIN_RETRY_AFTER), MAX_RETRY_AFTER)


async def read_at_most(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """Put the body of an answer together.

    Ask for :data:`UNPACKED` and give the raw chunks: what is packed all the
    same stays so, and nothing small unpacks into something large.

    Raises:
        TooLarge: there is more than ``limit`` bytes of it.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TooLarge
    return bytes(body)


def _wanted(header: str, now: float) -> timedelta | None:
    if _SECONDS.fullmatch(header):
        return timedelta(seconds=int(header))
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:  # how the parser tells of "-0000"
        date = date.replace(tzinfo=UTC)
    return date - datetime.fromtimestamp(now, UTC)
