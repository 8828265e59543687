"""Made-up customers' sites, and what each pays for."""

import json
import re
from dataclasses import dataclass, field, replace
from datetime import date
from secrets import token_hex
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from connect.lifecycle import EventType

SITE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
FIRST_SITES = (("acme", "jira"), ("globex", "jira"), ("initech", "confluence"))


@dataclass(frozen=True, slots=True)
class Site:
    """One customer's site; the client key stays when everything else changes."""

    name: str
    client_key: str
    base_url: str
    shared_secret: str = field(repr=False)
    product_type: str = "jira"
    service_entitlement_number: str | None = None

    @classmethod
    def named(cls, name: str, product_type: str = "jira", *, sites_at: str | None = None) -> "Site":
        """Make up the site ``<name>.atlassian.net``: the same client key each time, a new secret.

        Its base URL is below ``sites_at`` where that is given, so that it can
        be asked there; its client key is the same either way.
        """
        host = f"{name}.atlassian.net"
        origin = f"https://{host}" if sites_at is None else f"{sites_at}/sites/{name}"
        return cls(
            name,
            str(uuid5(NAMESPACE_DNS, host)),
            f"{origin}{context_path(product_type)}",
            _secret(),
            product_type,
        )

    @property
    def cloud_id(self) -> str:
        """The site's id at Atlassian, another than its client key."""
        return str(self._identifier("cloud"))

    def with_new_secret(self) -> "Site":
        """Give the same site with another secret, as each installation has one of its own."""
        return replace(self, shared_secret=_secret())

    def lifecycle_body(self, event: EventType, app_key: str) -> bytes:
        """Write the body of a lifecycle call, with the fields that Atlassian sends today."""
        body = {
            "key": app_key,
            "clientKey": self.client_key,
            "sharedSecret": self.shared_secret if event is EventType.INSTALLED else None,
            "serverVersion": "server-version",
            "pluginsVersion": "version-of-connect",
            "baseUrl": self.base_url,
            "displayUrl": self.base_url,
            "displayUrlServicedeskHelpCenter": self.base_url,
            "productType": self.product_type,
            "description": f"Atlassian {self.product_type.title()} at {self.base_url}",
            "serviceEntitlementNumber": self.service_entitlement_number,
            "eventType": event.value,
        }
        present = {name: value for name, value in body.items() if value is not None}
        return json.dumps(present).encode()

    def subscription(self, app_key: str) -> "Subscription":
        """Make up what the site pays for an app: the same numbers each time."""
        identifier = self._identifier(app_key)
        digits = str(identifier.int)
        code = identifier.hex.upper()
        return Subscription(
            app_key,
            number=self.service_entitlement_number or f"SEN-{digits[:8]}",
            addon_licence_id=digits[8:16],
            entitlement_id=str(identifier),
            entitlement_number=f"E-{code[:3]}-{code[3:6]}-{code[6:9]}-{code[9:12]}",
        )

    def _identifier(self, purpose: str) -> UUID:
        return uuid5(NAMESPACE_DNS, f"{purpose}.{self.client_key}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one site pays for one app, as the site and the Marketplace tell of it."""

    app_key: str
    number: str
    addon_licence_id: str
    entitlement_id: str
    entitlement_number: str
    ended_on: date | None = None

    def licence(self) -> dict[str, Any]:
        """Write it as the licence endpoint of the site does."""
        return {
            "active": self.ended_on is None,
            "type": "COMMERCIAL",
            "evaluation": False,
            "supportEntitlementNumber": self.number,
            "entitlementId": self.entitlement_id,
            "entitlementNumber": self.entitlement_number,
        }

    def row(self, site: Site, today: date) -> dict[str, Any]:
        """Write it as the Marketplace reports it, contacts and all."""
        name = site.name
        contact = {"email": f"admin@{name}.example", "name": f"Admin of {name}", "phone": "null"}
        return {
            "addonLicenseId": self.addon_licence_id,
            "licenseId": self.number,
            "appEntitlementId": self.entitlement_id,
            "appEntitlementNumber": self.entitlement_number,
            "addonKey": self.app_key,
            "addonName": self.app_key,
            "hosting": "Cloud",
            "lastUpdated": today.isoformat(),
            "licenseType": "COMMERCIAL",
            "tier": "25 Users",
            "status": "active" if self.ended_on is None else "inactive",
            "maintenanceStartDate": today.replace(day=1).isoformat(),
            "maintenanceEndDate": None if self.ended_on is None else self.ended_on.isoformat(),
            "cloudId": site.cloud_id,
            "cloudSiteHostname": f"{site.name}.atlassian.net",
            "contactDetails": {
                "company": f"{name.title()} GmbH",
                "country": "DE",
                "region": "EMEA",
                "technicalContact": contact,
                "billingContact": contact,
            },
        }


def context_path(product_type: str) -> str:
    """Give the path below which a product lives: Confluence's is ``/wiki``."""
    return "/wiki" if product_type == "confluence" else ""


def _secret() -> str:
    return "ATCO" + token_hex(32)
