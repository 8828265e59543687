"""Runs a server that is to be measured: a process of its own, ended with the measurement."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

READY_WITHIN_SECONDS = 60


@asynccontextmanager
async def serving(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    ready_url: str,
    folder: Path | None = None,
) -> AsyncIterator[None]:
    """Run a server in ``folder``, from its first 200 at ``ready_url`` on.

    Raises RuntimeError with the end of its log when it does not come up within a minute.
    """
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=os.environ | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        if not await _answers(process, ready_url):
            raise RuntimeError(f"{log.stem} does not open its doors\n{_end_of(log)}")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")[-2_000:]


async def _answers(process: asyncio.subprocess.Process, url: str) -> bool:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    async with httpx2.AsyncClient() as http:
        while process.returncode is None and time.monotonic() < deadline:
            try:
                answer = await http.get(url)
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code == httpx2.codes.OK:
                return True
            await asyncio.sleep(0.1)
    return False
