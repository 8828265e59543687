"""What comes into each service and what it calls: the one list that routes and policies are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from connect.hosts import ATLASSIAN_DOMAINS
from connect.install_keys import PRODUCTION as INSTALL_KEYS
from connect.key_sets import FORGE_PRODUCTION as FORGE_KEYS
from connect.marketplace import PRODUCTION as MARKETPLACE


def _host(url: str) -> str:
    host = urlsplit(url).hostname
    assert host is not None
    return host


_SITES: Final = tuple(f"*.{domain}" for domain in ATLASSIAN_DOMAINS)


@dataclass(frozen=True, slots=True)
class Doors:
    """How a service meets what is outside it, besides its database, Kafka, DNS and traces.

    ``public`` are the paths below which strangers may call, and the only ones that an Ingress
    leads to: probes, figures and what staff see are none of them. ``https`` are the hosts outside
    the cluster that it calls, a star for any name below a domain; ``calls`` are other services,
    whose published keys it fetches.
    """

    public: tuple[str, ...]
    https: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    sends_mail: bool = False


DOORS: Final[Mapping[str, Doors]] = MappingProxyType(
    {
        "installer": Doors(
            public=("/connect", "/forge", "/.well-known/jwks.json"),
            https=(*_SITES, _host(INSTALL_KEYS), _host(FORGE_KEYS), _host(MARKETPLACE)),
        ),
        "config": Doors(
            public=("/api/v1", "/errors", "/export", "/pages", "/screens"),
            calls=("installer", "notifier"),
        ),
        "purger": Doors(public=("/receipts", "/ledger", "/pages")),
        "notifier": Doors(
            public=(
                "/policy",
                "/unsubscribe",
                "/preferences",
                "/privacy",
                "/receipt-address",
                "/pages",
            ),
            # Support tickets lie in Jira Service Management, at a site of the vendor's.
            https=(*_SITES, _host(MARKETPLACE)),
            calls=("installer",),
            sends_mail=True,
        ),
    }
)

FOR_STAFF: Final = ("/staff", "/sign-on")
"""What staff see in each service, to which a route of its own leads, if any."""

NOT_PUBLIC: Final = ("/livez", "/readyz", "/metrics", "/development", *FOR_STAFF)
"""Below these nobody gets in from outside."""
