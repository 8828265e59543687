"""Signed installs: proof that an install or uninstall call comes from Atlassian.

Opt-in in the descriptor (``apiMigrations.signed-install``) and enforced since 2021: the call is
signed with RS256 by a key of Atlassian's, for one base URL and one request. The body is not signed;
only its client key is bound to the token.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from connect.install_keys import KeyHostAway, UnknownKey
from connect.jwt import Algorithm, Claims, InvalidToken, Reason, find_token, parse, verify
from connect.lifecycle import LifecycleBody
from connect.qsh import query_string_hash

RETRY_AFTER_SECONDS = 5


class KeySource(Protocol):
    """Where the public keys come from; :class:`connect.install_keys.InstallKeys` is one."""

    async def key(self, key_id: str) -> RSAPublicKey:
        """Give the key of this id, or raise UnknownKey or KeyHostAway."""
        ...


class Refusal(Enum):
    """Why a call was refused, and the HTTP status that says so."""

    INVALID_TOKEN = ("invalid-token", 401)
    UNKNOWN_KEY = ("unknown-key", 401)
    KEY_HOST_AWAY = ("key-host-away", 503)
    FOREIGN_CLIENT_KEY = ("foreign-client-key", 403)
    FOREIGN_APP = ("foreign-app", 400)

    def __init__(self, slug: str, status: int) -> None:
        self.slug = slug
        self.status = status


class Refused(Exception):  # noqa: N818 - names what is so
    """A call must not be acted upon.

    ``reason`` says more where a token was at fault. Nothing in it comes from
    the request, so it may be logged and shown.
    """

    def __init__(self, refusal: Refusal, reason: Reason | None = None) -> None:
        super().__init__(refusal.slug if reason is None else f"{refusal.slug}: {reason}")
        self.refusal = refusal
        self.reason = reason

    @property
    def status(self) -> int:
        """The HTTP status to answer with."""
        return self.refusal.status

    def headers(self, app_key: str) -> dict[str, str]:
        """The HTTP headers that belong to the status: who to sign for, or when to come back."""
        if self.status == 401:  # noqa: PLR2004 - HTTP's own number
            return {"WWW-Authenticate": f'JWT realm="{app_key}"'}
        if self.status == 503:  # noqa: PLR2004 - HTTP's own number
            return {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return {}


@dataclass(frozen=True, slots=True)
class VerifiedCall:
    """A call that Atlassian signed for this app; ``client_key`` is whose it is."""

    client_key: str = field(repr=False)
    claims: Claims = field(repr=False)


class SignedInstalls:
    """The gate of one app's ``installed`` and ``uninstalled`` calls.

    One gate serves one app: the body's app key is not signed, so the audience
    (the app's own base URL) is all that keeps a call to one app from being
    played to another on the same backend. ``now`` is in seconds since 1970.
    """

    def __init__(
        self,
        keys: KeySource,
        app_key: str,
        audiences: Collection[str],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not audiences or isinstance(audiences, str):
            raise ValueError("name the base URLs that calls must be addressed to")
        self._keys = keys
        self._app_key = app_key
        self._audiences = frozenset(audiences)
        self._now = now

    async def verify(
        self,
        *,
        method: str,
        raw_path: str | bytes,
        raw_query: str | bytes,
        authorization: str | Iterable[str] | None,
        base_path: str = "",
    ) -> VerifiedCall:
        """Check that Atlassian signed this very request for this app, before the body is read.

        ``raw_path`` and ``raw_query`` are as on the wire, ``base_path`` is the
        path of the app's public base URL, ``authorization`` every value of
        that header. Nothing is written and no secret is needed; the only
        thing waited for is a key that is not known yet.

        Raises:
            Refused: with status 401, or 503 where the key could not be had.
        """
        try:
            token = parse(
                find_token(authorization=authorization, raw_query=raw_query), Algorithm.RS256
            )
            if token.key_id is None:
                raise Refused(Refusal.INVALID_TOKEN, Reason.KEY_ID)
            claims = verify(
                token,
                await self._keys.key(token.key_id),
                now=self._now(),
                audiences=self._audiences,
                qsh=query_string_hash(method, raw_path, raw_query, base_path),
            )
        except InvalidToken as error:
            raise Refused(Refusal.INVALID_TOKEN, error.reason) from None
        except UnknownKey:
            raise Refused(Refusal.UNKNOWN_KEY) from None
        except KeyHostAway as error:
            raise Refused(Refusal.KEY_HOST_AWAY) from error
        return VerifiedCall(claims.issuer, claims)

    def check_body(self, call: VerifiedCall, body: LifecycleBody) -> None:
        """Check that the body speaks of the customer who signed, and of this app.

        That its event fits the route is already so: each event has its model.

        Raises:
            Refused: with status 403 for another customer's client key, 400
                for another app's key.
        """
        if body.client_key != call.client_key:
            raise Refused(Refusal.FOREIGN_CLIENT_KEY)
        if body.key != self._app_key:
            raise Refused(Refusal.FOREIGN_APP)
