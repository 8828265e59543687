"""Session tokens: what a customer's browser shows to the other services, checked by them offline."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.signing import TokenSigner

ISSUER: Final = "keepword-installer"
AUDIENCES: Final = ("config", "notifier")
LIFETIME: Final = timedelta(minutes=15)


class SessionSigner(TokenSigner):
    """Signs session tokens."""

    def token_for(self, tenant_id: UUID, *, wall: datetime) -> str:
        """Give a token by which its bearer acts for a tenant for a quarter of an hour."""
        return self.sign(
            {
                "iss": ISSUER,
                "aud": list(AUDIENCES),
                "sub": str(tenant_id),
                "iat": int(wall.timestamp()),
                "exp": int((wall + LIFETIME).timestamp()),
            }
        )
