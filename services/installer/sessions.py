"""Session tokens: what a customer's browser shows to the other services, checked by them offline."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.sessions import ADMINISTRATOR
from chassis.signing import TokenSigner

ISSUER: Final = "keepword-installer"
AUDIENCES: Final = ("config", "notifier")
LIFETIME: Final = timedelta(minutes=15)


class SessionSigner(TokenSigner):
    """Signs session tokens."""

    def token_for(self, tenant_id: UUID, *, wall: datetime, administers: bool = False) -> str:
        """Give a token by which its bearer acts for a tenant for a quarter of an hour.

        Who ``administers`` the site may also decide for it.
        """
        return self.sign(
            {
                "iss": ISSUER,
                "aud": list(AUDIENCES),
                "sub": str(tenant_id),
                "iat": int(wall.timestamp()),
                "exp": int((wall + LIFETIME).timestamp()),
                **({"role": ADMINISTRATOR} if administers else {}),
            }
        )
