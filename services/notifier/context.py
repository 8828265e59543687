"""What the edges of notifier share besides their database."""

from dataclasses import dataclass

from chassis.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Context:
    """The tenants' keys, the domain in which our messages have their ids, whether tickets exist."""

    keys: TenantKeys
    mail_domain: str
    has_desk: bool
