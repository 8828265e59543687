"""What the edges of config share besides their database."""

from dataclasses import dataclass

from chassis.keys import TenantKeys
from services.config.clients import SessionKeys


@dataclass(frozen=True, slots=True)
class Context:
    """The tenants' keys, and the keys by which sessions are known; ``issuer`` issues those."""

    keys: TenantKeys
    session_keys: SessionKeys
    session_issuer: str
