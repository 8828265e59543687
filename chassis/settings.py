"""The environment variables every service has, typed, with secrets that do not print."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.egress import Egress
from chassis.staff.people import Role
from chassis.staff.provider import Client
from chassis.syslog import BadSyslogAddress, address_in

PREFIX = "KEEPWORD_"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class BadSettings(Exception):  # noqa: N818 - reads as the fact it states
    """The environment does not describe a service that can run; never carries a value."""

    def __init__(self, complaints: list[str]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("; ".join(complaints))


class ServiceSettings(BaseSettings):
    """What each service reads from its environment.

    The services share one set of names, as each is a process with an environment
    of its own. A service adds its settings in a subclass and names itself in
    ``service``. Read with ``load()``, whose errors name variables, not values.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    service: ClassVar[str]

    database_url: SecretStr
    worker_database_url: SecretStr
    eraser_database_url: SecretStr
    # Only migrations act as the owner of the tables.
    owner_database_url: SecretStr | None = None

    kafka_bootstrap_servers: str = Field(min_length=1)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca_file: Path | None = None

    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)
    public_url: str

    development: bool = False
    clock_offset_file: Path | None = None
    key_encryption_keys_file: Path | None = None
    # Where staff sign on: the provider's name for itself, and what this service is to it.
    staff_issuer: str | None = None
    # Where else the provider is asked, if its tokens or keys lie at another host than its issuer.
    staff_provider_urls: frozenset[str] = frozenset()
    staff_client_id: str | None = None
    staff_client_secret_file: Path | None = None
    # The client of the `keepword` command, whose ID tokens are taken as bearer tokens.
    staff_command_client_id: str = Field(default="keepword", min_length=1)
    # Which group gives which role, and the claim in which a person's groups are told.
    staff_groups: dict[Role, str] = Field(default_factory=dict)
    staff_groups_claim: str = Field(default="groups", min_length=1)
    # Values of `amr` (RFC 8176), one of which a sign-on has to name; none on a laptop alone.
    staff_second_factors: frozenset[str] = frozenset({"mfa"})
    # The services whose pages are in staff's navigation, each with its public address.
    staff_services: dict[str, str] = Field(default_factory=dict)
    # Where the audit is copied to as JSON lines, outside the database.
    audit_file: Path | None = None
    # Where it is sent to as well: tcp://host:port or udp://host:port of a syslog server.
    audit_syslog: str | None = None
    # Signs how far the audit had come before months of it go; without it they stay.
    audit_key_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str | None = None

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raise ``BadSettings`` that says per variable what to do."""
        try:
            return cls()
        except ValidationError as refused:
            raise BadSettings(_complaints(cls, refused)) from None

    @property
    def egress(self) -> Egress:
        """Whom the service may talk to over HTTP: the identity provider, and whom it adds."""
        return Egress.to(self.staff_issuer, *self.staff_provider_urls)

    @property
    def certificates(self) -> Mapping[str, Path]:
        """The files of certificates by which other servers are trusted, each with its name."""
        return {"kafka-ca": self.kafka_ca_file} if self.kafka_ca_file else {}

    @property
    def staff(self) -> Client | None:
        """What this service is to the identity provider, None where none is named."""
        issuer, name, secret = (
            self.staff_issuer,
            self.staff_client_id,
            self.staff_client_secret_file,
        )
        if issuer is None or name is None or secret is None:
            return None
        return Client(
            issuer=issuer,
            client_id=name,
            secret_file=secret,
            command_id=self.staff_command_client_id,
            groups=self.staff_groups,
            groups_claim=self.staff_groups_claim,
            second_factors=self.staff_second_factors,
            http=self.egress.client,
        )

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_lower_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @field_validator(
        "database_url", "worker_database_url", "eraser_database_url", "owner_database_url"
    )
    @classmethod
    def _names_a_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _require_database_url(url.get_secret_value())
        return url

    @field_validator("staff_issuer")
    @classmethod
    def _is_an_issuer(cls, url: str | None) -> str | None:
        # Kept as it is: tokens name it letter by letter (OpenID Connect Core 1.0, section 3.1.3.7).
        if url is not None:
            cls._is_a_web_address(url)
            parts = urlsplit(url)
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                raise ValueError("must start with https://")
        return url

    @field_validator("audit_syslog")
    @classmethod
    def _is_a_syslog_address(cls, url: str | None) -> str | None:
        if url is not None:
            try:
                address_in(url)
            except BadSyslogAddress as bad:
                raise ValueError(str(bad)) from None
        return url

    @field_validator("staff_services")
    @classmethod
    def _are_web_addresses(cls, services: dict[str, str]) -> dict[str, str]:
        for url in services.values():
            cls._is_a_web_address(url)
        return services

    @field_validator("public_url", "otlp_endpoint")
    @classmethod
    def _is_a_web_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
        except ValueError:
            # Its message repeats the address.
            raise ValueError("give a full address that starts with https:// or http://") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("give a full address that starts with https:// or http://")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("give an address without user, query or fragment")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        """Refuse what is only for a laptop, and half a login, before anything starts."""
        _ = self.egress
        public = urlsplit(self.public_url)
        if not self.development and public.scheme != "https" and public.hostname not in _LOOPBACK:
            raise ValueError(f"{PREFIX}PUBLIC_URL: must start with https:// outside development")
        if self.clock_offset_file is not None and not self.development:
            raise ValueError(
                f"{PREFIX}CLOCK_OFFSET_FILE: time moves only in development; unset it,"
                f" or set {PREFIX}DEVELOPMENT=true on a laptop"
            )
        if self.kafka_security_protocol.startswith("SASL") and (
            self.kafka_username is None or self.kafka_password is None
        ):
            raise ValueError(
                f"{PREFIX}KAFKA_SECURITY_PROTOCOL: begins with SASL, so set"
                f" {PREFIX}KAFKA_USERNAME and {PREFIX}KAFKA_PASSWORD"
            )
        self._lets_staff_in()
        return self

    def _lets_staff_in(self) -> None:
        if self.staff_issuer is None:
            return
        if self.staff is None or not self.staff_groups:
            raise ValueError(
                f"{PREFIX}STAFF_CLIENT_ID, {PREFIX}STAFF_CLIENT_SECRET_FILE and"
                f" {PREFIX}STAFF_GROUPS: set all three when {PREFIX}STAFF_ISSUER is set"
            )
        if self.staff_client_id == self.staff_command_client_id:
            raise ValueError(
                f"{PREFIX}STAFF_CLIENT_ID: the service and the command need a client each,"
                f" see {PREFIX}STAFF_COMMAND_CLIENT_ID"
            )
        if self.audit_key_file is None and not self.development:
            raise ValueError(
                f"{PREFIX}AUDIT_KEY_FILE: what staff do is kept for 400 days, and its end is signed"
                " before a month goes; name a file with an Ed25519 key in PEM"
            )
        if not self.staff_second_factors and not self.development:
            raise ValueError(
                f"{PREFIX}STAFF_SECOND_FACTORS: staff sign on with a second factor; name the values"
                " of amr that say so"
            )


class CalledByPages(ServiceSettings):
    """Of a service that the scripts of the installer's pages call: where these pages lie, if they do."""

    installer_public_url: str | None = None

    @field_validator("installer_public_url")
    @classmethod
    def _is_the_address_of_pages(cls, url: str | None) -> str | None:
        if url is not None and not (
            url.startswith(("http://", "https://")) and urlsplit(url).netloc
        ):
            raise ValueError("give the installer's public address")
        return url

    @property
    def pages_origin(self) -> str | None:
        """Whose scripts may call us from a browser."""
        if self.installer_public_url is None:
            return None
        parts = urlsplit(self.installer_public_url)
        return f"{parts.scheme}://{parts.netloc}"


def _require_database_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and len(parts.path) > 1
    except ValueError:
        named = False
    else:
        named = named and parts.scheme in {"postgres", "postgresql"}
    if not named:
        raise ValueError("give an address of the form postgresql://role:password@host:port/name")


def _complaints(settings: type[ServiceSettings], refused: ValidationError) -> list[str]:
    complaints = []
    for error in refused.errors(include_url=False, include_input=False):
        name = str(error["loc"][0]) if error["loc"] else ""
        complaints.append(_complaint(settings, name, error["type"], error["msg"]))
    return complaints


def _complaint(settings: type[ServiceSettings], field: str, kind: str, message: str) -> str:
    advice = message.removeprefix("Value error, ")
    if not field:
        return advice
    variable = f"{settings.model_config.get('env_prefix', '')}{field}".upper()
    if kind == "missing":
        return f"{variable}: is not set; set it before {settings.service} starts"
    return f"{variable}: {advice[:1].lower()}{advice[1:]}"
