"""Makes identifiers that sort by the time they were made."""

import secrets
from datetime import datetime
from uuid import UUID

_RANDOM_BITS = 74


def uuid7(at: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562 section 5.7) for the instant ``at``, to the millisecond.

    Python has one of its own only from 3.14, PostgreSQL from 18.
    """
    random = secrets.randbits(_RANDOM_BITS)
    value = int(at.timestamp() * 1000) << 80
    value |= 0x7 << 76 | (random >> 62) << 64
    value |= 0b10 << 62 | (random & ((1 << 62) - 1))
    return UUID(int=value)
