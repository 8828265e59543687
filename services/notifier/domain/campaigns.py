"""What is said to many once, and which of it a person may decline."""

from enum import StrEnum


class Kind(StrEnum):
    """What a campaign says."""

    RECEIPT = "receipt"
    POLICY_CHANGE = "policy-change"
    PRODUCT_UPDATE = "product-update"
    NEW_PRODUCT = "new-product"
    WELCOME = "welcome"
    REMINDER = "reminder"
    WELCOME_BACK = "welcome-back"
    HOLD = "hold"
    EARLY_ERASURE = "early-erasure"

    @property
    def optional(self) -> bool:
        """Whether it is news, which a person may decline; the rest is owed to everybody."""
        return self in OPTIONAL

    @property
    def goes_to_all(self) -> bool:
        """Whether one campaign goes to people of many tenants."""
        return self is Kind.POLICY_CHANGE or self.optional


OPTIONAL = frozenset({Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT})


class CampaignState(StrEnum):
    """How far a campaign has come."""

    WAITING = "waiting"
    """What it says is not known yet."""
    SENDING = "sending"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
