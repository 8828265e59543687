"""Ingest tokens: they let a page report errors of one tenant for a day, and do nothing else.

A token goes where Sentry's SDK has its public key, which takes letters and digits alone. It is known by
a keyed hash, so that no database is asked. Whoever finds one can add reports to a tenant's, within its
quota, and read nothing.
"""

from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Final
from uuid import UUID

from chassis.keys import TenantKeys

LIFETIME: Final = timedelta(hours=24)
_PURPOSE: Final = "error reports, write-only"
_SECONDS_BYTES: Final = 5
_SAID_BYTES: Final = 16 + _SECONDS_BYTES
_TAG_BYTES: Final = 16
_CHARACTERS: Final = 2 * (_SAID_BYTES + _TAG_BYTES)
_MOST_DSN: Final = 512


def issue(keys: TenantKeys, tenant_id: UUID, *, wall: datetime) -> str:
    """Make a token for a tenant that is good for a day."""
    ends = int((wall + LIFETIME).timestamp())
    said = tenant_id.bytes + ends.to_bytes(_SECONDS_BYTES, "big")
    return (said + _tag(keys, said)).hex()


def tenant_of(keys: TenantKeys, token: str, *, wall: datetime) -> UUID | None:
    """Say whose token this is; None for one that is over, changed, or never was one."""
    try:
        told = bytes.fromhex(token) if len(token) == _CHARACTERS else b""
    except ValueError:
        return None
    said, tag = told[:_SAID_BYTES], told[_SAID_BYTES:]
    if len(tag) != _TAG_BYTES or not compare_digest(tag, _tag(keys, said)):
        return None
    ends = datetime.fromtimestamp(int.from_bytes(said[16:], "big"), UTC)
    return UUID(bytes=said[:16]) if wall < ends else None


def token_in(dsn: object) -> str:
    """Read the public key of a DSN, as a tunnelled envelope carries it; empty where there is none."""
    if not isinstance(dsn, str) or len(dsn) > _MOST_DSN:
        return ""
    key, at, _ = dsn.partition("://")[2].partition("@")
    return key if at else ""


def _tag(keys: TenantKeys, said: bytes) -> bytes:
    return keys.blind_index(_PURPOSE, said)[:_TAG_BYTES]
