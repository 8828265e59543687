"""A person's request about their own data: what may be asked, and by when it is answered."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import StringConstraints, TypeAdapter, ValidationError

from contracts.deadlines import add_months, local_date
from services.notifier.domain.people import Address, Language, Name, Role

REQUEST_PATH: Final = "/privacy/request"
ANSWER_PATH: Final = "/privacy/answer"

LINK_LASTS: Final = timedelta(days=7)
"""How long a link answers a request. A request whose link nobody used is dropped then."""

RECORD_KEPT: Final = timedelta(days=1096)
"""How long it is kept that a request was answered: so long somebody may claim that it was not."""

MOST_A_DAY: Final = 3
"""How many links are mailed to one address in a day; more would be somebody's mischief."""

MOST_AN_HOUR: Final = 300
"""How many requests are taken in an hour from everybody."""


class RequestKind(StrEnum):
    """What a person may ask for, by the article of the GDPR."""

    ACCESS = "access"
    """Article 15."""
    CORRECTION = "correction"
    """Article 16: of the name and the language. Another address is another contact."""
    ERASURE = "erasure"
    """Article 17."""
    OBJECTION = "objection"
    """Article 21: to news of products."""


class Answerer(StrEnum):
    """Who answered a request, as a role and never by name."""

    PERSON = "person"
    """The person, who had the link."""
    PRIVACY = "privacy"
    SUPPORT = "support"


class Format(StrEnum):
    """In what an export is given, each once for a request."""

    JSON = "json"
    PDF = "pdf"


def due_on(received_at: datetime | date) -> date:
    """Say by when a request has to be answered: one month on, clamped to the month's end.

    GDPR, Article 12(3). Counted from the earliest date that the moment has
    anywhere on earth, and without the two months more that the law would let us take.
    """
    return add_months(local_date(received_at), 1)


@dataclass(frozen=True, slots=True)
class PersonRequest:
    """A request as it is recorded, with nothing of the person but the address's keyed hash."""

    request_id: UUID
    kind: RequestKind
    address_index: bytes = field(repr=False)
    received_at: datetime
    due_on: date
    answered_at: datetime | None = None
    answered_by: Answerer | None = None
    fetched: frozenset[Format] = frozenset()

    @property
    def reference(self) -> str:
        """By what a person and our staff speak of it."""
        return str(self.request_id)

    def may_fetch(self, wanted: Format) -> bool:
        """Whether an export may still be fetched in this form."""
        return self.kind is RequestKind.ACCESS and wanted not in self.fetched


def link_has_ended(request: PersonRequest, *, now: datetime) -> bool:
    """Whether the link to a request answers nothing any more."""
    return now >= request.received_at + LINK_LASTS


def wants_answer(request: PersonRequest, kind: RequestKind) -> bool:
    """Whether a request is of this kind, and waits to be answered."""
    return request.kind is kind and request.answered_at is None


_ADDRESS: Final = TypeAdapter[str](Address)
_NAME: Final = TypeAdapter[str](Annotated[Name, StringConstraints(strip_whitespace=True)])


def address_in(text: str) -> str | None:
    """Read what was typed as an address, without the spaces around it; None where it is none."""
    return _read(_ADDRESS, text.strip())


def name_in(text: str) -> str | None:
    """Read what was typed as a person's name; None where it cannot be one."""
    return _read(_NAME, text)


def _read(adapter: TypeAdapter[str], text: str) -> str | None:
    try:
        return adapter.validate_python(text)
    except ValidationError:
        return None


_ID_BYTES: Final = 16
_CODE_BYTES: Final = 16
_MOST_TOKEN_CHARS: Final = 100


class AnswerLinks:
    """Makes the links by which a person answers their own request, and reads their tokens.

    A token names the request, under a code of this purpose alone: who was not mailed it cannot
    make it. It stands behind the ``#``, which no browser sends and no server logs.
    """

    def __init__(self, keyed_hash: Callable[[str, bytes], bytes], public_url: str) -> None:
        self._keyed_hash = keyed_hash
        self._public_url = public_url.rstrip("/")

    @property
    def page(self) -> str:
        """Where a token can be given by hand."""
        return f"{self._public_url}{ANSWER_PATH}"

    def url(self, request_id: UUID) -> str:
        """The link that is mailed."""
        return f"{self.page}#{self.token(request_id)}"

    def token(self, request_id: UUID) -> str:
        """Spell a token of letters, digits, hyphens and underscores."""
        told = self._code(request_id.bytes) + request_id.bytes
        return urlsafe_b64encode(told).rstrip(b"=").decode()

    def read(self, token: str) -> UUID | None:
        """Say which request a token of ours names; None for anything else."""
        try:
            raw = urlsafe_b64decode(token[:_MOST_TOKEN_CHARS] + "=" * (-len(token) % 4))
        except (Error, ValueError):
            return None
        code, told = raw[:_CODE_BYTES], raw[_CODE_BYTES:]
        if len(told) != _ID_BYTES or not hmac.compare_digest(code, self._code(told)):
            return None
        request_id = UUID(bytes=told)
        # Base64 has several spellings of one text; ours is one.
        return request_id if token == self.token(request_id) else None

    def _code(self, told: bytes) -> bytes:
        key = self._keyed_hash("requests.key", b"")
        return hmac.digest(key, told, sha256)[:_CODE_BYTES]


# -- what is kept of a person --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """Name and address of a person as one tenant's contact; None where the key is destroyed."""

    name: str | None = field(repr=False)
    address: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person is a contact: of which tenant's app, beside which licences as what."""

    tenant_id: UUID
    contact_id: UUID
    app: str | None
    product: str | None
    edition: str | None
    region: str | None
    roles: tuple[Role, ...]
    language: Language
    since: datetime
    licences: tuple[tuple[str, Role], ...] = ()
    card: Card = Card(None, None)
    gets_receipts: bool = False
    """Whether an administrator of the tenant's site named the person to get receipts."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One message to a person, and what became of it."""

    kind: str
    state: str
    planned_at: datetime
    accepted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of a person over all tenants."""

    places: tuple[Place, ...]
    messages: tuple[Sent, ...]
    told: tuple[tuple[int, str, datetime], ...]
    """Of which revisions of the policy the person was told: number, outcome, when."""
    suppressions: tuple[tuple[str, str, datetime], ...]
    requests: tuple[PersonRequest, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many records of each sort that is."""
        return {
            "contacts": len(self.places),
            "messages": len(self.messages),
            "policy changes": len(self.told),
            "suppressions": len(self.suppressions),
            "requests": len(self.requests),
        }


ELSEWHERE: Final = (
    "The other parts of our system keep no name and no address of any person. Support tickets lie in"
    " Jira Service Management of Atlassian, where they are found by the number of a licence: ask us"
    " for those too if you have written to our support."
)
RIGHTS: Final = (
    "Who else gets to see your data stands in our privacy policy. You may have this corrected or"
    " erased, object to news of products, and complain to the data"
    " protection authority of the place where you live or work."
)
SOURCE: Final = (
    "Atlassian names the contacts of each licence to us in the Marketplace's report. We asked you for"
    " none of it ourselves."
)


@dataclass(frozen=True, slots=True)
class Store:
    """One store that may hold something of a person: what for, and until when."""

    name: str
    purpose: str
    retention: str


@dataclass(frozen=True, slots=True)
class Export:
    """What a person is given who asked for access (GDPR, Article 15)."""

    reference: str
    made_at: datetime
    controller: str
    contact: str
    """Where to write to with questions."""
    data_location: str
    kept: Kept
    stores: tuple[Store, ...]

    def told(self) -> dict[str, Any]:
        """The whole of it in plain values, times as ISO 8601 in UTC."""
        kept = self.kept
        return {
            "reference": self.reference,
            "made_at": self.made_at.isoformat(),
            "controller": self.controller,
            "contact": self.contact,
            "data_location": self.data_location,
            "contacts": [_place_told(place) for place in kept.places],
            "messages": [
                {
                    "kind": sent.kind,
                    "state": sent.state,
                    "planned_at": sent.planned_at.isoformat(),
                    "accepted_at": sent.accepted_at.isoformat() if sent.accepted_at else None,
                }
                for sent in kept.messages
            ],
            "policy_changes": [
                {"revision": number, "outcome": outcome, "at": at.isoformat()}
                for number, outcome, at in kept.told
            ],
            "suppressions": [
                {"scope": scope, "reason": reason, "since": since.isoformat()}
                for scope, reason, since in kept.suppressions
            ],
            "requests": [_request_told(each) for each in kept.requests],
            "elsewhere": ELSEWHERE,
            "source": SOURCE,
            "rights": RIGHTS,
            "stores": [
                {"name": each.name, "purpose": each.purpose, "retention": each.retention}
                for each in self.stores
            ],
        }


def _place_told(place: Place) -> dict[str, Any]:
    return {
        "tenant": str(place.tenant_id),
        "app": place.app,
        "product": place.product,
        "edition": place.edition,
        "region": place.region,
        "name": place.card.name,
        "address": place.card.address,
        "roles": [role.value for role in place.roles],
        "gets_receipts": place.gets_receipts,
        "language": place.language.value,
        "since": place.since.isoformat(),
        "licences": [{"number": number, "role": role.value} for number, role in place.licences],
    }


def _request_told(request: PersonRequest) -> dict[str, Any]:
    return {
        "reference": request.reference,
        "kind": request.kind.value,
        "received_at": request.received_at.isoformat(),
        "due_on": request.due_on.isoformat(),
        "answered_at": request.answered_at.isoformat() if request.answered_at else None,
    }
