"""Which addresses a site's base URL may have.

A base URL from a lifecycle body is called later with a token of ours, so a host that is not
Atlassian's must not get in: a suffix counts only at a dot, and nothing but the plain form of a URL
is read at all.
"""

import re
from dataclasses import dataclass

ATLASSIAN_DOMAINS = ("atlassian.net", "jira-dev.com", "jira.com")
"""Domains under which Atlassian's cloud sites live."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

MAX_URL_LENGTH = 255

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[::1\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<path>(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*)/?",
)
_ORIGIN = re.compile(r"(https?://[^/]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A base URL in its plain form: no user, query, fragment or trailing slash."""

    scheme: str
    host: str
    port: str | None
    path: str

    @property
    def authority(self) -> str:
        """The host, with the port where one is given."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The hosts that may call themselves a customer's site.

    ``domains`` admit every host below them, by https and without a port.
    ``https`` and ``http`` name single hosts, as ``host`` or ``host:port``;
    plain http is for a laptop and admits nothing by default.
    """

    domains: tuple[str, ...] = ATLASSIAN_DOMAINS
    https: frozenset[str] = frozenset()
    http: frozenset[str] = frozenset()

    def admit(self, url: str) -> str | None:
        """Give the URL in its plain form, or None where its host is not allowed."""
        base = parse_base_url(url)
        return str(base) if base is not None and self._admits(base) else None

    def _admits(self, base: BaseUrl) -> bool:
        if base.scheme == "http":
            return base.authority in self.http
        if base.authority in self.https:
            return True
        return base.port is None and any(
            base.host.endswith("." + domain) for domain in self.domains
        )


def parse_base_url(url: str) -> BaseUrl | None:
    """Read an http(s) URL of host, port and plain path; None for every other text."""
    if len(url) > MAX_URL_LENGTH:
        return None
    match = _URL.fullmatch(_ORIGIN.sub(lambda origin: origin[0].lower(), url, count=1))
    if match is None:
        return None
    return BaseUrl(match["scheme"], match["host"], match["port"], match["path"])


def is_private_enough(base: BaseUrl) -> bool:
    """Say whether what travels there cannot be read on the way: https, or this very machine."""
    return base.scheme == "https" or base.host in LOOPBACK
