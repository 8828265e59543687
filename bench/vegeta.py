"""Sends prepared requests with vegeta, each once: a generator that neither side brings along."""

import asyncio
import base64
import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.install_load import Load

_NANOSECONDS_PER_SECOND = 1_000_000_000
_NANOSECONDS_PER_MILLISECOND = 1_000_000
# What each of its workers notes when it finds the file at its end: no request was made.
_AT_THE_END = "no targets to attack"
_ENCODED = ("timestamp", "code", "latency", "bytes_out", "bytes_in", "error")


@dataclass(frozen=True, slots=True)
class Target:
    """A POST request that waits to be sent."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


def write_targets(path: Path, targets: Iterable[Target]) -> None:
    """Write requests as vegeta reads them: one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for target in targets:
            written = {
                "method": "POST",
                "url": target.url,
                "header": {name: [value] for name, value in target.headers.items()},
                "body": base64.b64encode(target.content).decode(),
            }
            file.write(f"{json.dumps(written, separators=(',', ':'))}\n")


async def attack(vegeta: Path, targets: Path, *, connections: int) -> Load:
    """Send the requests of a file over so many connections, as fast as they are answered.

    A request that found no answer counts under status 0. Raises RuntimeError
    when vegeta fails.
    """
    results, encoded = targets.with_suffix(".results"), targets.with_suffix(".csv")
    each_once = ("-format=json", f"-targets={targets}", "-lazy", "-duration=0", "-rate=0")
    closed_loop = (
        f"-workers={connections}",
        f"-max-workers={connections}",
        f"-connections={connections}",
        f"-max-connections={connections}",
    )
    await _run(vegeta, "attack", *each_once, *closed_loop, f"-output={results}")
    await _run(vegeta, "encode", "-to=csv", f"-output={encoded}", str(results))
    return read_results(encoded)


def read_results(encoded: Path) -> Load:
    """Read what came of an attack from vegeta's CSV."""
    statuses: Counter[str] = Counter()
    milliseconds, begins, ends = [], [], []
    with encoded.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            result = dict(zip(_ENCODED, row, strict=False))
            if result["error"] == _AT_THE_END:
                continue
            at, took = int(result["timestamp"]), int(result["latency"])
            statuses[result["code"]] += 1
            milliseconds.append(took / _NANOSECONDS_PER_MILLISECOND)
            begins.append(at)
            ends.append(at + took)
    if not begins:
        raise RuntimeError("vegeta sent nothing")
    seconds = (max(ends) - min(begins)) / _NANOSECONDS_PER_SECOND
    return Load(seconds, dict(statuses), milliseconds)


async def _run(vegeta: Path, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        vegeta, *arguments, stdin=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise RuntimeError(f"vegeta {arguments[0]} ended with status {process.returncode}")
