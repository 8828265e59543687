"""Signed requests: proof that a call comes from a site that installed the app, or from its page.

Everything but ``installed`` and ``uninstalled`` is signed (HS256) with the secret that the site sent on
install: ``enabled``, ``disabled``, webhooks, iframes, and the context tokens of the app's own front end.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from connect.calls import VerifiedCall, refusing
from connect.jwt import Algorithm, Claims, InvalidToken, Reason, find_token, parse, verify
from connect.qsh import CONTEXT_QSH, query_string_hash

SecretSource = Callable[[str], Awaitable[Sequence[bytes]]]
"""Gives the secrets of the site with this client key, of one app.

An unknown site has no secret. A known one has its present secret and, for as long as requests may be
in flight, the one that was replaced. The client key is only claimed so far.
"""


class SignedRequests:
    """The gate of one app's calls that are signed with a site's secret.

    One gate serves one app, and ``secrets`` knows that app's sites alone. The
    issuer that a token claims finds the secrets, and is believed once one of
    them fits. A site that nobody knows is refused like a wrong signature, so
    the answer does not say who is a customer. ``now`` is in seconds since 1970.
    """

    def __init__(self, secrets: SecretSource, *, now: Callable[[], float] = time.time) -> None:
        self._secrets = secrets
        self._now = now

    async def verify(
        self,
        *,
        method: str,
        raw_path: str | bytes,
        raw_query: str | bytes,
        authorization: str | Iterable[str] | None,
        raw_form: str | bytes = "",
        base_path: str = "",
    ) -> VerifiedCall:
        """Check that a site of ours signed this very request.

        ``raw_path`` and ``raw_query`` are as on the wire, ``base_path`` is the
        path of the app's public base URL, ``authorization`` every value of
        that header. ``raw_form`` is the body where it is a form: it may carry
        the token, and where there is no query the hash may be of it instead.
        A context token is bound to no request and is refused.

        Raises:
            Refused: with status 401.
        """
        with refusing():
            claims = await self._verified(
                find_token(authorization=authorization, raw_query=raw_query, raw_form=raw_form)
            )
            hashes = {query_string_hash(method, raw_path, raw_query, base_path)}
            if (
                raw_form and not raw_query
            ):  # a habit of Apache's client, which Atlassian's ACE allows
                hashes.add(query_string_hash(method, raw_path, raw_form, base_path))
            if claims.qsh not in hashes:
                raise InvalidToken(Reason.QSH)
        return VerifiedCall(claims.issuer, claims)

    async def verify_context(self, *, authorization: str | Iterable[str] | None) -> VerifiedCall:
        """Check that the request comes from the app's own page at a site of ours.

        Only for routes that this page calls: a context token
        (``AP.context.getToken``) fits every one of them for as long as it
        lives. It is taken from the header alone, and a token that is bound to
        a request is refused. Who the person is stays in the token.

        Raises:
            Refused: with status 401.
        """
        with refusing():
            claims = await self._verified(find_token(authorization=authorization))
            if claims.qsh != CONTEXT_QSH:
                raise InvalidToken(Reason.QSH)
        return VerifiedCall(claims.issuer, claims)

    async def _verified(self, text: str) -> Claims:
        token = parse(text, Algorithm.HS256)
        issuer = token.claimed_issuer
        for secret in await self._secrets(issuer) if issuer is not None else ():
            try:
                return verify(token, secret, now=self._now())
            except InvalidToken as error:
                if error.reason is not Reason.SIGNATURE:
                    raise
        raise InvalidToken(Reason.SIGNATURE)
