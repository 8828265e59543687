"""Who must not be written to: the reasons, and how far each reaches."""

from enum import StrEnum

from services.notifier.domain.campaigns import OPTIONAL, Kind


class Reason(StrEnum):
    """Why an address is not written to."""

    ERASED = "erased"
    """The person asked to be forgotten."""
    BOUNCED = "bounced"
    """Its server refuses it for good."""
    COMPLAINED = "complained"
    OPTED_OUT = "opted-out"


EVERYTHING = "everything"
ALL_OPTIONAL = "optional"
"""The two scopes that are no kind of campaign."""


def scopes_that_stop(kind: Kind) -> tuple[str, ...]:
    """List the scopes of suppressions that keep this kind from being sent."""
    return (EVERYTHING, ALL_OPTIONAL, kind.value) if kind in OPTIONAL else (EVERYTHING,)
