"""Forge's side of Atlassian: installations, the tokens of its calls, and its lifecycle events."""

import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import NAMESPACE_DNS, uuid4, uuid5

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from connect import jwt
from connect.forge import APP_ARI, INSTALLATION_ARI, ISSUER, ForgeEventType
from devstack.atlassian.sites import Site

TOKEN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class ForgeInstallation:
    """One app at one site; a reinstall has another id, an upgrade the same."""

    app_id: str
    product_type: str
    cloud_id: str = field(repr=False)
    installation_id: str = field(repr=False)

    @classmethod
    def of(cls, site: Site, app_key: str) -> "ForgeInstallation":
        """Make a new installation of an app at a site."""
        return cls(forge_app_id(app_key), site.product_type, site.cloud_id, str(uuid4()))

    @property
    def ari(self) -> str:
        """The installation's id in full."""
        return f"{INSTALLATION_ARI}{self.installation_id}"

    def event_body(self, event: ForgeEventType) -> bytes:
        """Write the body of a lifecycle event, with the people that Atlassian names in it."""
        account = "5be24ad8b1653240376955d2"
        body = {
            "id": self.installation_id,
            "context": f"ari:cloud:{self.product_type}::site/{self.cloud_id}",
            "installerAccountId": account,
            "app": {
                "id": self.app_id,
                "version": "2.0.0",
                "name": "An app",
                "ownerAccountId": account,
            },
            "environment": {"id": str(uuid5(NAMESPACE_DNS, f"production.{self.app_id}"))},
            "eventType": event.value,
        }
        return json.dumps(body).encode()


class Forge:
    """Signs what Forge sends to an app's remote, with a key of its own."""

    def __init__(self) -> None:
        self.key_id = str(uuid4())

    @cached_property
    def private_key(self) -> rsa.RSAPrivateKey:
        """The key, made when first needed."""
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def key_set(self) -> dict[str, Any]:
        """Publish the public key as a JWKS document."""
        key = RSAKey.import_key(
            self.private_key, {"kid": self.key_id, "use": "sig", "alg": "RS256"}
        )
        return {"keys": [key.as_dict(private=False)]}

    def token(self, installation: ForgeInstallation, *, licence_active: bool = True) -> str:
        """Make a Forge invocation token for a call that no person caused."""
        issued_at = int(time.time())
        app_ari = f"{APP_ARI}{installation.app_id}"
        product = installation.product_type
        api_base_url = f"https://api.atlassian.com/ex/{product}/{installation.cloud_id}"
        environment_id = uuid5(NAMESPACE_DNS, f"production.{installation.app_id}")
        claims = {
            "iss": ISSUER,
            "aud": app_ari,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + TOKEN_SECONDS,
            "jti": str(uuid4()),
            "app": {
                "id": app_ari,
                "installationId": installation.ari,
                "apiBaseUrl": api_base_url,
                "appVersion": "2.0.0",
                "environment": {
                    "type": "PRODUCTION",
                    "id": f"ari:cloud:ecosystem::environment/{installation.app_id}/{environment_id}",
                },
                "module": {"type": "core:endpoint", "key": "lifecycle"},
                "installation": {
                    "id": installation.ari,
                    "contexts": [{"name": product, "apiBaseUrl": api_base_url}],
                },
                "license": {"isActive": licence_active},
            },
        }
        return jwt.sign(claims, self.private_key, key_id=self.key_id)


def forge_app_id(app_key: str) -> str:
    """Give the Forge id of a Connect app's successor: the same each time."""
    return str(uuid5(NAMESPACE_DNS, f"forge.{app_key}"))
