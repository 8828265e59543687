"""Members of staff, and the roles that their groups give them."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Role(StrEnum):
    """What a member of staff is there for."""

    SUPPORT = "support"
    DEVELOPER = "developer"
    PRIVACY = "privacy"
    MARKETING = "marketing"
    OPERATOR = "operator"


EVERY_ROLE: Final = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Person:
    """A member of staff. ``subject`` is the provider's name for them, which nobody can choose.

    It is empty on a laptop without an identity provider, where nobody says who they are.
    """

    subject: str
    name: str
    roles: frozenset[Role]


ANYBODY: Final = Person("", "", EVERY_ROLE)
"""Whoever sits at a laptop without an identity provider."""


present: Final[ContextVar[Person]] = ContextVar("present")
"""Whose request it is, within a route of staff's."""


def said_by(typed: str) -> str:
    """Say who does something, in a route of staff's: the person signed on, whatever was typed.

    What was typed counts on a laptop alone, where nobody signs on.
    """
    return present.get().subject or typed


def signed_on() -> Person | None:
    """Return who is signed on, for a page; None where nobody signs on."""
    person = present.get(ANYBODY)
    return person if person.subject else None


def roles_in(
    claims: Mapping[str, Any], groups: Mapping[Role, str], *, claim: str
) -> frozenset[Role]:
    """Read roles from the groups of a token; whatever has an odd shape gives none.

    Groups are compared as they are, as a list of texts: a provider that sends one text instead of
    a list is believed for that whole text alone.
    """
    told = claims.get(claim)
    named = {told} if isinstance(told, str) else _texts(told)
    return frozenset(role for role, group in groups.items() if group in named)


def _texts(told: Any) -> set[str]:
    if not isinstance(told, list) or not all(isinstance(each, str) for each in told):
        return set()
    return set(told)
