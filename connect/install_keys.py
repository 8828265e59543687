"""Atlassian's public keys for signed installs, fetched by key id and kept."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from connect.hosts import is_private_enough, parse_base_url
from connect.keys import MIN_KEY_BITS, KeyHostAway, Unanswered, UnknownKey, ask

PRODUCTION = "https://connect-install-keys.atlassian.com"
"""Where Atlassian publishes the keys of its production sites."""

MAX_KEY_BYTES = 16 * 1024

T = TypeVar("T")

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class InstallKeys:
    """Public keys by key id, each asked for once.

    Atlassian never changes the key behind an id, so a key is kept for as long
    as there is room for it and serves while the key host is away. An unknown
    id is remembered for ``unknown_seconds`` only. Requests that need the same
    key at the same time share one fetch; at most ``concurrent_fetches`` run,
    so made-up ids cannot turn us into a flood for the key host.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str = PRODUCTION,
        *,
        timeout_seconds: float = 5.0,
        unknown_seconds: float = 30.0,
        capacity: int = 256,
        concurrent_fetches: int = 8,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        base = parse_base_url(base_url)
        if base is None or not is_private_enough(base):
            raise ValueError("the key host must be reached by https, or be this machine")
        self._base_url = str(base)
        self._http = http
        self._timeout_seconds = timeout_seconds
        self._unknown_seconds = unknown_seconds
        self._capacity = capacity
        self._monotonic = monotonic
        self._fetch_slots = asyncio.Semaphore(concurrent_fetches)
        self._known: OrderedDict[str, RSAPublicKey] = OrderedDict()
        self._unknown_until: OrderedDict[str, float] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[RSAPublicKey]] = {}

    async def key(self, key_id: str) -> RSAPublicKey:
        """Give the public key of this id, from memory where possible.

        Raises:
            UnknownKey: the key host knows no such id, or the id has a shape
                that Atlassian's never have (then nobody is asked).
            KeyHostAway: no answer within ``timeout_seconds``, no usable key
                in it, or an answer other than 200 and 404.
        """
        known = self._known.get(key_id)
        if known is not None:
            self._known.move_to_end(key_id)
            return known
        if _KEY_ID.fullmatch(key_id) is None or self._is_known_to_be_unknown(key_id):
            raise UnknownKey
        fetch = self._fetches.get(key_id)
        if fetch is None:
            fetch = asyncio.create_task(self._fetch_and_keep(key_id))
            self._fetches[key_id] = fetch
            fetch.add_done_callback(lambda _: self._fetches.pop(key_id))
        # A caller that gives up must not take the key away from the others.
        return await asyncio.shield(fetch)

    def _is_known_to_be_unknown(self, key_id: str) -> bool:
        return self._unknown_until.get(key_id, 0.0) > self._monotonic()

    async def _fetch_and_keep(self, key_id: str) -> RSAPublicKey:
        try:
            async with asyncio.timeout(self._timeout_seconds), self._fetch_slots:
                key = await ask(
                    self._http, f"{self._base_url}/{key_id}", _public_key, max_bytes=MAX_KEY_BYTES
                )
        except UnknownKey:
            _keep(
                self._unknown_until,
                key_id,
                self._monotonic() + self._unknown_seconds,
                self._capacity,
            )
            raise
        except (TimeoutError, Unanswered) as error:
            raise KeyHostAway from error
        self._unknown_until.pop(key_id, None)
        _keep(self._known, key_id, key, self._capacity)
        return key


def _public_key(pem: bytes) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unanswered("no key") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise Unanswered("no strong RSA key")
    return key


def _keep(store: OrderedDict[str, T], key_id: str, value: T, capacity: int) -> None:
    store[key_id] = value
    store.move_to_end(key_id)
    while len(store) > capacity:
        store.popitem(last=False)
