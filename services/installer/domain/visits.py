"""Who of those that open an app's page may have a session there."""

from enum import StrEnum

from contracts.tenants import Platform, TenantStatus


class Refusal(StrEnum):
    """Why somebody who opens an app's page gets no session."""

    UNPROVEN = "unproven"
    """No site of ours has signed it. A site that is erased is nobody's, and hears the same."""
    LEFT = "left"
    KEPT_ELSEWHERE = "kept-elsewhere"
    """The content of Data Center apps is in the customer's product."""
    GONE = "gone"
    """It is being erased, and never comes back."""
    NOT_NOW = "not-now"


def refusal_of(status: TenantStatus, platform: Platform) -> Refusal | None:
    """Say why a tenant gets no session; None for one that gets it.

    One that has moved to Forge may still read and take out what it has here: config lets it do no more.
    """
    if status in {TenantStatus.PURGING, TenantStatus.PURGED}:
        return Refusal.GONE
    if status is not TenantStatus.INSTALLED:
        return Refusal.LEFT
    if platform is Platform.DATACENTER:
        return Refusal.KEPT_ELSEWHERE
    return None
