"""The load generator says what really happened, and the peer has what the installer has."""

import asyncio
from dataclasses import fields
from pathlib import Path

import pytest

from bench.install_floor import POOL_SIZE
from bench.install_load import read_requests, send_from_process, write_requests
from chassis.service import Service

REQUESTS = [f"POST /{n} HTTP/1.1\r\ncontent-length: 0\r\n\r\n".encode() for n in range(20)]


def test_requests_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    write_requests(tmp_path / "requests", REQUESTS)
    assert list(read_requests(tmp_path / "requests")) == REQUESTS


def test_the_peers_pool_is_as_large_as_a_services() -> None:
    (size,) = [each.default for each in fields(Service) if each.name == "pool_size"]
    assert size == POOL_SIZE


async def test_each_request_is_sent_once_and_each_status_counted(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                status = b"503 No" if b"/7 " in heard[-1] else b"204 No Content"
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    write_requests(tmp_path / "requests", REQUESTS)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = await send_from_process(tmp_path / "requests", port=port, connections=4)
    assert sorted(heard) == sorted(REQUESTS)
    assert load.statuses == {"204": 19, "503": 1}
    assert len(load.milliseconds) == 20
    assert load.seconds > 0


async def test_a_connection_that_ends_early_is_no_result(tmp_path: Path) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    write_requests(tmp_path / "requests", REQUESTS)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match="load generator"):
            await send_from_process(tmp_path / "requests", port=port, connections=2)
