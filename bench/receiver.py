"""Receives records in a process of its own and says when each arrived: ``python -m bench.receiver``.

It prints ``ready`` once it stands at the end of the topic, and, when all have come, one line of
JSON that maps CloudEvents ids to nanoseconds of the clock that all processes of a machine share.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop
from aiokafka import AIOKafkaConsumer

_PATIENCE_SECONDS = 60
Arrivals = dict[str, int]


class Receiver:
    """A receiving process, as the one that sends sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def arrivals(self) -> Arrivals:
        """Wait until all records have come; answer by id when each did, in nanoseconds.

        Raises TimeoutError when some do not come within a minute.
        """
        async with asyncio.timeout(_PATIENCE_SECONDS):
            arrivals: Arrivals = json.loads(await _line_of(self._process))
            return arrivals


@asynccontextmanager
async def receiving(bootstrap_servers: str, topic: str, count: int) -> AsyncIterator[Receiver]:
    """Start a process that receives so many different records from now on, and is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.receiver", bootstrap_servers, topic, str(count)),
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _line_of(process)
        yield Receiver(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("the receiving process ended early")
    return line


async def _receive(bootstrap_servers: str, topic: str, count: int) -> None:
    # Without a group it is given all partitions.
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers)
    await consumer.start()
    try:
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        arrivals: Arrivals = {}
        while len(arrivals) < count:
            batches = await consumer.getmany(timeout_ms=1_000)
            now = time.monotonic_ns()
            for records in batches.values():
                for record in records:
                    arrivals.setdefault(dict(record.headers)["ce_id"].decode(), now)
        sys.stdout.write(f"{json.dumps(arrivals)}\n")
    finally:
        await consumer.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and receive."""
    parser = argparse.ArgumentParser(prog="python -m bench.receiver")
    parser.add_argument("bootstrap_servers")
    parser.add_argument("topic")
    parser.add_argument("count", type=int)
    options = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_receive(options.bootstrap_servers, options.topic, options.count))


if __name__ == "__main__":
    main()
