"""What the edges of notifier share besides their database."""

from dataclasses import dataclass

from chassis.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Context:
    """The tenants' keys, and the domain in which our messages have their ids."""

    keys: TenantKeys
    mail_domain: str
