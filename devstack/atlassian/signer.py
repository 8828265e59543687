"""The signer: who makes a site's calls to an app, and knows where the app is installed."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any
from uuid import uuid4

import httpx2
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connect import jwt
from connect.forge import ForgeEventType
from connect.hosts import parse_base_url
from connect.lifecycle import EventType
from connect.qsh import query_string_hash
from devstack.atlassian.forge import Forge, ForgeInstallation
from devstack.atlassian.marketplace import Marketplace
from devstack.atlassian.service_desk import ServiceDesk
from devstack.atlassian.sites import FIRST_SITES, SITE_NAME, Site, Subscription

TOKEN_SECONDS = 180
HOOK_TIMEOUT_SECONDS = 10.0
SIGNED_BY_ATLASSIAN = frozenset({EventType.INSTALLED, EventType.UNINSTALLED})


@dataclass(frozen=True, slots=True)
class Hook:
    """A signed lifecycle call, ready to be sent to ``path`` of the app's base URL."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppAddress:
    """What the descriptor says about where an app is called: its base URL and its hooks' paths."""

    base_url: str
    hooks: Mapping[EventType, str]


class Atlassian:
    """The signer, its key host and the sites it speaks for.

    ``key_requests`` counts what the key host was asked, by key id; while
    ``key_host_is_away`` is set it answers 503. Where ``sites_at`` is given,
    the sites' base URLs are there, so that an app can ask them; otherwise
    they have the names of real ones. A site pays for what it installs until
    it is told otherwise; the Marketplace reckons by ``today``, tokens by the
    machine's time.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        key_id: str | None = None,
        sites_at: str | None = None,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self._http = http
        self._sites_at = sites_at
        self._today = today
        self.key_id = key_id or str(uuid4())
        self.key_requests: Counter[str] = Counter()
        self.key_host_is_away = False
        self.sites = {
            name: Site.named(name, product, sites_at=sites_at) for name, product in FIRST_SITES
        }
        self.deleted: set[str] = set()
        self.installed: set[tuple[str, str]] = set()
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        self.forge_installations: dict[tuple[str, str], ForgeInstallation] = {}
        self.marketplace = Marketplace()
        self.service_desk = ServiceDesk()
        self.forge = Forge()

    @cached_property
    def private_key(self) -> rsa.RSAPrivateKey:
        """The key, made when first needed."""
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_key_pem(self) -> str:
        """The key as the key host publishes it."""
        return (
            self.private_key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(
        self,
        site: Site,
        *,
        audience: str,
        path: str,
        query: str = "",
        method: str = "POST",
        issued_at: int | None = None,
        lifetime_seconds: int = TOKEN_SECONDS,
        more_claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a signed-install token (RS256) for a request to ``path`` below the app's base URL.

        About 3000 of these are made in a second, so a benchmark signs its
        requests beforehand; a longer life keeps them valid while it runs.
        """
        issued_at = int(time.time()) if issued_at is None else issued_at
        claims = {
            "iss": site.client_key,
            "aud": [audience],
            "iat": issued_at,
            "exp": issued_at + lifetime_seconds,
            "qsh": query_string_hash(method, path, query),
            **(more_claims or {}),
        }
        return jwt.sign(claims, self.private_key, key_id=self.key_id)

    def hook(
        self,
        site: Site,
        event: EventType,
        *,
        app_key: str,
        audience: str,
        path: str,
        query: str = "",
        issued_at: int | None = None,
        lifetime_seconds: int = TOKEN_SECONDS,
    ) -> Hook:
        """Make one lifecycle call: signed by us for (un)installed, by the shared secret otherwise."""
        if event in SIGNED_BY_ATLASSIAN:
            token = self.sign(
                site,
                audience=audience,
                path=path,
                query=query,
                issued_at=issued_at,
                lifetime_seconds=lifetime_seconds,
            )
        else:
            token = sign_with_secret(
                site,
                query_string_hash("POST", path, query),
                issued_at=issued_at,
                lifetime_seconds=lifetime_seconds,
            )
        return Hook(
            path=f"{path}?{query}" if query else path,
            headers={"Authorization": f"JWT {token}", "Content-Type": "application/json"},
            content=site.lifecycle_body(event, app_key),
        )

    async def install(
        self, site: Site, installer_base_url: str, app_key: str, *, query: str = ""
    ) -> httpx2.Response:
        """Tell the app that it is installed at this site."""
        return await self.send(site, EventType.INSTALLED, installer_base_url, app_key, query=query)

    async def uninstall(
        self, site: Site, installer_base_url: str, app_key: str, *, query: str = ""
    ) -> httpx2.Response:
        """Tell the app that this site has removed it."""
        return await self.send(
            site, EventType.UNINSTALLED, installer_base_url, app_key, query=query
        )

    async def send(
        self,
        site: Site,
        event: EventType,
        installer_base_url: str,
        app_key: str,
        *,
        query: str = "",
    ) -> httpx2.Response:
        """Read the app's descriptor, call the hook it names for this event, and give the answer.

        ``installer_base_url`` is where the installer listens; the audience and
        the paths are the descriptor's own.
        """
        app = await self.look_up(installer_base_url, app_key)
        base = parse_base_url(app.base_url)
        base_path = base.path if base is not None else ""
        hook = self.hook(
            site,
            event,
            app_key=app_key,
            audience=app.base_url,
            path=app.hooks[event],
            query=query,
        )
        answer = await self._http.post(
            f"{installer_base_url.rstrip('/')}{base_path}{hook.path}",
            content=hook.content,
            headers=hook.headers,
            timeout=HOOK_TIMEOUT_SECONDS,
        )
        self._note(site, event, app_key, answer)
        return answer

    async def send_forge(
        self, site: Site, event: ForgeEventType, installer_base_url: str, app_key: str
    ) -> httpx2.Response:
        """Send the app's remote a Forge lifecycle event, and give the answer.

        An installation is made by its first event; after ``UNINSTALLED`` the
        next one is another.
        """
        place = (site.client_key, app_key)
        installation = self.forge_installations.setdefault(
            place, ForgeInstallation.of(site, app_key)
        )
        subscription = self.subscribe(site, app_key)
        if event is ForgeEventType.UNINSTALLED:
            del self.forge_installations[place]
        token = self.forge.token(installation, licence_active=subscription.ended_on is None)
        return await self._http.post(
            f"{installer_base_url.rstrip('/')}/forge/{app_key}/lifecycle",
            content=installation.event_body(event),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=HOOK_TIMEOUT_SECONDS,
        )

    def import_data(self, site: Site) -> Site:
        """Put other data in a site's place; give what it is now, by another client key.

        Nothing is installed there, and no app is told so.
        """
        for place in [each for each in self.installed if each[0] == site.client_key]:
            self.installed.discard(place)
        imported = replace(site, client_key=str(uuid4()))
        self.sites[site.name] = imported
        return imported

    def is_installed(self, site: Site, app_key: str) -> bool:
        """Say whether the app took its install at this site, and has not been removed since."""
        return (site.client_key, app_key) in self.installed

    def subscribe(self, site: Site, app_key: str) -> Subscription:
        """Make the site pay for the app, where it has never done so; give what it pays for."""
        known = self.subscriptions.get((site.client_key, app_key))
        return known or self._report(site, site.subscription(app_key))

    def end_licence(self, site: Site, app_key: str) -> None:
        """End what the site pays for the app, today."""
        self._report(site, replace(self.subscribe(site, app_key), ended_on=self._today()))

    def renew_licence(self, site: Site, app_key: str) -> None:
        """Make the site pay for the app again."""
        self._report(site, replace(self.subscribe(site, app_key), ended_on=None))

    def _note(self, site: Site, event: EventType, app_key: str, answer: httpx2.Response) -> None:
        if event is EventType.UNINSTALLED:
            self.installed.discard((site.client_key, app_key))
        elif event is EventType.INSTALLED and answer.is_success:
            self.installed.add((site.client_key, app_key))
            self.subscribe(site, app_key)

    def _report(self, site: Site, subscription: Subscription) -> Subscription:
        self.subscriptions[site.client_key, subscription.app_key] = subscription
        self.marketplace.put(subscription.row(site, self._today()))
        return subscription

    async def look_up(self, installer_base_url: str, app_key: str) -> AppAddress:
        """Fetch the app's descriptor for its base URL and hooks."""
        response = await self._http.get(
            f"{installer_base_url.rstrip('/')}/connect/{app_key}/atlassian-connect.json",
            timeout=HOOK_TIMEOUT_SECONDS,
        )
        descriptor = response.raise_for_status().json()
        return AppAddress(
            base_url=descriptor["baseUrl"],
            hooks={EventType(event): path for event, path in descriptor["lifecycle"].items()},
        )

    def site(self, name: str) -> Site:
        """Give the site of this name; it comes into being when first named."""
        if SITE_NAME.fullmatch(name) is None:
            raise ValueError("a site is named by lower-case letters, digits and hyphens")
        return self.sites.setdefault(name, Site.named(name, sites_at=self._sites_at))


@asynccontextmanager
async def new_atlassian(*, sites_at: str | None = None) -> AsyncIterator[Atlassian]:
    """Give a stand-in with an HTTP client of its own, closed at the end."""
    async with httpx2.AsyncClient() as http:
        yield Atlassian(http, sites_at=sites_at)


def sign_with_secret(
    site: Site,
    qsh: str,
    *,
    issued_at: int | None = None,
    lifetime_seconds: int = TOKEN_SECONDS,
    more_claims: Mapping[str, Any] | None = None,
) -> str:
    """Make a token that a site signs with the secret of its installation (HS256)."""
    issued_at = int(time.time()) if issued_at is None else issued_at
    claims = {
        "iss": site.client_key,
        "iat": issued_at,
        "exp": issued_at + lifetime_seconds,
        "qsh": qsh,
        **(more_claims or {}),
    }
    return jwt.sign(claims, site.shared_secret.encode())
