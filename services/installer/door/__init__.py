"""What the installer does about a call that Atlassian signed: one transaction each.

`installs` is what Connect says, `forge` what Forge says, `transactions` what both stand on.
"""

from services.installer.context import SECRET, Door
from services.installer.door.forge import hear_forge_installed, hear_forge_uninstalled
from services.installer.door.installs import hear_installed, hear_switched, hear_uninstalled
from services.installer.door.transactions import (
    Overtaken,
    leave,
    lock_living,
    merge,
    show_life,
    until_undisturbed,
)

__all__ = [
    "SECRET",
    "Door",
    "Overtaken",
    "hear_forge_installed",
    "hear_forge_uninstalled",
    "hear_installed",
    "hear_switched",
    "hear_uninstalled",
    "leave",
    "lock_living",
    "merge",
    "show_life",
    "until_undisturbed",
]
