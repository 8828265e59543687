"""What the edges of config share besides their database."""

from dataclasses import dataclass
from typing import Final

from chassis.keys import TenantKeys
from services.config.clients import SessionKeys

STEP: Final = "erase-config"
"""The name of config's one step in a purge."""

CREDENTIALS: Final = "datasource.credentials"
"""The purpose under which a datasource's credentials are sealed."""


@dataclass(frozen=True, slots=True)
class Context:
    """The tenants' keys, and the keys by which sessions are known; ``issuer`` issues those."""

    keys: TenantKeys
    session_keys: SessionKeys
    session_issuer: str
