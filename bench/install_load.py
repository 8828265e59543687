"""Sends prepared requests over many connections: ``python -m bench.install_load``, a light process.

What it spends is taken from the service that it measures, so it speaks to sockets, reads nothing
of an answer but its status, and every byte that it sends was written before.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httptools
import uvloop

_LENGTH_BYTES = 4
_PATIENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load: how long it took, and how each request ended."""

    seconds: float
    statuses: dict[str, int]
    milliseconds: list[float]


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    """Write the bytes of requests into a file, to be sent later."""
    with path.open("wb") as file:
        for request in requests:
            file.write(len(request).to_bytes(_LENGTH_BYTES, "big") + request)


def read_requests(path: Path) -> deque[bytes]:
    """Read what `write_requests` wrote."""
    written = memoryview(path.read_bytes())
    requests: deque[bytes] = deque()
    while written:
        end = _LENGTH_BYTES + int.from_bytes(written[:_LENGTH_BYTES], "big")
        requests.append(bytes(written[_LENGTH_BYTES:end]))
        written = written[end:]
    return requests


async def send_from_process(path: Path, *, port: int, connections: int) -> Load:
    """Send the requests of a file from a process of its own, to a port of this machine.

    Raises RuntimeError when a connection ends before all is answered.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.install_load", str(path), str(port), str(connections)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the load generator ended with status {process.returncode}")
    return Load(**json.loads(output))


class _Connection(asyncio.Protocol):
    """One connection, that sends the next request when the last one is answered."""

    def __init__(self, requests: deque[bytes], load: Load, ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._load = load
        self._ended = ended
        self._answer = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none of asyncio's classes, though it does all that they do.
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        """Send a request, or close where none is left."""
        assert self._transport is not None
        if not self._requests:
            if not self._ended.done():
                self._ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests.popleft())

    def data_received(self, data: bytes) -> None:
        self._answer.feed_data(data)

    def on_message_complete(self) -> None:
        """Note an answer; the parser calls this."""
        self._load.milliseconds.append((time.perf_counter() - self._sent_at) * 1e3)
        status = str(self._answer.get_status_code())
        self._load.statuses[status] = self._load.statuses.get(status, 0) + 1
        self._answer = httptools.HttpResponseParser(self)
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionResetError("closed before its answer"))


async def _send(path: Path, port: int, connections: int) -> Load:
    requests = read_requests(path)
    loop = asyncio.get_running_loop()
    load = Load(0.0, Counter(), [])
    ends = [loop.create_future() for _ in range(connections)]
    opened = []
    for end in ends:
        _, connection = await loop.create_connection(
            lambda end=end: _Connection(requests, load, end),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        opened.append(connection)
    began = time.perf_counter()
    for connection in opened:
        connection.send_next()
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await asyncio.gather(*ends)
    return Load(time.perf_counter() - began, load.statuses, load.milliseconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, send, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.install_load")
    parser.add_argument("file", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    options = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(_send(options.file, options.port, options.connections))
    json.dump(
        {
            "seconds": load.seconds,
            "statuses": load.statuses,
            "milliseconds": [round(each, 3) for each in load.milliseconds],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
