"""Runs the parts of a process until somebody asks it to stop, then stops them in order."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()

STOP_WITHIN: Final = timedelta(seconds=30)
# Longer than proxies keep a connection that nothing goes over, most of them for 60 s: who closes it
# first has no request of the other side on its way.
_KEPT_FOR_SECONDS: Final = 75
_LOOK_EVERY_SECONDS: Final = 0.1
_MUCH_BYTES: Final = 16 * 1024
_MUCH_WRITES: Final = 4
CANNOT_START: Final = 2
_LAST_ONE: Final = (b"connection", b"close")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Part(Protocol):
    """Something that runs as long as the process does."""

    name: str

    async def run(self) -> None:
        """Run until ``stop`` is called; ending earlier stops the whole process."""

    async def stop(self) -> None:
        """Take no new work and return when what was begun is done."""


class CannotStart(Exception):  # noqa: N818 - reads as the fact it states
    """What is around the process is not as it has to be.

    The message is one line that says what is wrong and what mends it, without a value of a secret.
    """


class PartFailed(Exception):  # noqa: N818 - reads as the fact it states
    """A part ended by itself, or did not stop in time."""


async def run_until_stopped(
    parts: Sequence[Part],
    *,
    stop: asyncio.Event | None = None,
    stop_within: timedelta = STOP_WITHIN,
) -> None:
    """Run all parts at once until SIGTERM, SIGINT, ``stop``, or the end of one of them.

    They are then stopped one after another, the last first, all within
    ``stop_within``; what still runs afterwards is cancelled. Returns after a
    clean stop. Raises ``PartFailed`` when a part ended by itself or had to be
    cancelled, and what a part raised as ``CannotStart``. A second signal cancels
    everything at once.
    """
    asked = asyncio.Event() if stop is None else stop
    hurried = asyncio.Event()
    running = {part.name: asyncio.create_task(part.run(), name=part.name) for part in parts}
    with _signals_heard(asked, hurried):
        try:
            ended = await _first_to_end(asked, running)
            log.info("stopping", because="asked" if not ended else "part ended", parts=ended)
            cancelled = await _stop_all(parts, running, hurried, stop_within)
        finally:
            await _cancel(running.values())
    broken = [name for name, task in running.items() if name in ended or _raised(task)]
    for name in broken:
        _raise_if_it_cannot_start(running[name])
    failed = [_failure_of(name, running[name]) for name in broken] + [
        f"{name} did not stop in time" for name in cancelled if name not in broken
    ]
    if failed:
        raise PartFailed("; ".join(failed))
    log.info("stopped")


def main(program: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a program on a new loop and return the exit status: 0 after a clean stop.

    What it raises is logged, redacted like every other line, and gives status 1; where it cannot
    start, one line says why, and the status is 2, as for settings that cannot work.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(program())
    except CannotStart as refused:
        log.critical("cannot start", reason=str(refused))
        return CANNOT_START
    except PartFailed as failure:
        log.error("stopped uncleanly", reason=str(failure))  # noqa: TRY400 - the part's failure is logged where it happened
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as failure:
        log.critical("failed", exc_info=failure)
        return 1
    return 0


class HttpServer:
    """The part that answers HTTP, on a socket that is bound when this is made.

    Port 0 takes a free one, found in ``port``. Raises ``OSError`` where the
    address is taken. The application's lifespan is not run: what must run beside
    it is a part of its own. On stop, whoever keeps a connection is told with each answer that it is
    the last one, for at most ``lets_go_for``, until nobody keeps one: to close it at once would cut
    off a request that is on its way. Then no connection is taken any more and requests in
    flight have ``stop_within`` to finish.
    """

    name = "http"

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        stop_within: timedelta = timedelta(seconds=10),
        lets_go_for: timedelta = timedelta(),
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=2048)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app,
                # Our logs have their own shape, and access lines hold tokens of queries.
                log_config=None,
                access_log=False,
                server_header=False,
                # Whom to believe about the caller's address is a deployment's decision.
                proxy_headers=False,
                lifespan="off",
                timeout_keep_alive=_KEPT_FOR_SECONDS,
                timeout_graceful_shutdown=max(1, round(stop_within.total_seconds())),
                http=_InOnePiece,
            )
        )
        self._lets_go_for = lets_go_for
        self._ended = asyncio.Event()

    @property
    def started(self) -> bool:
        """Whether requests are answered."""
        return self._server.started and not self._ended.is_set()

    async def run(self) -> None:
        """Answer requests until ``stop``."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._socket.close()
            self._ended.set()

    async def stop(self) -> None:
        """Let go of those who keep connections, close the door and wait for requests in flight."""
        if self._lets_go_for:
            # RFC 9112, section 9.6. Both, since uvicorn makes the second of the first each second.
            config, state = self._server.config, self._server.server_state
            config.encoded_headers = [*config.encoded_headers, _LAST_ONE]
            state.default_headers = [*state.default_headers, _LAST_ONE]
            await self._wait_until_nobody_is_connected()
        self._server.should_exit = True
        await self._ended.wait()

    async def _wait_until_nobody_is_connected(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lets_go_for.total_seconds()):
                while self._server.server_state.connections:
                    await asyncio.sleep(_LOOK_EVERY_SECONDS)


class _InOnePiece(HttpToolsProtocol):
    """Sends the head and the body of an answer together; uvicorn makes a packet of each."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathered(transport, self.loop))  # type: ignore[arg-type]


class _Gathered:
    """A transport that sends what is written within one turn of the loop in one piece.

    Much is sent at once, so that whoever streams feels that the other side is slow.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._unsent: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)
        if len(data) > _MUCH_BYTES or len(self._unsent) > _MUCH_WRITES:
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._transport.write(b"".join(unsent))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn raises them again, and the exit status is not 0."""
        yield


@contextlib.contextmanager
def _signals_heard(asked: asyncio.Event, hurried: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def hear(number: signal.Signals) -> None:
        log.info("signal heard", signal=number.name)
        (hurried if asked.is_set() else asked).set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, hear, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def _first_to_end(asked: asyncio.Event, running: dict[str, asyncio.Task[None]]) -> list[str]:
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({waiting, *running.values()}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return [] if asked.is_set() else [name for name, task in running.items() if task.done()]


async def _stop_all(
    parts: Sequence[Part],
    running: dict[str, asyncio.Task[None]],
    hurried: asyncio.Event,
    within: timedelta,
) -> list[str]:
    """Stop the parts in reverse; answer the names of those that did not end in time."""
    stopping = asyncio.create_task(_stop_in_reverse(parts, running))
    waiting = asyncio.create_task(hurried.wait())
    await asyncio.wait(
        {stopping, waiting},
        timeout=within.total_seconds(),
        return_when=asyncio.FIRST_COMPLETED,
    )
    await _cancel([stopping, waiting])
    return [name for name, task in running.items() if not task.done()]


async def _stop_in_reverse(parts: Sequence[Part], running: dict[str, asyncio.Task[None]]) -> None:
    for part in reversed(parts):
        task = running[part.name]
        if not task.done():
            try:
                await part.stop()
            except Exception:
                log.exception("part failed to stop", part=part.name)
                continue
        await asyncio.wait({task})


async def _cancel(tasks: "Sequence[asyncio.Task[None]] | Any") -> None:
    unfinished = [task for task in tasks if not task.done()]
    for task in unfinished:
        task.cancel()
    if unfinished:
        await asyncio.wait(unfinished, timeout=1)


def _raised(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


def _raise_if_it_cannot_start(task: asyncio.Task[None]) -> None:
    failure = None if task.cancelled() else task.exception()
    if isinstance(failure, CannotStart):
        raise failure


def _failure_of(name: str, task: asyncio.Task[None]) -> str:
    failure = None if task.cancelled() else task.exception()
    if failure is None:
        return f"{name} ended by itself"
    log.error("part failed", part=name, exc_info=failure)
    return f"{name} failed: {type(failure).__name__}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - does not exist on Windows

    return uvloop.new_event_loop
