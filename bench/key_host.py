"""Serves Atlassian's public key at next to no cost: who asks for it each time pays for asking alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httptools

from devstack.atlassian import Atlassian


class _Answers(asyncio.Protocol):
    """One connection; its requests are for our key, or for none that there is."""

    def __init__(self, path: bytes, key: bytes) -> None:
        self._path = path
        self._key = key
        self._asked = b""
        self._request = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes, though it does all that they do.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._request.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Note what is asked for; the parser calls this, in pieces where it came in pieces."""
        self._asked += url

    def on_message_complete(self) -> None:
        """Answer; the parser calls this."""
        assert self._transport is not None
        self._transport.write(
            _response(b"200 OK", self._key)
            if self._asked == self._path
            else _response(b"404 Not Found", b"")
        )
        self._asked = b""
        if not self._request.should_keep_alive():
            self._transport.close()


def _response(status: bytes, content: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(content),
        content,
    )


@asynccontextmanager
async def key_host(atlassian: Atlassian, *, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve the public key of a signer under its id; give the URL that goes before the id."""
    path, key = f"/{atlassian.key_id}".encode(), atlassian.public_key_pem.encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answers(path, key), host, 0)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
