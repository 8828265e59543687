"""Atlassian's public keys for Forge: one published set (JWKS, RFC 7517), fetched and kept."""

import asyncio
import json
import math
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Annotated, Any, Literal

import httpx2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from pydantic import BaseModel, StringConstraints

from connect.hosts import is_private_enough, parse_base_url
from connect.keys import MIN_KEY_BITS, KeyHostAway, Unanswered, UnknownKey, ask

FORGE_PRODUCTION = "https://forge.cdn.prod.atlassian-dev.net/.well-known/jwks.json"
"""Where Atlassian publishes the keys that sign Forge's invocation tokens."""

MAX_SET_BYTES = 64 * 1024
REFETCH_SECONDS = 30.0
"""How long a fetched set is the whole truth: a key id that is not in it does not exist."""

AWAY_SECONDS = 1.0
"""How long the host is left alone after it failed."""

FRESH_SECONDS = 60 * 60.0
"""After this time a set is fetched again with the next use, so that withdrawn keys end."""

KEY_ID = r"[A-Za-z0-9._/-]{1,255}"
"""Forge's key ids have slashes, as in ``forge/invocation-token/wf-1``; none gets into a URL."""

_KEY_ID = re.compile(KEY_ID)


class KeySet:
    """The RSA signing keys of one set, by key id.

    The set is fetched at first need. A key id that is not in it brings a new
    fetch, at most one in :data:`REFETCH_SECONDS`, so made-up ids are no flood
    for the host; requests that need it at the same time share it. What a fetch
    brings replaces what was known, and while the host is away or answers
    nonsense the known keys go on serving.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        url: str = FORGE_PRODUCTION,
        *,
        timeout_seconds: float = 3.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        address = parse_base_url(url)
        if address is None or not is_private_enough(address):
            raise ValueError("the key set must be reached by https, or be on this machine")
        self._url = str(address)
        self._http = http
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._known: dict[str, RSAPublicKey] = {}
        self._is_away = False
        self._may_fetch_at = self._stale_at = -math.inf
        self._fetch: asyncio.Task[None] | None = None

    async def key(self, key_id: str) -> RSAPublicKey:
        """Give the public key of this id, from memory where possible.

        Raises:
            UnknownKey: the set has no such key, or the id has a shape that
                Atlassian's never have (then nobody is asked).
            KeyHostAway: the key is not known, and no usable set could be had
                within ``timeout_seconds``.
        """
        known = self._known.get(key_id)
        if known is not None:
            if self._monotonic() >= self._stale_at:
                self._begin_fetch()  # and nobody waits for it
            return known
        if _KEY_ID.fullmatch(key_id) is None:
            raise UnknownKey
        fetch = self._begin_fetch()
        if fetch is not None:
            # A caller that gives up must not take the set away from the others.
            await asyncio.shield(fetch)
        known = self._known.get(key_id)
        if known is None:
            raise KeyHostAway if self._is_away else UnknownKey
        return known

    def _begin_fetch(self) -> asyncio.Task[None] | None:
        """Give the fetch that runs, else a new one; None where it is too early for that."""
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        if self._monotonic() < self._may_fetch_at:
            return None
        self._fetch = asyncio.create_task(self._fetch_and_keep())
        return self._fetch

    async def _fetch_and_keep(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                self._known = await ask(self._http, self._url, _keys, max_bytes=MAX_SET_BYTES)
        except (TimeoutError, Unanswered, UnknownKey):
            self._is_away = True
            self._may_fetch_at = self._monotonic() + AWAY_SECONDS
        else:
            self._is_away = False
            self._may_fetch_at = self._monotonic() + REFETCH_SECONDS
            self._stale_at = self._monotonic() + FRESH_SECONDS


class _Jwk(BaseModel):
    """A member of a set that this library has a use for; others are passed over."""

    kty: Literal["RSA"]
    use: Literal["sig"] | None = None
    alg: Literal["RS256"] | None = None
    kid: Annotated[str, StringConstraints(pattern=f"^{KEY_ID}$")]
    n: str
    e: str

    def public_key(self) -> RSAPublicKey:
        return RSAPublicNumbers(_number(self.e), _number(self.n)).public_key()


def _keys(body: bytes) -> dict[str, RSAPublicKey]:
    keys = {}
    for member in _members(body):
        try:
            jwk = _Jwk.model_validate(member, strict=True)
            key = jwk.public_key()
        except ValueError:  # of which pydantic's is one
            continue
        if key.key_size >= MIN_KEY_BITS:
            keys[jwk.kid] = key
    if not keys:
        raise Unanswered("no strong RSA key")
    return keys


def _members(body: bytes) -> list[Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unanswered("no JSON") from error
    members = document.get("keys") if isinstance(document, dict) else None
    return members if isinstance(members, list) else []


def _number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
