"""Tokens that one service signs and others check offline, by the keys that the first publishes."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import httpx2
import structlog
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from chassis.egress import MakeClient

log = structlog.get_logger(__name__)

KEPT_SECONDS: Final = 3600.0
FETCHED_AT_MOST_EVERY_SECONDS: Final = 10.0
_TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 64 * 1024


class KeysAway(Exception):  # noqa: N818 - reads as the fact it states
    """No key is known, and who publishes them cannot be asked now."""


class TokenKeys(Protocol):
    """Finds the key of a token."""

    async def find(self, key_id: str) -> OKPKey | None:
        """The Ed25519 key of this id, None where there is none; raises ``KeysAway``."""


class PublishedKeys:
    """A service's JWKS (RFC 7517), kept for an hour.

    An unknown id makes it be fetched again, but whatever ids come it is asked at
    most every ten seconds. While the service is away the keys fetched before
    stay in use.
    """

    def __init__(
        self,
        url: str,
        client: MakeClient,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._client = client
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
            async with self._client() as client:
                answer = await client.get(self._url, timeout=_TIMEOUT_SECONDS)
            answer.raise_for_status()
            self._keys = _ed25519_keys(answer)
        except (httpx2.HTTPError, ValueError) as failure:
            log.warning("keys of tokens not fetched", url=self._url, error=type(failure).__name__)
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
        log.warning("key of tokens passed over, it cannot be read")
        return "", None


LEEWAY_SECONDS: Final = 5
"""How far our clock and the issuer's may differ."""

_MOST_TOKEN_CHARACTERS: Final = 4096
_ALGORITHM: Final = "EdDSA"


class TokenRefused(Exception):  # noqa: N818 - reads as the fact it states
    """A token must not be trusted; there is nothing more to say about it."""


class TokenOver(TokenRefused):
    """A token of the issuer's for this audience whose time is over."""


class EdDSAAlone(jws.JWSRegistry):
    """Knows one algorithm, whatever a token asks for.

    joserfc calls the name ``EdDSA`` deprecated in favour of RFC 9864's ``Ed25519``. Both
    are the same signature here, as no key of another curve is ever handed in.
    """

    def get_alg(self, name: str) -> Any:
        """Answer EdDSA, refuse every other name."""
        if name != _ALGORITHM:
            raise UnsupportedAlgorithmError
        return self.algorithms[_ALGORITHM]


def key_id_of(token: str) -> str:
    """Say which key a token claims to be signed with; raises ``TokenRefused``.

    Nothing of the token may be believed before ``claims_of`` has returned.
    """
    if len(token) > _MOST_TOKEN_CHARACTERS:
        raise TokenRefused
    try:
        header = jws.extract_compact(token.encode("ascii"), registry=EdDSAAlone()).headers()
    except (JoseError, ValueError, TypeError):
        raise TokenRefused from None
    key_id = header.get("kid")
    if header.get("alg") != _ALGORITHM or not isinstance(key_id, str):
        raise TokenRefused
    return key_id


def claims_of(
    token: str, key: OKPKey | None, *, issuer: str, audience: str, at: datetime
) -> Mapping[str, Any]:
    """Verify a token offline and say what it claims; raises ``TokenRefused``.

    The signature must be EdDSA under ``key``, which is None where the token's
    key id is nobody's; ``iss``, ``aud``, ``exp`` and ``sub`` must be there and
    hold (RFC 7519 section 4.1, RFC 8037 section 3.1). Where only its time is
    over, ``TokenOver`` is raised.
    """
    if key is None:
        raise TokenRefused
    claims = jwt.JWTClaimsRegistry(
        now=int(at.timestamp()),
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        verified: Mapping[str, Any] = jwt.decode(token, key, registry=EdDSAAlone()).claims
        # Its time is looked at last: it is over only for who was meant.
        claims.validate(dict(sorted(verified.items(), key=lambda claim: claim[0] == "exp")))
    except ExpiredTokenError:
        raise TokenOver from None
    except (JoseError, ValueError, TypeError, AttributeError):
        raise TokenRefused from None
    return verified
