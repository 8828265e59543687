"""Reads the public keys under which the installer signs session tokens."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import httpx2
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

log = structlog.get_logger(__name__)

KEPT_SECONDS: Final = 3600.0
FETCHED_AT_MOST_EVERY_SECONDS: Final = 10.0
_TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 64 * 1024


class KeysAway(Exception):  # noqa: N818 - reads as the fact it states
    """No key is known, and the installer cannot be asked now."""


class SessionKeys(Protocol):
    """Finds the key of a session token."""

    async def find(self, key_id: str) -> OKPKey | None:
        """The Ed25519 key of this id, None where there is none; raises ``KeysAway``."""


class InstallerKeys:
    """The installer's JWKS (RFC 7517), kept for an hour.

    An unknown id makes it be fetched again, but whatever ids come it is asked at
    most every ten seconds. While the installer is away the keys fetched before
    stay in use.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._transport = transport
        self._monotonic = monotonic
        self._keys: Mapping[str, OKPKey] | None = None
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> OKPKey | None:
        """The Ed25519 key of this id, None where there is none; raises ``KeysAway``."""
        if not self._holds(key_id):
            async with self._fetching:
                # Who waited finds what the one before has fetched.
                if not self._holds(key_id) and self._may_try():
                    await self._fetch()
        if self._keys is None:
            raise KeysAway
        return self._keys.get(key_id)

    def _holds(self, key_id: str) -> bool:
        fresh = self._monotonic() - self._fetched_at < KEPT_SECONDS
        return fresh and self._keys is not None and key_id in self._keys

    def _may_try(self) -> bool:
        return self._monotonic() - self._tried_at >= FETCHED_AT_MOST_EVERY_SECONDS

    async def _fetch(self) -> None:
        self._tried_at = self._monotonic()
        try:
            async with httpx2.AsyncClient(
                transport=self._transport, timeout=_TIMEOUT_SECONDS, trust_env=False
            ) as client:
                answer = await client.get(self._url)
            answer.raise_for_status()
            self._keys = _ed25519_keys(answer)
        except (httpx2.HTTPError, ValueError) as failure:
            log.warning("session keys not fetched", error=type(failure).__name__)
            return
        self._fetched_at = self._tried_at


def _ed25519_keys(answer: httpx2.Response) -> dict[str, OKPKey]:
    if len(answer.content) > _MOST_BYTES:
        raise ValueError("far too large for a set of keys")
    told = answer.json()
    if not isinstance(told, dict) or not isinstance(told.get("keys"), list):
        raise ValueError("not a JWKS")  # noqa: TRY004 - what was read is wrong, not what was passed
    found = (_ed25519_key(key) for key in told["keys"])
    return {key_id: key for key_id, key in found if key is not None}


def _ed25519_key(told: Any) -> tuple[str, OKPKey | None]:
    """A key of the set; those for other purposes may stand beside ours and are passed over."""
    if not isinstance(told, dict) or told.get("kty") != "OKP" or told.get("crv") != "Ed25519":
        return "", None
    key_id, x = told.get("kid"), told.get("x")
    if not isinstance(key_id, str) or not isinstance(x, str) or told.get("use", "sig") != "sig":
        return "", None
    try:
        # Whatever else was published, only the public part is taken.
        return key_id, OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "kid": key_id, "x": x})
    except (JoseError, ValueError, TypeError):
        log.warning("session key passed over, it cannot be read")
        return "", None
