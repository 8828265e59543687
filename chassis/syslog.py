"""Hands the audit to a syslog server: RFC 5424, over TCP a line each (RFC 6587, 3.4.2), or over UDP."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from logging.handlers import SysLogHandler
from typing import Final
from urllib.parse import urlsplit

from chassis.audit import Entry

_KINDS: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_NOTICE: Final = 5
_AUTHPRIV: Final = SysLogHandler.LOG_AUTHPRIV


class BadSyslogAddress(Exception):  # noqa: N818 - reads as the fact it states
    """That is not where a syslog server is."""


class Syslog:
    """A syslog server at ``tcp://host:port`` or ``udp://host:port``; over UDP what is lost is lost."""

    def __init__(self, service: str, url: str) -> None:
        self._service = service
        self._address, self._kind = address_in(url)

    async def send(self, entries: Sequence[Entry]) -> None:
        """Send entries in order; raises ``OSError`` where the server is away."""
        await asyncio.to_thread(self._send, entries)

    def _send(self, entries: Sequence[Entry]) -> None:
        sender = _Sender(self._address, facility=_AUTHPRIV, socktype=self._kind)
        try:
            for entry in entries:
                text = (
                    f"1 {entry.at.isoformat()} - keepword-{self._service} - audit - {entry.line()}"
                )
                sender.emit(logging.LogRecord("audit", _NOTICE, "", 0, f"{text}\n", None, None))
        finally:
            sender.close()


class _Sender(SysLogHandler):
    append_nul = False

    def mapPriority(self, _: str) -> str:  # noqa: N802 - as the library names it
        return "notice"

    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802 - likewise
        # The library prints what went wrong and goes on, as it does within a handler of errors.
        raise  # noqa: PLE0704


def address_in(url: str) -> tuple[tuple[str, int], socket.SocketKind]:
    """Read an address; raises ``BadSyslogAddress``."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in _KINDS or parts.path:
        raise BadSyslogAddress("give an address of the form tcp://host:port or udp://host:port")
    return (host, port), _KINDS[parts.scheme]
