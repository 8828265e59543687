"""What a gate answers: a call that may be believed, or a refusal with its HTTP status."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from connect.jwt import Claims, InvalidToken, Reason
from connect.keys import KeyHostAway, UnknownKey

RETRY_AFTER_SECONDS = 5


class Refusal(Enum):
    """Why a call was refused, and the HTTP status that says so."""

    INVALID_TOKEN = ("invalid-token", 401)
    UNKNOWN_KEY = ("unknown-key", 401)
    KEY_HOST_AWAY = ("key-host-away", 503)
    FOREIGN_CLIENT_KEY = ("foreign-client-key", 403)
    FOREIGN_INSTALLATION = ("foreign-installation", 403)
    FOREIGN_MODULE = ("foreign-module", 403)
    BY_A_PERSON = ("by-a-person", 403)
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

    def headers(self, realm: str, scheme: str = "JWT") -> dict[str, str]:
        """The HTTP headers that belong to the status: who to sign for, or when to come back.

        ``realm`` is the app's key; ``scheme`` is Bearer where Forge calls.
        """
        if self.status == 401:  # noqa: PLR2004 - HTTP's own number
            return {"WWW-Authenticate": f'{scheme} realm="{realm}"'}
        if self.status == 503:  # noqa: PLR2004 - HTTP's own number
            return {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return {}


@dataclass(frozen=True, slots=True)
class VerifiedCall:
    """A call whose signature holds; ``client_key`` is whose it is."""

    client_key: str = field(repr=False)
    claims: Claims = field(repr=False)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what is wrong with a token or its key into a refusal.

    Raises:
        Refused: with status 401, or 503 where the key could not be had.
    """
    try:
        yield
    except InvalidToken as error:
        raise Refused(Refusal.INVALID_TOKEN, error.reason) from None
    except UnknownKey:
        raise Refused(Refusal.UNKNOWN_KEY) from None
    except KeyHostAway as error:
        raise Refused(Refusal.KEY_HOST_AWAY) from error
