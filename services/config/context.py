"""What the edges of config share besides their database."""

from dataclasses import dataclass
from typing import Final

from chassis.keys import TenantKeys
from chassis.sessions import Sessions

STEP: Final = "erase-config"
"""The name of config's one step in a purge."""

AUDIENCE: Final = "config"
"""The ``aud`` of session tokens that are meant for us."""

CREDENTIALS: Final = "datasource.credentials"
"""The purpose under which a datasource's credentials are sealed."""


@dataclass(frozen=True, slots=True)
class Context:
    """The tenants' keys, and whose sessions requests are."""

    keys: TenantKeys
    sessions: Sessions
