"""A mail server that keeps nothing but a count and the last message: the fastest one there is."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import uvloop

_REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 Go on\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
_END = b"\r\n.\r\n"


@dataclass(slots=True)
class _Kept:
    count: int = 0
    last: bytes = b""


class _Conversation(asyncio.Protocol):
    """One connection: takes everything. ``COUNT`` and ``LAST`` are asked by the benchmark alone."""

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but name.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while True:
            end = self._unread.find(_END if self._in_data else b"\r\n")
            if end < 0:
                return
            length = end + (len(_END) if self._in_data else 2)
            taken = bytes(self._unread[:length])
            del self._unread[:length]
            self._answer(taken)

    def _answer(self, taken: bytes) -> None:
        assert self._transport is not None
        if self._in_data:
            self._in_data = False
            self._kept.count += 1
            self._kept.last = taken
            self._transport.write(b"250 2.0.0 Taken\r\n")
            return
        verb = taken[:4].upper()
        if verb == b"COUN":
            self._transport.write(b"%d\r\n" % self._kept.count)
        elif verb == b"LAST":
            self._transport.write(b"%d\r\n" % len(self._kept.last) + self._kept.last)
        else:
            self._in_data = verb == b"DATA"
            self._transport.write(_REPLIES.get(verb, b"250 2.1.0 OK\r\n"))
            if verb == b"QUIT":
                self._transport.close()


@dataclass(frozen=True, slots=True)
class MailCounter:
    """The server, as the benchmark sees it."""

    port: int

    async def count(self) -> int:
        """How many messages it has taken."""
        async with self._asking(b"COUNT") as reader:
            return int(await reader.readline())

    async def last_message(self) -> bytes:
        """The message that came last, as it was before it was made ready for the wire."""
        async with self._asking(b"LAST") as reader:
            length = int(await reader.readline())
            taken = await reader.readexactly(length)
        return taken[: -len(_END)].replace(b"\r\n..", b"\r\n.") + b"\r\n"

    @asynccontextmanager
    async def _asking(self, question: bytes) -> AsyncIterator[asyncio.StreamReader]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await reader.readline()
        writer.write(question + b"\r\n")
        try:
            yield reader
        finally:
            writer.close()


@asynccontextmanager
async def mail_counter() -> AsyncIterator[MailCounter]:
    """Run the server in a process of its own, on a free port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.mail_sink", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield MailCounter(int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


async def _serve() -> None:
    kept = _Kept()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Conversation(kept), "127.0.0.1", 0
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
