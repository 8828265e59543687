"""How much one address and one tenant may report, and the salt of the day by which browsers are known."""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import date, datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address
from typing import Final

PERIOD: Final = timedelta(minutes=5)
_MOST_BUCKETS: Final = 50_000
_BYTES: Final = 16


class Buckets:
    """Lets so many through in five minutes for each key, all at once or one after another.

    Of keys that were not seen for long the oldest are forgotten, so that no number of them fills the
    memory.
    """

    def __init__(
        self,
        most: int,
        *,
        keys: int = _MOST_BUCKETS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._a_second = most / PERIOD.total_seconds()
        self._keys = keys
        self._monotonic = monotonic
        # How many are left of a key's, and since when that is so.
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> int:
        """Take one of a key's; return 0, or after how many seconds there is another."""
        now = self._monotonic()
        left, since = self._left.pop(key, (float(self._most), now))
        left = min(float(self._most), left + (now - since) * self._a_second)
        wait = 0
        if left >= 1:
            left -= 1
        else:
            wait = int((1 - left) / self._a_second) + 1
        self._left[key] = left, now
        if len(self._left) > self._keys:
            self._left.popitem(last=False)
        return wait


class DailySalt:
    """Hashes what must not be known tomorrow, under a salt that lives in this process for a day.

    It is on no disk and in no backup, so nobody can join or guess anything once it is gone: not even
    we. Another process has another one, and counts the same browser again.
    """

    def __init__(self) -> None:
        self._day: date | None = None
        self._salt = b""

    def hashed(self, purpose: str, told: str, *, wall: datetime) -> bytes:
        """Return 16 bytes that are equal for equal texts of one purpose and day."""
        self.renew(wall=wall)
        message = f"{purpose}\0{told}".encode(errors="replace")
        return hmac.new(self._salt, message, sha256).digest()[:_BYTES]

    def renew(self, *, wall: datetime) -> None:
        """Destroy the salt of a day that is over."""
        if wall.date() != self._day:
            self._day, self._salt = wall.date(), secrets.token_bytes(32)


def network_of(address: str) -> str:
    """Return who an address may be: itself, or of IPv6 the /64 in which one person has all of them."""
    address = address.strip()
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return ""
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
