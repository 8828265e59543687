"""Atlassian's tokens: found in a request, read strictly, verified with an algorithm we chose.

The subset of JWT (RFC 7519) in compact form that Connect and Forge use: RS256 for signed installs
and Forge's invocations, HS256 for everything else. The token never chooses its algorithm, and an
error never repeats the token.
"""

import binascii
import hashlib
import hmac
import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn, TypeGuard
from urllib.parse import unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

LEEWAY_SECONDS = 30
"""How far our clock and the signer's may differ."""

MAX_LIFETIME_SECONDS = 24 * 60 * 60
"""The longest time between ``iat`` and ``exp``; Atlassian's own tokens live for minutes."""

MAX_TOKEN_BYTES = 8192
"""No token of Atlassian's comes near this; a longer one is refused unread."""

MAX_ISSUER_LENGTH = 255

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_PADDING = PKCS1v15()
_SHA256 = SHA256()


class Algorithm(StrEnum):
    """The two signature algorithms of Connect and Forge."""

    RS256 = "RS256"
    HS256 = "HS256"


class Reason(StrEnum):
    """Why a token was refused: safe to log and to show."""

    NO_TOKEN = "no token"  # noqa: S105 - a reason
    TWO_TOKENS = "more than one token"
    TOO_LARGE = "too large"
    MALFORMED = "malformed"
    ALGORITHM = "another algorithm"
    CRITICAL_HEADER = "critical header"
    KEY_ID = "no key id of a known shape"
    SIGNATURE = "signature"
    MISSING_CLAIM = "missing claim"
    CLAIM_SHAPE = "claim of the wrong shape"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    ISSUED_IN_THE_FUTURE = "issued in the future"
    LIFETIME = "lifetime"
    AUDIENCE = "another audience"
    ISSUER = "another issuer"
    QSH = "another request"


class InvalidToken(Exception):  # noqa: N818 - names what is so
    """A token is absent or must not be trusted; ``reason`` is all there is to say about it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says; times are seconds since 1970."""

    issuer: str = field(repr=False)
    audiences: tuple[str, ...]
    issued_at: float
    expires_at: float
    qsh: str | None


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedToken:
    """A token whose form is right and whose signature nobody has checked yet.

    ``key_id`` and ``claimed_issuer`` serve to find the key; neither may be
    believed before :func:`verify` has returned. An issuer of a shape that
    could not be looked up is None.
    """

    algorithm: Algorithm
    key_id: str | None
    claimed_issuer: str | None
    signing_input: bytes
    signature: bytes
    payload: Mapping[str, Any]


def find_token(
    *,
    authorization: str | Iterable[str] | None = None,
    raw_query: str | bytes = "",
    raw_form: str | bytes = "",
) -> str:
    """Take the one token from a request's header, query or form.

    ``authorization`` is every value of that header; only the scheme ``JWT``
    counts. A request that carries two tokens is refused, even two equal ones:
    what verifies and what is acted upon must be the same.

    Raises:
        InvalidToken: there is none, or more than one.
    """
    return _the_only(
        _credentials(authorization, "jwt")
        + _parameters_named_jwt(raw_query)
        + _parameters_named_jwt(raw_form)
    )


def find_bearer_token(authorization: str | Iterable[str] | None) -> str:
    """Take the one token that a request bears in its ``Authorization`` header, as Forge sends it.

    Raises:
        InvalidToken: there is none, or more than one.
    """
    return _the_only(_credentials(authorization, "bearer"))


def parse(token: str, algorithm: Algorithm) -> UnverifiedToken:
    """Read a compact token that must be signed with ``algorithm``; nothing is verified.

    Refused are other algorithms, ``crit``, names given twice at any depth,
    non-canonical base64url and anything beyond :data:`MAX_TOKEN_BYTES`.

    Raises:
        InvalidToken: the token has not this form.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(Reason.TOO_LARGE)
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise InvalidToken(Reason.MALFORMED)
    header = _json_object(match[1])
    if header.get("alg") != algorithm.value:
        raise InvalidToken(Reason.ALGORITHM)
    if "crit" in header:
        raise InvalidToken(Reason.CRITICAL_HEADER)
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise InvalidToken(Reason.KEY_ID)
    payload = _json_object(match[2])
    issuer = payload.get("iss")
    return UnverifiedToken(
        algorithm=algorithm,
        key_id=key_id,
        claimed_issuer=issuer if _is_issuer(issuer) else None,
        signing_input=token[: match.end(2)].encode("ascii"),
        signature=_decoded(match[3]),
        payload=payload,
    )


def verify(
    token: UnverifiedToken,
    key: RSAPublicKey | bytes,
    *,
    now: float,
    audiences: Collection[str] | None = None,
    issuer: str | None = None,
    qsh: str | None = None,
) -> Claims:
    """Check signature, audience, times, issuer and request, in this order.

    ``key`` is an RSA public key for RS256 and the shared secret for HS256.
    ``exp`` and ``iat`` must be there, ``nbf`` is honoured, and clocks may
    differ by :data:`LEEWAY_SECONDS`. ``audiences``, ``issuer`` and ``qsh`` are
    checked where given; a trailing slash of an audience does not matter.

    Raises:
        InvalidToken: one of the checks failed; the first one names the reason.
    """
    _check_signature(token, key)
    claims = _claims(token.payload)
    if audiences is not None and not _same_audience(claims.audiences, audiences):
        raise InvalidToken(Reason.AUDIENCE)
    _check_times(claims, _time(token.payload, "nbf", required=False), now)
    if issuer is not None and claims.issuer != issuer:
        raise InvalidToken(Reason.ISSUER)
    if qsh is not None and claims.qsh != qsh:
        raise InvalidToken(Reason.QSH)
    return claims


def sign(
    claims: Mapping[str, Any],
    key: RSAPrivateKey | bytes,
    *,
    key_id: str | None = None,
) -> str:
    """Make a compact token: RS256 under an RSA key, HS256 under a shared secret."""
    algorithm = Algorithm.HS256 if isinstance(key, bytes) else Algorithm.RS256
    header = {"typ": "JWT", "alg": algorithm.value} | ({"kid": key_id} if key_id else {})
    signing_input = b".".join(
        _encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)
    )
    if isinstance(key, bytes):
        signature = hmac.digest(key, signing_input, hashlib.sha256)
    else:
        signature = key.sign(signing_input, _PADDING, _SHA256)
    return (signing_input + b"." + _encoded(signature)).decode("ascii")


def _credentials(authorization: str | Iterable[str] | None, scheme: str) -> list[str]:
    values = (authorization,) if isinstance(authorization, str) else (authorization or ())
    return [
        token.strip()
        for found, _, token in (value.strip().partition(" ") for value in values)
        if found.lower() == scheme
    ]


def _the_only(tokens: list[str]) -> str:
    if not tokens:
        raise InvalidToken(Reason.NO_TOKEN)
    if len(tokens) > 1:
        raise InvalidToken(Reason.TWO_TOKENS)
    return tokens[0]


def _check_signature(token: UnverifiedToken, key: RSAPublicKey | bytes) -> None:
    match token.algorithm, key:
        case Algorithm.RS256, RSAPublicKey():
            try:
                key.verify(token.signature, token.signing_input, _PADDING, _SHA256)
            except InvalidSignature:
                raise InvalidToken(Reason.SIGNATURE) from None
        case Algorithm.HS256, bytes() if key:
            expected = hmac.digest(key, token.signing_input, hashlib.sha256)
            if not hmac.compare_digest(expected, token.signature):
                raise InvalidToken(Reason.SIGNATURE)
        case _:
            raise TypeError(f"{token.algorithm} needs a key of its own kind")


def _claims(payload: Mapping[str, Any]) -> Claims:
    issuer, qsh = payload.get("iss"), payload.get("qsh")
    if issuer is None:
        raise InvalidToken(Reason.MISSING_CLAIM)
    if not _is_issuer(issuer):
        raise InvalidToken(Reason.CLAIM_SHAPE)
    if qsh is not None and not isinstance(qsh, str):
        raise InvalidToken(Reason.CLAIM_SHAPE)
    return Claims(
        issuer=issuer,
        audiences=_audiences(payload.get("aud")),
        issued_at=_time(payload, "iat"),
        expires_at=_time(payload, "exp"),
        qsh=qsh,
    )


def _is_issuer(claim: Any) -> TypeGuard[str]:
    """Say whether this may be looked up: no NUL, half a surrogate pair or endless text."""
    return isinstance(claim, str) and 0 < len(claim) <= MAX_ISSUER_LENGTH and claim.isprintable()


def _audiences(claim: Any) -> tuple[str, ...]:
    if claim is None:
        return ()
    audiences = [claim] if isinstance(claim, str) else claim
    if not isinstance(audiences, list) or not all(isinstance(each, str) for each in audiences):
        raise InvalidToken(Reason.CLAIM_SHAPE)
    return tuple(audiences)


def _same_audience(claimed: Collection[str], ours: Collection[str]) -> bool:
    accepted = {audience.rstrip("/") for audience in ours}
    return any(audience.rstrip("/") in accepted for audience in claimed)


def _time(payload: Mapping[str, Any], name: str, *, required: bool = True) -> float:
    seconds = payload.get(name)
    if seconds is None:
        if required:
            raise InvalidToken(Reason.MISSING_CLAIM)
        return -math.inf
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidToken(Reason.CLAIM_SHAPE)
    if not 0 <= seconds < _END_OF_TIME:  # which also keeps infinity out
        raise InvalidToken(Reason.CLAIM_SHAPE)
    return seconds


_END_OF_TIME = 253_402_300_800  # the year 10000, where datetime ends


def _check_times(claims: Claims, not_before: float, now: float) -> None:
    if now >= claims.expires_at + LEEWAY_SECONDS:
        raise InvalidToken(Reason.EXPIRED)
    if now < not_before - LEEWAY_SECONDS:
        raise InvalidToken(Reason.NOT_YET_VALID)
    if now < claims.issued_at - LEEWAY_SECONDS:
        raise InvalidToken(Reason.ISSUED_IN_THE_FUTURE)
    if not 0 < claims.expires_at - claims.issued_at <= MAX_LIFETIME_SECONDS:
        raise InvalidToken(Reason.LIFETIME)


def _parameters_named_jwt(raw: str | bytes) -> list[str]:
    if not raw:
        return []
    text = raw if isinstance(raw, str) else raw.decode(errors="replace")
    pairs = (pair.partition("=") for pair in text.split("&"))
    return [unquote_plus(value) for name, _, value in pairs if unquote_plus(name) == "jwt"]


def _json_object(segment: str) -> dict[str, Any]:
    try:
        value = _STRICT_JSON.decode(_decoded(segment).decode())
    except (ValueError, RecursionError):  # bad UTF-8 or JSON, a name twice, too deep
        value = None
    if not isinstance(value, dict):
        raise InvalidToken(Reason.MALFORMED)
    return value


def _decoded(segment: str) -> bytes:
    raw = segment.encode("ascii")
    try:
        value = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        raise InvalidToken(Reason.MALFORMED) from None
    if _encoded(value) != raw:  # spare bits must be zero, so a token has one spelling
        raise InvalidToken(Reason.MALFORMED)
    return value


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is given twice")
    return value


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique_names, parse_constant=_no_constant)
