"""What the edges of config share besides their database."""

from dataclasses import dataclass, field
from typing import Final

from chassis.keys import TenantKeys
from chassis.sessions import Sessions
from chassis.tokens import TokenKeys

STEP: Final = "erase-config"
"""The name of config's one step in a purge."""

AUDIENCE: Final = "config"
"""The ``aud`` of session tokens that are meant for us."""

CREDENTIALS: Final = "datasource.credentials"
"""The purpose under which a datasource's credentials are sealed."""


MOST_THINGS: Final = 10_000
MOST_TEXT_CHARACTERS: Final = 100_000
VERSIONS_KEPT: Final = 50


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one tenant may keep here."""

    most_things: int = MOST_THINGS
    """Of all kinds together."""
    most_text_characters: int = MOST_TEXT_CHARACTERS
    versions_kept: int = VERSIONS_KEPT
    """How many past versions of a thing; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Context:
    """The tenants' keys, whose sessions requests are, and how much each may keep."""

    keys: TenantKeys
    sessions: Sessions
    limits: Limits = field(default_factory=Limits)
    # By which links in reminders are verified; None where none are given out.
    export_keys: TokenKeys | None = None
    # Where customers' data lies, as they are told it.
    data_location: str | None = None
