"""What the installer's calls, handlers and jobs need besides the database."""

from dataclasses import dataclass, field
from typing import Final

from chassis.keys import TenantKeys
from services.installer.figures import DoorFigures
from services.installer.first_installs import FirstInstalls

SECRET: Final = "shared-secret"  # noqa: S105 - what the sealed value is for


@dataclass(slots=True)
class Door:
    """The tenants' keys, the figures of calls, and the way for first installs."""

    keys: TenantKeys
    figures: DoorFigures = field(default_factory=DoorFigures)
    firsts: FirstInstalls = field(default_factory=FirstInstalls)
    # As last read; the statement that uses it refuses one that is past.
    epoch: int | None = None
