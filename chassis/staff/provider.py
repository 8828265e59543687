"""The identity provider: where it is, what it signs with, and which of its tokens are believed.

OpenID Connect Core 1.0, Discovery 1.0 and Back-Channel Logout 1.0; PKCE is RFC 7636.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx2
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from chassis.egress import MakeClient
from chassis.signing import encoded
from chassis.staff.people import Person, Role, roles_in

log = structlog.get_logger(__name__)

LEEWAY_SECONDS: Final = 60
LOGOUT_TOKENS_LAST: Final = timedelta(minutes=3)
KEPT_SECONDS: Final = 3600.0
FETCHED_AT_MOST_EVERY_SECONDS: Final = 10.0
_TIMEOUT_SECONDS: Final = 10.0
_MOST_BYTES: Final = 256 * 1024
_MOST_TOKEN_CHARACTERS: Final = 16 * 1024
# Signatures by a key pair alone. With a shared secret everybody who can check could also sign.
_ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
# As long as the shortest column for the name of somebody of staff.
_LONGEST_SUBJECT: Final = 80
_LONGEST_NAME: Final = 80


class ProviderAway(Exception):  # noqa: N818 - reads as the fact it states
    """The identity provider does not answer, or not as one does."""


class TokenRefused(Exception):  # noqa: N818 - reads as the fact it states
    """A token must not be trusted; the message says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Client:
    """What a service is to the provider, and what it believes of it.

    ``command_id`` is the public client of the ``keepword`` command; a public client has no
    ``secret_file``. ``second_factors`` are the values of ``amr`` (RFC 8176) of which a token has to
    name one; with none, none is asked for.
    """

    issuer: str
    client_id: str
    secret_file: Path | None
    command_id: str
    groups: Mapping[Role, str]
    groups_claim: str
    second_factors: frozenset[str]
    # By which the provider is asked.
    http: MakeClient = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedOn:
    """Who has signed on, and the provider's session by which it signs them out again."""

    person: Person
    provider_session: str | None
    expires_at: datetime
    # The ID token itself, which no service keeps.
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Whose sessions end: all of a person's, or those of one of the provider's sessions."""

    subject: str | None
    provider_session: str | None


@dataclass(frozen=True, slots=True)
class _Metadata:
    authorization: str
    token: str
    keys: str
    end_session: str | None


class Provider:
    """One identity provider; what it says of itself is kept for an hour, and its keys likewise.

    An unknown key makes keys be fetched again, but whatever tokens come at most every ten seconds.
    """

    def __init__(
        self,
        client: Client,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._monotonic = monotonic
        self._metadata: _Metadata | None = None
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def sign_on_url(
        self, *, redirect_uri: str, state: str, nonce: str, verifier: str, silently: bool
    ) -> str:
        """Where a browser goes to sign on; ``silently`` where the provider is to ask nothing.

        Of the ``verifier`` the address tells the hash alone (RFC 7636, section 4.2).
        """
        metadata = await self._known()
        asked = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": encoded(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            **({"prompt": "none"} if silently else {}),
        }
        return f"{metadata.authorization}?{urlencode(asked)}"

    async def sign_out_url(self, back_to: str) -> str | None:
        """Where a browser goes to be signed out at the provider, None where that has no such place."""
        end = (await self._known()).end_session
        asked = {"client_id": self.client.client_id, "post_logout_redirect_uri": back_to}
        return None if end is None else f"{end}?{urlencode(asked)}"

    async def redeem(
        self, code: str, *, verifier: str, redirect_uri: str, nonce: str, wall: datetime
    ) -> SignedOn:
        """Exchange a code for an ID token, and say who has signed on by it.

        Raises:
            TokenRefused: the provider refuses the code, or its token is none for us.
            ProviderAway: it does not answer.
        """
        metadata = await self._known()
        told = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        answer = await self._ask("POST", metadata.token, **await self._as_client(told))
        if answer.is_client_error:
            raise TokenRefused("the provider does not take the code")
        token = _object(answer).get("id_token")
        if not isinstance(token, str):
            raise TokenRefused("the provider gave no ID token")
        claims = await self._claims(token, audience=self.client.client_id, wall=wall)
        if claims.get("nonce") != nonce:
            raise TokenRefused("its nonce is of another sign-on")
        return self._signed_on(claims, token)

    async def _as_client(self, told: Mapping[str, str]) -> Mapping[str, Any]:
        """Say who asks: by a secret, or as a public client by its name alone (RFC 6749, 3.2.1)."""
        if self.client.secret_file is None:
            return {"data": {**told, "client_id": self.client.client_id}}
        secret = await asyncio.to_thread(self.client.secret_file.read_text, "utf-8")
        return {"data": told, "auth": (self.client.client_id, secret.strip())}

    async def bearer(self, token: str, *, wall: datetime) -> Person:
        """Say who sends a token that the ``keepword`` command was given.

        Raises:
            TokenRefused: it is none for the command.
            ProviderAway: keys cannot be fetched.
        """
        claims = await self._claims(token, audience=self.client.command_id, wall=wall)
        return self._signed_on(claims, token).person

    async def logout(self, token: str, *, wall: datetime) -> SignedOut:
        """Read a logout token (Back-Channel Logout 1.0, section 2.6); raises as `bearer` does."""
        claims = await self._claims(token, audience=self.client.client_id, wall=wall, expires=False)
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
            raise TokenRefused("it is no logout token")
        if "nonce" in claims:
            raise TokenRefused("it is an ID token")
        age = wall.timestamp() - _number(claims.get("iat"))
        if age > LOGOUT_TOKENS_LAST.total_seconds() + LEEWAY_SECONDS:
            raise TokenRefused("it is too old")
        subject, session = claims.get("sub"), claims.get("sid")
        if not isinstance(subject, str | None) or not isinstance(session, str | None):
            raise TokenRefused("it names nobody")
        if not subject and not session:
            raise TokenRefused("it names nobody")
        return SignedOut(subject, session)

    async def _claims(
        self, token: str, *, audience: str, wall: datetime, expires: bool = True
    ) -> Mapping[str, Any]:
        """Verify a token of the provider for one audience (Core 1.0, section 3.1.3.7)."""
        if len(token) > _MOST_TOKEN_CHARACTERS:
            raise TokenRefused("it is too long")
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
        except (JoseError, ValueError, TypeError):
            raise TokenRefused("it cannot be read") from None
        if header.get("alg") not in _ALGORITHMS:
            raise TokenRefused("its algorithm is none that is taken")
        keys = await self._keys_with(header.get("kid"))
        registry = jwt.JWTClaimsRegistry(
            now=int(wall.timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self.client.issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": expires},
            iat={"essential": True},
        )
        try:
            claims = jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
            registry.validate(claims)
        except JoseError as refused:
            raise TokenRefused(f"it is not valid: {refused.error}") from None
        except (ValueError, TypeError, AttributeError, KeyError):
            raise TokenRefused("it cannot be read") from None
        _require_party(claims, audience)
        return claims

    def _signed_on(self, claims: Mapping[str, Any], token: str) -> SignedOn:
        subject, name, session = claims.get("sub"), claims.get("name"), claims.get("sid")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise TokenRefused("it names nobody")
        if "events" in claims:
            raise TokenRefused("it is a logout token")
        wanted, used = self.client.second_factors, claims.get("amr")
        if wanted and not (isinstance(used, list) and any(each in wanted for each in used)):
            raise TokenRefused("no second factor was used")
        roles = roles_in(claims, self.client.groups, claim=self.client.groups_claim)
        shown = name if isinstance(name, str) and name.strip() else subject
        person = Person(subject, shown[:_LONGEST_NAME], roles)
        expires_at = datetime.fromtimestamp(_number(claims.get("exp")), UTC)
        return SignedOn(person, session if isinstance(session, str) else None, expires_at, token)

    async def _known(self) -> _Metadata:
        if self._metadata is None or self._monotonic() - self._fetched_at > KEPT_SECONDS:
            await self._fetch()
        if self._metadata is None:
            raise ProviderAway("it has not said where it is asked")
        return self._metadata

    async def _keys_with(self, key_id: object) -> KeySet:
        await self._known()
        if key_id is not None and not self._holds(key_id):
            await self._fetch()
        if self._keys is None:
            raise ProviderAway("its keys are not known")
        return self._keys

    def _holds(self, key_id: object) -> bool:
        return self._keys is not None and any(key.kid == key_id for key in self._keys.keys)

    async def _fetch(self) -> None:
        """Ask the provider where it is and what it signs with; what was known stays in use."""
        async with self._fetching:
            if self._monotonic() - self._tried_at < FETCHED_AT_MOST_EVERY_SECONDS:
                return
            self._tried_at = self._monotonic()
            url = f"{self.client.issuer.rstrip('/')}/.well-known/openid-configuration"
            try:
                metadata = _metadata(_object(await self._ask("GET", url)), self.client.issuer)
                told = _object(await self._ask("GET", metadata.keys))
                keys = KeySet.import_key_set(told)  # type: ignore[arg-type]
            except (ProviderAway, JoseError, ValueError, TypeError, KeyError) as failure:
                log.warning("identity provider not read", error=type(failure).__name__)
                return
            self._metadata, self._keys = metadata, keys
            self._fetched_at = self._tried_at

    async def _ask(self, method: str, url: str, **told: Any) -> httpx2.Response:
        try:
            async with self.client.http() as http:
                answer = await http.request(method, url, timeout=_TIMEOUT_SECONDS, **told)
        except httpx2.HTTPError as failure:
            raise ProviderAway(type(failure).__name__) from None
        if answer.is_server_error or answer.is_redirect or len(answer.content) > _MOST_BYTES:
            raise ProviderAway("it does not answer as a provider does")
        return answer


def _require_party(claims: Mapping[str, Any], audience: str) -> None:
    """Raise where a token is meant for others besides, or was given to another client."""
    party = claims.get("azp")
    if party is not None and party != audience:
        raise TokenRefused("it was given to another client")
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and party is None:
        raise TokenRefused("it is for several, and does not say to whom it was given")


def _metadata(told: Mapping[str, Any], issuer: str) -> _Metadata:
    if told.get("issuer") != issuer:
        raise ProviderAway("it calls itself otherwise")
    end = told.get("end_session_endpoint")
    return _Metadata(
        authorization=_address(told["authorization_endpoint"], issuer),
        token=_address(told["token_endpoint"], issuer),
        keys=_address(told["jwks_uri"], issuer),
        end_session=None if end is None else _address(end, issuer),
    )


def _address(told: object, issuer: str) -> str:
    if not isinstance(told, str):
        raise ProviderAway("it does not say where it is asked")
    parts = urlsplit(told)
    # Only a provider on this machine may do without TLS.
    if parts.scheme != urlsplit(issuer).scheme and parts.scheme != "https":
        raise ProviderAway("it names an address without TLS")
    return told


def _object(answer: httpx2.Response) -> Mapping[str, Any]:
    if not answer.is_success:
        raise ProviderAway("it does not answer as a provider does")
    try:
        told = answer.json()
    except ValueError:
        raise ProviderAway("it does not answer in JSON") from None
    if not isinstance(told, dict):
        raise ProviderAway("it does not answer as a provider does")
    return told


def _number(told: object) -> float:
    return float(told) if isinstance(told, int | float) else 0.0
