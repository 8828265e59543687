"""The environment variables of config, besides those that every service has."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints, field_validator

from chassis.egress import Egress
from chassis.settings import CalledByPages
from services.config.context import MOST_TEXT_CHARACTERS, MOST_THINGS, VERSIONS_KEPT, Limits
from services.config.domain.definitions import LONGEST_TEXT


class ConfigSettings(CalledByPages):
    """Whose sessions are believed, how much a tenant keeps, how many error reports are taken.

    ``installer_public_url`` says where the page lies that shows our screens, if one does: its
    scripts may call us, and nobody else's. The reports are counted in five minutes. ``client_address_header`` names the header in which a
    proxy of ours says who called it, without which all who come through that proxy count as one.
    """

    service: ClassVar[str] = "config"

    session_jwks_url: str
    session_issuer: str = Field(default="keepword-installer", min_length=1)
    # By which keys the links in notifier's reminders are verified; without it there are none.
    export_jwks_url: str | None = None
    # What "your data" says of the place.
    data_location: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    error_reports_per_tenant: int = Field(default=1_000, ge=1)
    error_reports_per_address: int = Field(default=300, ge=1)
    client_address_header: str | None = Field(default=None, min_length=1)

    most_things: Annotated[int, Field(ge=1, le=1_000_000)] = MOST_THINGS
    most_text_characters: Annotated[int, Field(ge=1_000, le=LONGEST_TEXT)] = MOST_TEXT_CHARACTERS
    versions_kept: Annotated[int, Field(ge=1, le=1_000)] = VERSIONS_KEPT

    @field_validator("session_jwks_url", "export_jwks_url")
    @classmethod
    def _is_the_address_of_keys(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("give the full address of a service's /.well-known/jwks.json")
        return url

    @property
    def egress(self) -> Egress:
        """The services whose tokens we believe."""
        return super().egress | Egress.to(self.session_jwks_url, self.export_jwks_url)

    @property
    def limits(self) -> Limits:
        """How much one tenant may keep."""
        return Limits(self.most_things, self.most_text_characters, self.versions_kept)
