"""The environment variables of config, besides those that every service has."""

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from chassis.settings import ServiceSettings
from services.config.context import MOST_TEXT_CHARACTERS, MOST_THINGS, VERSIONS_KEPT, Limits
from services.config.domain.definitions import LONGEST_TEXT


class ConfigSettings(ServiceSettings):
    """Where the keys of session tokens are, who must have issued them, how much a tenant keeps."""

    service: ClassVar[str] = "config"

    session_jwks_url: str
    session_issuer: str = Field(default="keepword-installer", min_length=1)

    most_things: Annotated[int, Field(ge=1, le=1_000_000)] = MOST_THINGS
    most_text_characters: Annotated[int, Field(ge=1_000, le=LONGEST_TEXT)] = MOST_TEXT_CHARACTERS
    versions_kept: Annotated[int, Field(ge=1, le=1_000)] = VERSIONS_KEPT

    @field_validator("session_jwks_url")
    @classmethod
    def _is_the_address_of_keys(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the full address of the installer's /.well-known/jwks.json")
        return url

    @property
    def limits(self) -> Limits:
        """How much one tenant may keep."""
        return Limits(self.most_things, self.most_text_characters, self.versions_kept)
