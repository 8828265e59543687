"""The link of a reminder, by which a customer who has left fetches what is still kept of it.

Notifier signs it, as the technical contact is in nobody else's hands, and config checks it offline.
It is a JSON Web Token that stands in the fragment of an address, which no browser sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import UUID

ISSUER: Final = "keepword-notifier"
AUDIENCE: Final = "config-exports"
"""Nothing else that config takes is meant for this audience."""

PATH: Final = "/export"
"""Where config shows the page that the link leads to."""


@dataclass(frozen=True, slots=True)
class ExportLink:
    """What a link opens: the export of one tenant, while one purge of it waits to begin.

    ``ends_at`` is business time, as the purge's is; at that moment everything is erased, however
    the purge went.
    """

    tenant_id: UUID
    purge_id: UUID
    ends_at: datetime

    def claims(self) -> dict[str, Any]:
        """Say what the token claims: always the same of the same link."""
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(self.tenant_id),
            "purge": str(self.purge_id),
            "exp": int(self.ends_at.timestamp()),
        }

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Self:
        """Read claims that were verified; raises ``ValueError`` for what is no link's."""
        purge_id = claims.get("purge")
        if not isinstance(purge_id, str):
            raise ValueError("a link names a purge")  # noqa: TRY004 - what was read is wrong, not what was passed
        ends_at = datetime.fromtimestamp(claims["exp"], UTC)
        return cls(UUID(claims["sub"]), UUID(purge_id), ends_at)
