"""What people wish to get: the links by which they say so, and what a choice changes."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from uuid import UUID

from services.notifier.domain.campaigns import OPTIONAL, Kind
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason

UNSUBSCRIBE_PATH: Final = "/unsubscribe"
PREFERENCES_PATH: Final = "/preferences"

_INDEX_BYTES: Final = 32
_MAC_BYTES: Final = 16
_FORMAT: Final = b"\x01"
_MOST_TOKEN_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Link:
    """Whose wishes a token is about, by which message of which campaign they hold it."""

    address_index: bytes = field(repr=False)
    kind: Kind
    campaign_id: UUID


class Links:
    """Makes the links in our messages, and reads their tokens.

    A token holds no address, ends never, and is worth nothing to who cannot
    make it: it carries a code under a key of this purpose alone.
    """

    def __init__(self, keyed_hash: Callable[[str, bytes], bytes], public_url: str) -> None:
        self._keyed_hash = keyed_hash
        self._public_url = public_url.rstrip("/")

    def unsubscribe_url(self, address_index: bytes, kind: Kind, campaign_id: UUID) -> str:
        """Where one click ends messages of a kind (RFC 8058); raises ValueError for what is owed."""
        return (
            f"{self._public_url}{UNSUBSCRIBE_PATH}/{self.token(address_index, kind, campaign_id)}"
        )

    def preferences_url(self, address_index: bytes, kind: Kind, campaign_id: UUID) -> str:
        """Where somebody sees and changes what they get; raises likewise."""
        return (
            f"{self._public_url}{PREFERENCES_PATH}/{self.token(address_index, kind, campaign_id)}"
        )

    def token(self, address_index: bytes, kind: Kind, campaign_id: UUID) -> str:
        """Spell a token of letters, digits, hyphens and underscores."""
        if not kind.optional:
            raise ValueError(f"{kind} is owed to everybody and cannot be declined")
        if len(address_index) != _INDEX_BYTES:
            raise ValueError("this is no index of an address")
        told = _FORMAT + address_index + campaign_id.bytes + kind.value.encode()
        return urlsafe_b64encode(self._code(told) + told).rstrip(b"=").decode()

    def read(self, token: str) -> Link | None:
        """Read a token of ours; None for anything else."""
        try:
            raw = urlsafe_b64decode(token[:_MOST_TOKEN_CHARS] + "=" * (-len(token) % 4))
        except (Error, ValueError):
            return None
        code, told = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(code, self._code(told)) or told[:1] != _FORMAT:
            return None
        index, rest = told[1 : 1 + _INDEX_BYTES], told[1 + _INDEX_BYTES :]
        link = Link(index, Kind(rest[16:].decode()), UUID(bytes=rest[:16]))
        # Base64 has several spellings of one text; ours is one.
        return (
            link if token == self.token(link.address_index, link.kind, link.campaign_id) else None
        )

    def _code(self, told: bytes) -> bytes:
        key = self._keyed_hash("preferences.key", b"")
        return hmac.digest(key, told, sha256)[:_MAC_BYTES]


KINDS: Final = tuple(sorted(OPTIONAL))
SCOPES: Final = (*(kind.value for kind in KINDS), ALL_OPTIONAL)
"""What a person may choose: each kind of news, and all of it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a person gets messages of a scope; ``fixed`` where that is not theirs to change here."""

    scope: str
    wanted: bool
    fixed: bool


def choices(standing: Collection[tuple[str, Reason]]) -> tuple[Choice, ...]:
    """Say what a person gets, of each kind and of all, by what stands against writing to them."""
    declined = {scope for scope, reason in standing if reason is Reason.OPTED_OUT}
    others = {scope for scope, reason in standing if reason is not Reason.OPTED_OUT}

    def choice(scope: str, stopped_by: set[str]) -> Choice:
        fixed = bool(stopped_by & others)
        return Choice(scope, wanted=not fixed and not stopped_by & declined, fixed=fixed)

    everything = {EVERYTHING, ALL_OPTIONAL}
    kinds = tuple(choice(kind.value, {*everything, kind.value}) for kind in KINDS)
    return (*kinds, choice(ALL_OPTIONAL, everything))


@dataclass(frozen=True, slots=True)
class Change:
    """Which scopes a person has declined anew, and which no longer."""

    decline: frozenset[str] = frozenset()
    accept: frozenset[str] = frozenset()


def decide_change(declined: Collection[str], scope: str, *, wanted: bool) -> Change:
    """Say what changes when somebody chooses; ``declined`` are the scopes that they declined so far.

    Who wants all news again gets all of it, and who wants one kind again after
    declining all gets that one alone.
    """
    every_kind = {kind.value for kind in KINDS}
    if not wanted:
        return Change(decline=frozenset({scope} - set(declined)))
    if scope == ALL_OPTIONAL:
        return Change(accept=frozenset({ALL_OPTIONAL, *every_kind} & set(declined)))
    others = every_kind - {scope} if ALL_OPTIONAL in declined else set[str]()
    return Change(
        decline=frozenset(others - set(declined)),
        accept=frozenset({ALL_OPTIONAL, scope} & set(declined)),
    )
