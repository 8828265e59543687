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

from chassis.settings import PREFIX, ServiceSettings
from connect.descriptor import Descriptor, Scope, Vendor
from connect.hosts import AllowedHosts, is_private_enough, parse_base_url
from connect.install_keys import PRODUCTION
from connect.lifecycle import AppKey

SiteHost = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]+|\[::1\])(:[0-9]{1,5})?$", max_length=255)
]


class App(BaseModel):
    """One of the vendor's apps, as its descriptor tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: AppKey
    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    description: Annotated[str, StringConstraints(max_length=1400)] | None = None
    vendor: Vendor | None = None
    scopes: tuple[Scope, ...] = (Scope.READ,)
    enable_licensing: bool = True


class InstallerSettings(ServiceSettings):
    """The installer's own settings; each is a variable with the prefix ``KEEPWORD_``."""

    service: ClassVar[str] = "installer"

    # A JSON list: [{"key": "com.example.app", "name": "Example"}].
    apps: tuple[App, ...] = Field(min_length=1)
    install_keys_url: str = PRODUCTION
    # Hosts beside Atlassian's that may call themselves a site, as ["localhost:2990"].
    development_site_hosts: frozenset[SiteHost] = frozenset()
    # PEM, Ed25519: signs the tokens of customers' browsers.
    session_key_file: Path

    @field_validator("install_keys_url")
    @classmethod
    def _nobody_can_put_in_a_key(cls, url: str) -> str:
        base = parse_base_url(url)
        if base is None or not is_private_enough(base):
            raise ValueError("give an https address, or one of this machine")
        return str(base)

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
            scopes=app.scopes,
            enable_licensing=app.enable_licensing,
        )


def path_of(addon_key: str) -> str:
    """Give the path below which an app's calls come in."""
    return f"/connect/{addon_key}"
