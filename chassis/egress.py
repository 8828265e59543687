"""Whom a service may talk to over HTTP, and the one maker of clients, which reach nobody else."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, Self

import httpcore2
import httpx2
import structlog

log = structlog.get_logger(__name__)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host; raises OSError where it has none."""

_USUAL_PORTS: Final = {"https": 443, "http": 80}
_HOST: Final = re.compile(r"[a-z0-9._:-]+")
_MOST_ADDRESSES: Final = 4
_NAT64: Final = IPv6Network("64:ff9b::/96")
# Private, and not known as such to Python 3.11: NAT64 of one's own (RFC 8215), site-local (RFC 3879).
_PRIVATE: Final = (IPv6Network("64:ff9b:1::/48"), IPv6Network("fec0::/10"))


class NotAllowed(httpx2.ConnectError):
    """A host is not on the service's list, or is not where a customer's site may be."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme, a host and a port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx2.URL) -> Self:
        """Read a URL; the port is the scheme's usual one where none is given."""
        return cls(
            url.scheme,
            url.raw_host.decode("ascii").lower(),
            url.port or _USUAL_PORTS.get(url.scheme, 0),
        )


@dataclass(frozen=True, slots=True)
class Egress:
    """The hosts that one service may talk to over HTTP.

    ``origins`` stand in the operator's settings and may lie anywhere, as our own services do in a
    cluster. ``domains`` are those under which customers name hosts of their own: each host below them
    is reached by https on its usual port, and only at public addresses.
    """

    origins: frozenset[Origin] = frozenset()
    domains: tuple[str, ...] = ()

    @classmethod
    def to(cls, *urls: str | None, domains: Iterable[str] = ()) -> Self:
        """Allow the origins of these URLs, of which some may not be set, and hosts below domains.

        Raises:
            ValueError: one is no URL.
        """
        return cls(frozenset(_named(url) for url in urls if url), tuple(domains))

    def __or__(self, other: "Egress") -> "Egress":
        return Egress(self.origins | other.origins, (*self.domains, *other.domains))

    def names(self, host: str, port: int) -> bool:
        """Whether the operator has named a host itself."""
        return any((origin.host, origin.port) == (host, port) for origin in self.origins)

    def admits(self, url: httpx2.URL) -> bool:
        """Whether a request may go there; where a host below a domain lies is asked later."""
        origin = Origin.of(url)
        if origin in self.origins:
            return True
        return (origin.scheme, origin.port) == ("https", _USUAL_PORTS["https"]) and any(
            origin.host.endswith(f".{domain}") for domain in self.domains
        )

    def client(self, *, at_once: int | None = None, keeps_connections: bool = True) -> "Client":
        """Make a client that reaches these hosts and raises ``NotAllowed`` for every other.

        That holds for each step of a redirect too, if anybody follows one: the client does not. It
        keeps no cookie and uses no proxy, neither of the environment nor of anybody.
        """
        limits = httpx2.Limits(
            max_connections=at_once, max_keepalive_connections=None if keeps_connections else 0
        )
        return httpx2.AsyncClient(
            transport=_Transport(self, limits),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )


def _named(url: str) -> Origin:
    try:
        origin = Origin.of(httpx2.URL(url))
    except httpx2.InvalidURL:
        origin = None
    if origin is None or origin.scheme not in _USUAL_PORTS or not _HOST.fullmatch(origin.host):
        # Without the address, which may hold a secret.
        raise ValueError("an address of a server to be asked cannot be read")
    return origin


Client = httpx2.AsyncClient
MakeClient = Callable[[], Client]


async def addresses_of(host: str, port: int) -> list[str]:
    """Ask the machine's resolver for the addresses of a host, the best first."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(text: str) -> bool:
    """Whether an address is of the open internet, and of one host there.

    An IPv4 address within one of IPv6 (mapped, RFC 4291; 6to4, RFC 3056; NAT64, RFC 6052) is looked
    at as what it leads to.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if any(address in network for network in _PRIVATE):
            return False
        address = _within(address) or address
    return address.is_global and not address.is_multicast


def _within(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


class _Transport(httpx2.AsyncHTTPTransport):
    """Sends what is allowed; each request comes by here, those of redirects too."""

    def __init__(self, egress: Egress, limits: httpx2.Limits) -> None:
        # The pool is all that the base would make, and lets nobody say how a host is reached.
        self._egress = egress
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=Network(egress),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; raises ``NotAllowed`` before anything of it has left."""
        if not self._egress.admits(request.url):
            raise _refused("not on the list")
        return await super().handle_async_request(request)


@dataclass(slots=True)
class Network(httpcore2.AsyncNetworkBackend):
    """Connects to named hosts as they are, to others at the addresses that were looked at.

    A name is asked for once for each connection, and the connection goes to the very address that
    was found public: a name that answers differently the next time (DNS rebinding) changes nothing.
    """

    egress: Egress
    resolve: Resolve = addresses_of
    inner: httpcore2.AsyncNetworkBackend = field(default_factory=httpcore2.AnyIOBackend)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect; raises ``NotAllowed`` where one of a customer's addresses is not public."""
        if self.egress.names(host, port):
            return await self.inner.connect_tcp(host, port, timeout, local_address, socket_options)
        addresses = await self._public_addresses(host, port, timeout)
        # One that does not answer leaves time for the others.
        share = None if timeout is None else timeout / len(addresses)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self.inner.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Wait, before another attempt."""
        await self.inner.sleep(seconds)

    async def _public_addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                found = await self.resolve(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None
        except (OSError, UnicodeError):
            # Its message repeats the name, which is a customer's.
            raise httpcore2.ConnectError("the name has no address") from None
        if not found:
            raise httpcore2.ConnectError("the name has no address")
        if not all(map(is_public, found)):
            raise _refused("an address that is not public")
        return found[:_MOST_ADDRESSES]


def _refused(why: str) -> NotAllowed:
    # Not which host: it may be a customer's.
    log.warning("egress refused", why=why)
    return NotAllowed(why)
