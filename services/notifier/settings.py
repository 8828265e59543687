"""The environment variables of notifier, besides those that every service has."""

import re
from typing import ClassVar

from pydantic import Field, field_validator

from chassis.settings import ServiceSettings


class NotifierSettings(ServiceSettings):
    """Where mail is handed over, from whom it comes, and where receipts are shown."""

    service: ClassVar[str] = "notifier"

    smtp_host: str = Field(min_length=1)
    smtp_port: int = Field(ge=1, le=65535)
    mail_from: str
    vendor_name: str = Field(default="Keepword", min_length=1, max_length=100)
    purger_public_url: str

    @field_validator("mail_from")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", address):
            raise ValueError("give one plain address, such as privacy@example.com")
        return address

    @field_validator("vendor_name")
    @classmethod
    def _is_one_line(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("give a name on one line")
        return name

    @field_validator("purger_public_url")
    @classmethod
    def _is_where_receipts_are_shown(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the full address at which the public reaches purger")
        return url.rstrip("/")
