"""Signs session tokens as the installer does, for the services that verify them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
from joserfc import jwt
from joserfc.jwk import OKPKey

from chassis.egress import MakeClient
from chassis.tokens import EdDSAAlone

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ISSUER = "keepword-installer"
JWKS_URL = "http://installer.test/.well-known/jwks.json"


@dataclass(frozen=True)
class Installer:
    """Signs session tokens as the installer does, and shows the public keys."""

    key: OKPKey

    @classmethod
    def new(cls, key_id: str = "one") -> "Installer":
        return cls(OKPKey.generate_key("Ed25519", {"kid": key_id}))

    def claims(
        self, tenant_id: UUID, at: datetime = NOW, *, administers: bool = True
    ) -> dict[str, Any]:
        return {
            "iss": ISSUER,
            "aud": ["config", "notifier"],
            "sub": str(tenant_id),
            "iat": int(at.timestamp()),
            "exp": int((at + timedelta(minutes=15)).timestamp()),
            **({"role": "administrator"} if administers else {}),
        }

    def sign(self, claims: Mapping[str, Any]) -> str:
        header = {"alg": "EdDSA", "kid": self.key.kid}
        return jwt.encode(header, dict(claims), self.key, registry=EdDSAAlone())

    def token(self, tenant_id: UUID, at: datetime = NOW, *, administers: bool = True) -> str:
        return self.sign(self.claims(tenant_id, at, administers=administers))

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**self.key.as_dict(private=False), "kid": self.key.kid, "use": "sig"}]}

    def client(self) -> httpx2.AsyncClient:
        return answering(lambda _: httpx2.Response(200, json=self.jwks()))()


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> MakeClient:
    """Make clients that are answered so, whomever they ask."""
    return lambda: httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
