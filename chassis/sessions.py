"""Session tokens: whose browser asks, verified offline by the keys that the installer publishes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from joserfc.jwk import OKPKey
from starlette.requests import Request

from chassis.problems import Problem
from chassis.tokens import KeysAway, TokenKeys, TokenRefused, claims_of, key_id_of

ADMINISTRATOR: Final = "administrator"
"""The ``role`` in a token of who administers the tenant's site."""


@dataclass(frozen=True, slots=True)
class Session:
    """Whose browser asks: which tenant's, and whether the person administers its site."""

    tenant_id: UUID
    administers: bool = False


def session_of_token(
    token: str, key: OKPKey | None, *, issuer: str, audience: str, at: datetime
) -> Session:
    """Verify a session token offline and say whose session it is; raises ``TokenRefused``."""
    claims = claims_of(token, key, issuer=issuer, audience=audience, at=at)
    try:
        return Session(UUID(claims["sub"]), claims.get("role") == ADMINISTRATOR)
    except ValueError:
        raise TokenRefused from None


@dataclass(frozen=True, slots=True)
class Sessions:
    """Says whose session a request is; tokens are the ``issuer``'s, and meant for ``audience``."""

    keys: TokenKeys
    issuer: str
    audience: str

    async def tenant_of(self, request: Request, *, wall: datetime) -> UUID:
        """Say which tenant's session this is; as ``session_of``."""
        return (await self.session_of(request, wall=wall)).tenant_id

    async def session_of(self, request: Request, *, wall: datetime) -> Session:
        """Say whose session this is: the token decides, and nothing else in the request.

        Sessions are about who sits there now, which no deadline's clock can say, so the time is
        ``wall``. Raises ``Problem``: 401 without a valid token, 503 where none can be verified.
        """
        token = _bearer_token(request)
        try:
            return session_of_token(
                token,
                await self.keys.find(key_id_of(token)),
                issuer=self.issuer,
                audience=self.audience,
                at=wall,
            )
        except TokenRefused:
            raise _unauthorized('Bearer error="invalid_token"') from None
        except KeysAway:
            raise Problem(
                503,
                detail="Sessions cannot be verified now. Try again.",
                headers={"retry-after": "5"},
            ) from None


def _bearer_token(request: Request) -> str:
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    # RFC 6750 section 3: who sent no token is told of no error.
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthorized("Bearer")
    return token.strip()


def _unauthorized(challenge: str) -> Problem:
    return Problem(
        401,
        detail="A session token is needed, and this is none that is valid.",
        headers={"www-authenticate": challenge},
    )
