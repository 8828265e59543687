"""Where public keys come from: what every source of them promises, and how a key host is asked."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import httpx2
import stamina
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from connect.answers import TooLarge, read_at_most

MIN_KEY_BITS = 2048
ATTEMPTS = 3

T = TypeVar("T")


class UnknownKey(Exception):  # noqa: N818 - names what is so
    """No such key exists: the token that names it is not Atlassian's."""


class KeyHostAway(Exception):  # noqa: N818 - names what is so
    """The key could not be had just now; the same question may be asked again."""


class Unanswered(Exception):  # noqa: N818 - names what is so
    """A key host failed in a way that a moment may cure."""


class KeySource(Protocol):
    """Public keys by id.

    :class:`connect.install_keys.InstallKeys` and :class:`connect.key_sets.KeySet` are two.
    """

    async def key(self, key_id: str) -> RSAPublicKey:
        """Give the key of this id, or raise UnknownKey or KeyHostAway."""
        ...


async def ask(
    http: httpx2.AsyncClient, url: str, read: Callable[[bytes], T], *, max_bytes: int
) -> T:
    """Fetch ``url`` and read what came, again where that fails, up to :data:`ATTEMPTS` times.

    ``read`` raises Unanswered for a body that is of no use. No redirect is
    followed, and the caller sets the time that all of this may take.

    Raises:
        UnknownKey: the answer is 404.
        Unanswered: no attempt had another good end.
    """
    async for attempt in stamina.retry_context(
        on=Unanswered,
        attempts=ATTEMPTS,
        timeout=None,
        wait_initial=0.05,
        wait_max=0.5,
        wait_jitter=0.05,
    ):
        with attempt:
            return read(await _get(http, url, max_bytes))
    raise AssertionError("unreachable: the last attempt raises")


async def _get(http: httpx2.AsyncClient, url: str, max_bytes: int) -> bytes:
    try:
        async with http.stream(
            "GET",
            url,
            headers={"Accept-Encoding": "identity"},  # so the size cap is on what came
            follow_redirects=False,
        ) as response:
            if response.status_code == httpx2.codes.NOT_FOUND:
                raise UnknownKey
            if response.status_code != httpx2.codes.OK:
                raise Unanswered(f"status {response.status_code}")
            return await read_at_most(response.aiter_raw(), max_bytes)
    except (httpx2.HTTPError, TooLarge) as error:
        raise Unanswered(type(error).__name__) from error
