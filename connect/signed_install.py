"""Signed installs: proof that an install or uninstall call comes from Atlassian.

Opt-in in the descriptor (``apiMigrations.signed-install``) and enforced since 2021: the call is
signed with RS256 by a key of Atlassian's, for one base URL and one request. The body is not signed;
only its client key is bound to the token.
"""

import time
from collections.abc import Callable, Collection, Iterable

from connect.calls import Refusal, Refused, VerifiedCall, refusing
from connect.jwt import Algorithm, InvalidToken, Reason, find_token, parse, verify
from connect.keys import KeySource
from connect.lifecycle import LifecycleBody
from connect.qsh import query_string_hash


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
        with refusing():
            token = parse(
                find_token(authorization=authorization, raw_query=raw_query), Algorithm.RS256
            )
            if token.key_id is None:
                raise InvalidToken(Reason.KEY_ID)
            claims = verify(
                token,
                await self._keys.key(token.key_id),
                now=self._now(),
                audiences=self._audiences,
                qsh=query_string_hash(method, raw_path, raw_query, base_path),
            )
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
