"""A process stops cleanly, in order and in time, and its exit status says whether it did."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from chassis import shutdown
from chassis.shutdown import HttpServer, PartFailed, run_until_stopped

ROOT = Path(__file__).parents[2]


class Recorded:
    """A part that writes down what happens to it."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.story = story
        self.stopping = asyncio.Event()
        self.running = asyncio.Event()

    async def run(self) -> None:
        self.running.set()
        await self.stopping.wait()
        self.story.append(f"{self.name} ended")

    async def stop(self) -> None:
        self.story.append(f"{self.name} asked")
        self.stopping.set()


class Endless(Recorded):
    """A part that ends only when it is cancelled."""

    async def run(self) -> None:
        self.running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.story.append(f"{self.name} cancelled")
            raise


class Broken(Recorded):
    """A part that fails."""

    async def run(self) -> None:
        raise ConnectionError("postgres://user:hunter2@h/x")


async def test_parts_are_stopped_one_after_another_the_last_first() -> None:
    story: list[str] = []
    parts = [Recorded(name, story) for name in ("consumer", "relay", "http")]
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped(parts, stop=stop))
    for part in parts:
        await part.running.wait()
    stop.set()
    await asyncio.wait_for(process, 5)
    assert story == [
        "http asked",
        "http ended",
        "relay asked",
        "relay ended",
        "consumer asked",
        "consumer ended",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_process_cleanly(number: signal.Signals) -> None:
    story: list[str] = []
    part = Recorded("relay", story)
    before = signal.getsignal(number)
    process = asyncio.create_task(run_until_stopped([part]))
    await part.running.wait()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(process, 5)
    assert story == ["relay asked", "relay ended"]
    signal.signal(number, before)


async def test_a_part_that_does_not_stop_in_time_is_cut_off_and_named() -> None:
    story: list[str] = []
    endless, good = Endless("consumer", story), Recorded("http", story)
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(PartFailed, match=r"^consumer did not stop in time$"):
        await run_until_stopped([endless, good], stop=stop, stop_within=timedelta(milliseconds=50))
    assert story == ["http asked", "http ended", "consumer asked", "consumer cancelled"]


async def test_a_second_signal_does_not_wait() -> None:
    story: list[str] = []
    endless = Endless("consumer", story)
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped([endless], stop=stop))
    await endless.running.wait()
    stop.set()
    await endless.stopping.wait()
    before = signal.getsignal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(PartFailed):
        await asyncio.wait_for(process, 5)
    signal.signal(signal.SIGINT, before)


async def test_a_part_that_fails_stops_the_others_and_is_not_a_clean_stop() -> None:
    story: list[str] = []
    good, broken = Recorded("http", story), Broken("relay", story)
    with (
        capture_logs() as logged,
        pytest.raises(PartFailed, match=r"^relay failed: ConnectionError$"),
    ):
        await run_until_stopped([good, broken])
    assert story == ["http asked", "http ended"]
    assert {"part failed", "stopping"} <= {line["event"] for line in logged}


async def test_a_part_that_ends_by_itself_is_not_a_clean_stop() -> None:
    ended = Recorded("jobs", [])
    ended.stopping.set()
    with pytest.raises(PartFailed, match=r"^jobs ended by itself$"):
        await run_until_stopped([ended])


async def test_a_part_that_fails_while_it_stops_is_not_a_clean_stop() -> None:
    class FailsLate(Recorded):
        async def run(self) -> None:
            await super().run()
            raise OSError

    stop = asyncio.Event()
    stop.set()
    with capture_logs(), pytest.raises(PartFailed, match=r"^relay failed: OSError$"):
        await run_until_stopped([FailsLate("relay", [])], stop=stop)


async def test_requests_in_flight_are_answered_before_the_door_closes() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await finish.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    server = HttpServer(app, host="127.0.0.1", port=0)
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped([server], stop=stop))
    async with httpx2.AsyncClient() as client:
        asked = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/"))
        await asyncio.wait_for(begun.wait(), 5)
        assert server.started
        stop.set()
        async with asyncio.timeout(5):
            while not is_refused(server.port):
                await asyncio.sleep(0.01)
        finish.set()
        assert (await asked).text == "answered"
    await asyncio.wait_for(process, 5)
    assert not server.started


async def test_whoever_keeps_a_connection_is_told_before_it_is_closed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    server = HttpServer(
        app, host="127.0.0.1", port=0, lets_go_for=timedelta(seconds=1), stop_within=timedelta(0)
    )
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped([server], stop=stop))
    async with httpx2.AsyncClient() as client:
        url = f"http://127.0.0.1:{server.port}/"
        before = await client.get(url)
        assert "connection" not in before.headers
        stop.set()
        async with asyncio.timeout(0.9):
            # On the same connection, which would be reset if it were closed at once.
            while (answer := await client.get(url)).headers.get("connection") != "close":
                pass
        assert answer.text == "answered"
    await asyncio.wait_for(process, 5)
    assert is_refused(server.port)


async def test_nobody_is_waited_for_where_nobody_is_connected() -> None:
    server = HttpServer(no_app, host="127.0.0.1", port=0, lets_go_for=timedelta(minutes=1))
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped([server], stop=stop))
    async with asyncio.timeout(5):
        while not server.started:
            await asyncio.sleep(0.01)
        stop.set()
        await process


async def test_who_keeps_a_connection_and_says_nothing_is_waited_for_no_longer_than_that() -> None:
    server = HttpServer(no_app, host="127.0.0.1", port=0, lets_go_for=timedelta(seconds=0.5))
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped([server], stop=stop))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    while not server.started:
        await asyncio.sleep(0.01)
    stop.set()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
        await process
    writer.close()


@pytest.mark.long
async def test_an_idle_connection_outlives_the_pause_of_a_proxy() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = HttpServer(app, host="127.0.0.1", port=0)
    stop = asyncio.Event()
    process = asyncio.create_task(run_until_stopped([server], stop=stop))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for pause in (0, 60):
        await asyncio.sleep(pause)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
    writer.close()
    stop.set()
    await asyncio.wait_for(process, 5)


def is_refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_address_is_an_error_before_anything_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        HttpServer(no_app, host="127.0.0.1", port=taken.getsockname()[1])


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


PROGRAM = """
import asyncio, sys
from chassis import logs, shutdown

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

class Broken:
    name = "broken"
    async def run(self):
        raise RuntimeError("password=hunter2")
    async def stop(self):
        pass

async def program():
    if sys.argv[1] == "fails":
        raise RuntimeError("password=hunter2")
    server = shutdown.HttpServer(app, host="127.0.0.1", port=0)
    print(server.port, flush=True)
    await shutdown.run_until_stopped([server, Broken()] if sys.argv[1] == "breaks" else [server])

logs.configure("sample")
sys.exit(shutdown.main(program))
"""


def start(mode: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exit_status_of_a_clean_stop_is_0(number: signal.Signals) -> None:
    with start("serves") as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        eventually(lambda: answers(port))
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("mode", ["fails", "breaks"])
def test_the_exit_status_of_a_failure_is_1_and_its_log_shows_no_secret(mode: str) -> None:
    with start(mode) as process:
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "RuntimeError" in output
    assert "hunter2" not in output
    assert "Traceback" not in output


def answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/").status_code == 200
    except httpx2.TransportError:
        return False


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until


def test_uvloop_is_used_where_there_is_one() -> None:
    seen: list[str] = []

    async def program() -> None:
        seen.append(type(asyncio.get_running_loop()).__module__)

    assert shutdown.main(program) == 0
    assert seen == ["uvloop"]


async def test_head_and_body_of_an_answer_come_in_one_piece() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"answer", headers={"connection": "close"})(scope, receive, send)

    server = HttpServer(app, host="127.0.0.1", port=0)
    serving = asyncio.create_task(server.run())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    piece = await reader.read(65_536)
    assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
    assert piece.endswith(b"\r\n\r\nanswer")
    assert await reader.read() == b""
    writer.close()
    await server.stop()
    await serving


async def test_a_stream_waits_for_who_reads_slowly() -> None:
    chunk, chunks = b"x" * 10_000, 5_000
    made = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(chunks):
            made += 1
            yield chunk

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(stream())(scope, receive, send)

    server = HttpServer(app, host="127.0.0.1", port=0)
    serving = asyncio.create_task(server.run())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=65_536)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    got = len(await reader.read(1_000))
    before = -1
    while before != made:  # until it stands still
        before = made
        await asyncio.sleep(0.05)
    assert made < chunks / 2
    while piece := await reader.read(1_000_000):
        got += len(piece)
    assert made == chunks
    assert got > len(chunk) * chunks
    writer.close()
    await server.stop()
    await serving
