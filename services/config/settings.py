"""The environment variables of config, besides those that every service has."""

from typing import ClassVar

from pydantic import Field, field_validator

from chassis.settings import ServiceSettings


class ConfigSettings(ServiceSettings):
    """Where the keys of session tokens are, and who must have issued them."""

    service: ClassVar[str] = "config"

    session_jwks_url: str
    session_issuer: str = Field(default="keepword-installer", min_length=1)

    @field_validator("session_jwks_url")
    @classmethod
    def _is_the_address_of_keys(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the full address of the installer's /.well-known/jwks.json")
        return url
