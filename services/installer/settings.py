"""What the installer reads from its environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from chassis.egress import Egress
from chassis.settings import PREFIX, ServiceSettings
from connect.descriptor import AdminPage, Descriptor, GeneralPage, Scope, Vendor
from connect.forge import AppId
from connect.hosts import AllowedHosts, is_private_enough, parse_base_url
from connect.install_keys import PRODUCTION
from connect.key_sets import FORGE_PRODUCTION
from connect.lifecycle import AppKey
from connect.marketplace import PRODUCTION as MARKETPLACE

SiteHost = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]+|\[::1\])(:[0-9]{1,5})?$", max_length=255)
]

BRIDGE = "https://connect-cdn.atl-paas.net/all.js"
"""Atlassian's own, of production sites."""

ENTRY_PATH = "/entry"
"""The app's page, below the app's base URL."""

ADMIN_PATH = "/administration"
"""The same page among the site's administration, whose sessions are an administrator's."""


ModuleKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class App(BaseModel):
    """One of the vendor's apps, as its descriptor tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: AppKey
    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    description: Annotated[str, StringConstraints(max_length=1400)] | None = None
    vendor: Vendor | None = None
    scopes: tuple[Scope, ...] = (Scope.READ,)
    enable_licensing: bool = True
    # As in the app's manifest on Forge, bare or as an ARI. Without it Forge has no way in.
    forge_app_id: AppId | None = None
    # The keys of the manifest's triggers of lifecycle events and of the endpoint they name. No
    # module that people see may have one of them: its tokens are in their browsers.
    forge_lifecycle_modules: frozenset[ModuleKey] = frozenset({"lifecycle"})


class InstallerSettings(ServiceSettings):
    """The installer's own settings; each is a variable with the prefix ``KEEPWORD_``."""

    service: ClassVar[str] = "installer"

    # A JSON list: [{"key": "com.example.app", "name": "Example"}].
    apps: tuple[App, ...] = Field(min_length=1)
    install_keys_url: str = PRODUCTION
    forge_keys_url: str = FORGE_PRODUCTION
    # Hosts beside Atlassian's that may call themselves a site, as ["localhost:2990"].
    development_site_hosts: frozenset[SiteHost] = frozenset()
    # PEM, Ed25519, one or more: the first signs the tokens of customers' browsers, all are published.
    session_key_file: Path
    # Where an app's page loads Atlassian's bridge to the page around it.
    connect_bridge_url: str = BRIDGE
    # Where an app's page reaches config, if it does.
    config_public_url: str | None = None
    # Where its screens reach notifier, if they do.
    notifier_public_url: str | None = None
    # What an app's page says about the customer's data.
    privacy_policy_url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    data_location: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None

    # Customers' sites are asked each day whether they still let us in, by each replica:
    # so many at a time, so many calls a second.
    sites_at_once: int = Field(default=16, ge=1, le=256)
    sites_per_second: float = Field(default=50.0, gt=0)
    # After so long the sites of a worker that died are asked by another.
    sites_lease_seconds: int = Field(default=600, ge=1)

    # The Marketplace's licence report is read once a day, as this account of the vendor's; all
    # three or none. The file holds the account's API token.
    marketplace_url: str = MARKETPLACE
    marketplace_developer_id: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None
    ) = None
    marketplace_account: str | None = Field(default=None, min_length=1, repr=False)
    marketplace_token_file: Path | None = None
    licence_report_seconds: int = Field(default=86_400, ge=1)

    @field_validator(
        "install_keys_url",
        "connect_bridge_url",
        "config_public_url",
        "notifier_public_url",
        "marketplace_url",
    )
    @classmethod
    def _nobody_can_change_it_on_the_way(cls, url: str | None) -> str | None:
        if url is None:
            return None
        base = parse_base_url(url)
        if base is None or not is_private_enough(base):
            raise ValueError("give an https address, or one of this machine")
        return str(base)

    @model_validator(mode="after")
    def _the_marketplace_is_named_whole(self) -> Self:
        given = (
            self.marketplace_developer_id,
            self.marketplace_account,
            self.marketplace_token_file,
        )
        if any(given) and not all(given):
            raise ValueError(
                f"{PREFIX}MARKETPLACE_DEVELOPER_ID, {PREFIX}MARKETPLACE_ACCOUNT,"
                f" {PREFIX}MARKETPLACE_TOKEN_FILE: set all three, or none to read no report"
            )
        return self

    @model_validator(mode="after")
    def _apps_can_be_called(self) -> Self:
        keys = [app.key for app in self.apps]
        if len(keys) != len(set(keys)):
            raise ValueError(f"{PREFIX}APPS: two apps have the same key")
        if self.development_site_hosts and not self.development:
            raise ValueError(
                f"{PREFIX}DEVELOPMENT_SITE_HOSTS: only Atlassian's hosts are sites outside"
                " development; unset it"
            )
        for app in self.apps:
            try:
                self.descriptor_of(app)
            except ValueError:
                raise ValueError(
                    f"{PREFIX}PUBLIC_URL: with the path of the app {app.key} it is no address of"
                    " at most 200 characters that Atlassian could call"
                ) from None
        return self

    @property
    def egress(self) -> Egress:
        """Whose keys we check by, the Marketplace, and customers' sites."""
        return super().egress | Egress.to(
            self.install_keys_url,
            self.forge_keys_url if any(app.forge_app_id for app in self.apps) else None,
            self.marketplace_url if self.marketplace_developer_id else None,
            *(
                f"{scheme}://{host}"
                for host in self.development_site_hosts
                for scheme in ("http", "https")
            ),
            domains=self.site_hosts.domains,
        )

    @property
    def site_hosts(self) -> AllowedHosts:
        """The hosts that may call themselves a customer's site."""
        return AllowedHosts(http=self.development_site_hosts, https=self.development_site_hosts)

    def base_url_of(self, app: App) -> str:
        """Where Atlassian calls an app; each app needs an address of its own."""
        return f"{self.public_url}{path_of(app.key)}"

    def descriptor_of(self, app: App) -> Descriptor:
        """Give an app's descriptor."""
        return Descriptor(
            key=app.key,
            name=app.name,
            base_url=self.base_url_of(app),
            vendor=app.vendor or Vendor(name=app.name, url=self.public_url),
            description=app.description,
            general_pages=(GeneralPage(key="entry", name=app.name, url=ENTRY_PATH),),
            admin_pages=(AdminPage(key="administration", name=app.name, url=ADMIN_PATH),),
            scopes=app.scopes,
            enable_licensing=app.enable_licensing,
        )


def path_of(addon_key: str) -> str:
    """Give the path below which an app's calls come in."""
    return f"/connect/{addon_key}"
