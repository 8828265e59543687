"""What a tenant's timeline tells: one word for each thing that was heard of it."""

from enum import StrEnum
from typing import Final

KEPT: Final = 50
"""How many entries of a tenant are kept, the latest ones."""


class Entry(StrEnum):
    """What was heard; that a tenant began stands in its state.

    The first five are what an ``installed`` call was: see
    `services.installer.domain.tenants.Heard`.
    """

    REVIVED = "revived"
    ROTATED = "rotated"
    RENAMED = "renamed"
    UPGRADED = "upgraded"
    UNCHANGED = "unchanged"
    ENABLED = "enabled"
    DISABLED = "disabled"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    ACCESS_LOST = "access-lost"
    ACCESS_BACK = "access-back"
    FORGE_INSTALLED = "forge-installed"
    FORGE_UPGRADED = "forge-upgraded"
    FORGE_UNINSTALLED = "forge-uninstalled"
    MOVED_TO_FORGE = "moved-to-forge"
    MOVED_TO_CONNECT = "moved-to-connect"
    MERGED = "merged"
    LINKED = "linked"
    """A person let it go on for an older one of its site, which is merged into it."""
    ORPHANED = "orphaned"
    STAFF_ACCESS_GRANTED = "staff-access-granted"
    """A member of our staff may look at what the customer keeps; config says who and why."""
    STAFF_ACCESS_REVOKED = "staff-access-revoked"
    STAFF_LOOKED = "staff-looked"


TOLD_AGAIN: Final = frozenset(
    {
        Entry.UNCHANGED,
        Entry.ENABLED,
        Entry.DISABLED,
        Entry.FORGE_UPGRADED,
        Entry.STAFF_LOOKED,
    }
)
"""What may be heard again and again: of several in a row the last one stays."""
