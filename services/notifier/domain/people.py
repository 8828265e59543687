"""Who may be kept, as whom, and who moves."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

from contracts.classes import DataClass
from contracts.tenants import ClassState
from services.notifier.domain.deliveries import PATIENCE

NAME: Final = "contact.name"
ADDRESS: Final = "contact.address"
"""The purposes under which a contact is sealed."""

ADDRESS_INDEX: Final = "contact.address"
"""The purpose of the blind index by which a contact is known again."""


class Role(StrEnum):
    """As what a person stands beside a licence."""

    TECHNICAL = "technical"
    BILLING = "billing"
    PARTNER = "partner"
    """Sells the licence to the customer, and gets no news of products."""


class Language(StrEnum):
    """In which language a person is written to."""

    ENGLISH = "en"
    GERMAN = "de"


# One mailbox in plain ASCII: what every server takes, and nothing that could end a header.
_ADDRESS: Final = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$"
)
_LONGEST_ADDRESS: Final = 254


Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\p{C}]*$")]
Address = Annotated[str, StringConstraints(max_length=_LONGEST_ADDRESS, pattern=_ADDRESS)]


class ContactInput(BaseModel):
    """A contact as it comes in."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant_id: UUID
    name: Name
    address: Address

    def __repr__(self) -> str:
        """Name nobody."""
        return f"ContactInput(tenant_id={self.tenant_id!r})"


def is_address(text: str) -> bool:
    """Whether this is an address that may be written to: nothing in it ends a header."""
    return len(text) <= _LONGEST_ADDRESS and re.fullmatch(_ADDRESS, text) is not None


def one_form(address: str) -> str:
    """The form in which equal addresses are equal; what is written to is the form that was given.

    RFC 5321 section 2.4 lets a server tell cases of a local part apart. None that matters does,
    and one person must not be kept twice.
    """
    return address.strip().lower()


@dataclass(frozen=True, slots=True)
class Tenant:
    """What notifier remembers of a tenant."""

    tenant_id: UUID
    addon_key: str
    contacts: ClassState


class Access(StrEnum):
    """Whether people of a tenant may be kept."""

    OPEN = "open"
    UNKNOWN = "unknown"
    GOING = "going"


def access_to_contacts(tenant: Tenant | None, erased: frozenset[DataClass]) -> Access:
    """Say whether a tenant's contacts may be written; ``erased`` is what the guard says of it.

    An uninstalled tenant still has people: they stay as long as a licence of theirs runs.
    """
    if DataClass.CONTACTS in erased:
        return Access.GOING
    if tenant is None:
        return Access.UNKNOWN
    return Access.OPEN if tenant.contacts is ClassState.LIVE else Access.GOING


class Move(StrEnum):
    """What becomes of people whose tenant goes on as another."""

    NOW = "now"
    LATER = "later"
    """The other tenant was not heard of yet."""
    NEVER = "never"


def decide_move(access: Access, waited: timedelta) -> Move:
    """Say whether people may move to a tenant with this access to its own, after such a wait."""
    match access:
        case Access.OPEN:
            return Move.NOW
        case Access.GOING:
            return Move.NEVER
        case Access.UNKNOWN:
            return Move.LATER if waited < PATIENCE else Move.NEVER


@dataclass(frozen=True, slots=True)
class Recipient:
    """To whom a message goes; lives as long as the message is being written."""

    name: str = field(repr=False)
    address: str = field(repr=False)
    addon_key: str | None
    language: Language = Language.ENGLISH
    is_technical: bool = False
    """Whether the person stands beside a licence as its technical contact."""
