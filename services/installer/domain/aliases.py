"""A tenant's names besides Connect's: by what Forge and Atlassian's cloud call it."""

from dataclasses import dataclass, field
from enum import StrEnum


class AliasKind(StrEnum):
    """What a name is a name of; a cloud site's id finds a tenant, and installs nothing."""

    FORGE_INSTALLATION = "forge-installation"
    CLOUD_ID = "cloud-id"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name of one tenant of an app, for as long as that tenant is not purging."""

    kind: AliasKind
    addon_key: str
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ForgeInstallation:
    """An installation of an app on Forge, and at which site it is, where that was told."""

    addon_key: str
    installation_id: str = field(repr=False)
    cloud_id: str | None = field(repr=False)
    product_type: str

    @property
    def alias(self) -> Alias:
        """The name of the installation itself, which a reinstall changes."""
        return Alias(AliasKind.FORGE_INSTALLATION, self.addon_key, self.installation_id)

    @property
    def site(self) -> Alias | None:
        """The name of its site, which a reinstall keeps."""
        if self.cloud_id is None:
            return None
        return Alias(AliasKind.CLOUD_ID, self.addon_key, self.cloud_id)
