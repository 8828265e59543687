"""Customers of a release in a cluster: signed here, and sent to the installer's Service by a pod."""

import asyncio
import contextlib
import itertools
import os
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from connect.lifecycle import EventType
from devstack.atlassian import Atlassian
from tests.support.chart import Manifest
from tests.support.cluster import Cluster
from tests.support.outside import APP_KEY, KEYS_PORT, Outside

TAKEN = 204
POD = "customers"

# Keys of install tokens come by https, or from the installer's own machine: so ours are led to there.
RELAY = """
import asyncio, sys

async def carry(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def lead(reader, writer):
    try:
        there = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    except OSError:
        return writer.close()
    await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

async def main():
    async with await asyncio.start_server(lead, "127.0.0.1", int(sys.argv[3])) as server:
        await server.serve_forever()

asyncio.run(main())
"""

# Each line is a number and a request; each answer is that number and a status, 0 where none came.
# Connections are kept, as a proxy keeps them, and a request is sent once.
SENDER = """
import asyncio, base64, sys

async def answer(reader):
    status = int((await reader.readline()).split()[1])
    length, kept = 0, True
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"connection" and value.strip().lower() == b"close":
            kept = False
    await reader.readexactly(length)
    return status, kept

idle = []

async def send(number, request):
    status, kept = 0, False
    try:
        async with asyncio.timeout(10):
            while idle and idle[-1][0].at_eof():
                idle.pop()[1].close()
            reader, writer = idle.pop() if idle else await asyncio.open_connection(*sys.argv[1:3])
            writer.write(request)
            status, kept = await answer(reader)
            if kept:
                idle.append((reader, writer))
            else:
                writer.close()
    except (OSError, EOFError, IndexError, ValueError, TimeoutError) as error:
        print(repr(error), file=sys.stderr, flush=True)
    print(number.decode(), status, flush=True)

async def main():
    lines = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with asyncio.TaskGroup() as sending:
        while line := await lines.readline():
            number, request = line.split()
            sending.create_task(send(number, base64.b64decode(request)))

asyncio.run(main())
"""
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


class Customers:
    """Sites that install and uninstall, each call signed and sent once."""

    def __init__(
        self, atlassian: Atlassian, base_url: str, sender: asyncio.subprocess.Process
    ) -> None:
        self._atlassian = atlassian
        self._base_url = base_url
        self._sender = sender
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def call(self, site: str, event: EventType) -> int:
        """Let a site call; give the status, 0 where no answer came."""
        path = f"/connect/{APP_KEY}"
        hook = self._atlassian.hook(
            self._atlassian.site(site),
            event,
            app_key=APP_KEY,
            audience=f"{self._base_url}{path}",
            path=f"/lifecycle/{event.value}",
        )
        headers = {**hook.headers, "Host": "installer", "Content-Length": str(len(hook.content))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"POST {path}{hook.path} HTTP/1.1\r\n{head}\r\n".encode() + hook.content
        number = next(self._numbers)
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        assert self._sender.stdin is not None
        self._sender.stdin.write(b"%d %b\n" % (number, b64encode(request)))
        return await answered

    async def install_steadily(
        self, prefix: str, per_second: float, enough: asyncio.Event, *, and_leave: bool = False
    ) -> Counter[int]:
        """Let new sites install at a rate, whatever becomes of them, until it is enough."""
        calls: list[asyncio.Task[list[int]]] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not enough.is_set():
            calls.append(asyncio.create_task(self._visit(f"{prefix}-{len(calls)}", and_leave)))
            pause = began + len(calls) / per_second - loop.time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), max(pause, 0.001))
        return Counter(itertools.chain.from_iterable(await asyncio.gather(*calls)))

    async def hear(self) -> None:
        """Take the answers as they come."""
        assert self._sender.stdout is not None
        while line := await self._sender.stdout.readline():
            number, status = line.split()
            self._waiting.pop(int(number)).set_result(int(status))

    async def _visit(self, site: str, and_leave: bool) -> list[int]:
        statuses = [await self.call(site, EventType.INSTALLED)]
        if and_leave:
            statuses.append(await self.call(site, EventType.UNINSTALLED))
        return statuses


def pod_of_customers(image: str) -> Manifest:
    """Give the pod from which customers call."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": POD,
                    "image": image,
                    "command": ["python3", "-c", "import signal; signal.pause()"],
                    "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
                    "securityContext": _SECURITY,
                }
            ],
        },
    }


def beside_installer(image: str, outside: Outside) -> Manifest:
    """Give the patch that puts the keys of our signer within reach of the installer's pods."""
    container = {
        "name": "key-host",
        "image": image,
        "command": ["python3", "-c", RELAY],
        "args": [outside.postgres.host, str(outside.keys_port), str(KEYS_PORT)],
        # It outlives the service beside it, which may ask for a key until it ends.
        "lifecycle": {"preStop": {"sleep": {"seconds": 15}}},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": _SECURITY,
    }
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


@asynccontextmanager
async def calling(cluster: Cluster, outside: Outside) -> AsyncIterator[Customers]:
    """Let customers call from their pod, wherever the cluster is."""
    sender = await asyncio.create_subprocess_exec(
        *("kubectl", f"--namespace={cluster.namespace}", "exec", "--stdin", POD, "--"),
        *("python3", "-c", SENDER, "keepword-installer", "8080"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    customers = Customers(outside.atlassian, outside.public_url("installer"), sender)
    hearing = asyncio.create_task(customers.hear())
    try:
        yield customers
    finally:
        assert sender.stdin is not None
        sender.stdin.close()
        await asyncio.wait_for(sender.wait(), 60)
        await hearing
