"""The environment variables of notifier, besides those that every service has."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from chassis.egress import Egress
from chassis.settings import PREFIX, CalledByPages
from connect.hosts import is_private_enough, parse_base_url
from connect.marketplace import PRODUCTION as MARKETPLACE
from connect.marketplace import ReportSource
from services.notifier.domain.policies import NOTICE
from services.notifier.domain.tickets import WhatGoes


class NotifierSettings(CalledByPages):
    """Where mail is handed over, from whom it comes, where receipts are shown, where tickets lie."""

    service: ClassVar[str] = "notifier"

    smtp_host: str = Field(min_length=1)
    smtp_port: int = Field(ge=1, le=65535)
    mail_from: str
    # From whom news comes, which a person may decline; by default from the same address.
    mail_from_news: str | None = None
    # Messages on each connection are claimed so many at once; all of them are uncertain after a
    # crash.
    mail_connections: int = Field(default=4, ge=1, le=50)
    mail_chunk: int = Field(default=25, ge=1, le=200)
    # To one domain.
    mail_domain_per_second: float = Field(default=20.0, gt=0, le=10_000)
    mail_domain_connections: int = Field(default=2, ge=1, le=50)
    smtp_timeout_seconds: float = Field(default=20.0, ge=0.1, le=300)
    smtp_must_encrypt: bool = False
    # Certificates by which the server is known, where the usual ones are not enough.
    smtp_authority_file: Path | None = None
    # Both or none.
    smtp_user: str | None = Field(default=None, min_length=1, repr=False)
    smtp_password_file: Path | None = None
    # JSON: {"domain", "keys": [{"selector", "private_key": PEM}]}; RSA-2048 or more, and Ed25519.
    dkim_file: Path | None = None
    # Both or none: where bounces and complaints are taken by SMTP, and the domain of their
    # addresses, whose mail is to be brought there.
    bounce_port: int | None = Field(default=None, ge=0, le=65535)
    bounce_domain: str | None = None
    vendor_name: str = Field(default="Keepword", min_length=1, max_length=100)
    purger_public_url: str
    # Both or none: where the public reaches config, and the Ed25519 keys in PEM by which links to
    # exports there are signed.
    config_public_url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    export_key_file: Path | None = None

    # By which keys session tokens are verified, and who must have issued them.
    session_jwks_url: str
    session_issuer: str = Field(default="keepword-installer", min_length=1)

    # For how long after a revision of the policy was replaced its evidence is kept; three years.
    policy_evidence_days: int = Field(default=1096, ge=1)

    # How long before its day a revision of the policy is published.
    policy_notice_days: int = Field(default=NOTICE.days, ge=1, le=366)

    # What letters say about the customer's data, and where they lead.
    data_location: Annotated[str, StringConstraints(min_length=1, max_length=200)] = (
        "San Francisco, USA"
    )
    privacy_policy_url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    your_data_url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None

    # The Marketplace's licence report is read once a day for its people, as this account of the
    # vendor's; all three or none. The file holds the account's API token.
    marketplace_url: str = MARKETPLACE
    marketplace_developer_id: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None
    ) = None
    marketplace_account: str | None = Field(default=None, min_length=1, repr=False)
    marketplace_token_file: Path | None = None
    people_report_seconds: int = Field(default=86_400, ge=1)

    # Where support tickets lie. Without access to the desk a person erases them, purge by purge.
    tickets: Literal["service-desk", "none"] = "service-desk"
    # All five or none: the site in Jira, the project's key, the custom field with the licence's
    # number (a text of one line), the account, and the file with its API token.
    tickets_url: str | None = None
    tickets_project: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,99}$")] | None = (
        None
    )
    tickets_licence_field: (
        Annotated[str, StringConstraints(pattern=r"^customfield_[0-9]{1,15}$")] | None
    ) = None
    tickets_account: str | None = Field(default=None, min_length=1, repr=False)
    tickets_token_file: Path | None = None
    tickets_erase: WhatGoes = WhatGoes.TICKET

    @field_validator("mail_from", "mail_from_news")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is not None and not re.fullmatch(
            r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", address
        ):
            raise ValueError("give one plain address, such as privacy@example.com")
        return address

    @field_validator("bounce_domain")
    @classmethod
    def _is_a_domain(cls, domain: str | None) -> str | None:
        if domain is not None and not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", domain):
            raise ValueError("give a domain, such as bounces.example.com")
        return domain

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

    @field_validator("session_jwks_url")
    @classmethod
    def _is_the_address_of_keys(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("give the full address of the installer's /.well-known/jwks.json")
        return url

    @field_validator("tickets_url", "marketplace_url")
    @classmethod
    def _nobody_can_change_it_on_the_way(cls, url: str | None) -> str | None:
        if url is None:
            return None
        base = parse_base_url(url)
        if base is None or not is_private_enough(base):
            raise ValueError("give an https address, or one of this machine")
        return str(base)

    @model_validator(mode="after")
    def _mail_can_be_handed_over(self) -> Self:
        if (self.smtp_user is None) != (self.smtp_password_file is None):
            raise ValueError(f"{PREFIX}SMTP_USER, {PREFIX}SMTP_PASSWORD_FILE: set both, or none")
        if self.smtp_user is not None and not self.smtp_must_encrypt:
            raise ValueError(
                f"{PREFIX}SMTP_MUST_ENCRYPT: set it, as {PREFIX}SMTP_USER has a password to send"
            )
        if (self.bounce_port is None) != (self.bounce_domain is None):
            raise ValueError(f"{PREFIX}BOUNCE_PORT, {PREFIX}BOUNCE_DOMAIN: set both, or none")
        if (self.config_public_url is None) != (self.export_key_file is None):
            raise ValueError(
                f"{PREFIX}CONFIG_PUBLIC_URL, {PREFIX}EXPORT_KEY_FILE: set both, or none"
            )
        if self.dkim_file is None and not self.development:
            raise ValueError(f"{PREFIX}DKIM_FILE: name the file with the keys that sign our mail")
        return self

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

    @property
    def egress(self) -> Egress:
        """The installer's keys, the Marketplace and the service desk; mail goes by SMTP."""
        reports = self.marketplace_url if self.marketplace_developer_id else None
        return super().egress | Egress.to(self.session_jwks_url, reports, self.tickets_url)

    @property
    def certificates(self) -> Mapping[str, Path]:
        """The files of certificates by which other servers are trusted, each with its name."""
        of_mail = {"smtp-authority": self.smtp_authority_file} if self.smtp_authority_file else {}
        return {**super().certificates, **of_mail}

    @property
    def report_source(self) -> ReportSource | None:
        """Where the Marketplace's report is; None where none is read."""
        developer_id, account = self.marketplace_developer_id, self.marketplace_account
        token_file = self.marketplace_token_file
        if developer_id is None or account is None or token_file is None:
            return None
        return ReportSource(
            self.marketplace_url, developer_id, account, token_file, self.egress.client
        )

    @model_validator(mode="after")
    def _the_desk_is_named_whole(self) -> Self:
        given = {
            "URL": self.tickets_url,
            "PROJECT": self.tickets_project,
            "LICENCE_FIELD": self.tickets_licence_field,
            "ACCOUNT": self.tickets_account,
            "TOKEN_FILE": self.tickets_token_file,
        }
        names = ", ".join(f"{PREFIX}TICKETS_{name}" for name in given)
        if any(given.values()) and not all(given.values()):
            raise ValueError(f"{names}: set all five, or none to erase tickets by hand")
        if any(given.values()) and self.tickets == "none":
            raise ValueError(f"{PREFIX}TICKETS: there is no desk, but {names} name one")
        return self
