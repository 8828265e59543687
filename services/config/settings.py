"""The environment variables of config, besides those that every service has."""

from typing import ClassVar

from pydantic import Field, field_validator

from chassis.settings import ServiceSettings


class ConfigSettings(ServiceSettings):
    """Whose sessions are believed, and how many error reports are taken in five minutes.

    ``client_address_header`` names the header in which a proxy of ours says who called it, without
    which all who come through that proxy count as one.
    """

    service: ClassVar[str] = "config"

    session_jwks_url: str
    session_issuer: str = Field(default="keepword-installer", min_length=1)
    error_reports_per_tenant: int = Field(default=1_000, ge=1)
    error_reports_per_address: int = Field(default=300, ge=1)
    client_address_header: str | None = Field(default=None, min_length=1)

    @field_validator("session_jwks_url")
    @classmethod
    def _is_the_address_of_keys(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the full address of the installer's /.well-known/jwks.json")
        return url
