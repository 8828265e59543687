"""Which of our messages something that came back is about, and what it means for the recipient."""

import hmac
import re
from collections.abc import Callable
from typing import Final
from uuid import UUID

_MAC_LETTERS: Final = 20
_RETURN_PATH: Final = re.compile(rf"b-([0-9a-f]{{32}})([0-9a-f]{{{_MAC_LETTERS}}})", re.IGNORECASE)


def return_path(keyed_hash: Callable[[str, bytes], bytes], delivery_id: UUID, domain: str) -> str:
    """The address to which a delivery's message comes back: its id, and what nobody can forge."""
    return f"b-{delivery_id.hex}{_mac(keyed_hash, delivery_id)}@{domain}"


def delivery_of(keyed_hash: Callable[[str, bytes], bytes], local_part: str) -> UUID | None:
    """Say of which delivery this is the return path; None for one that we did not make.

    Servers on the way may change its case.
    """
    found = _RETURN_PATH.fullmatch(local_part)
    if found is None:
        return None
    delivery_id = UUID(hex=found[1])
    good = hmac.compare_digest(found[2].lower(), _mac(keyed_hash, delivery_id))
    return delivery_id if good else None


def is_a_return_path(local_part: str) -> bool:
    """Whether it looks like one, forged or not."""
    return _RETURN_PATH.fullmatch(local_part) is not None


def _mac(keyed_hash: Callable[[str, bytes], bytes], delivery_id: UUID) -> str:
    return keyed_hash("return-path", delivery_id.bytes).hex()[:_MAC_LETTERS]
