"""Shows results: a table for people, one line each for a script, everything in a file."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.figures import Result

RESULTS = Path(__file__).parent / "results"
_WITHOUT_DECIMALS = 1_000
_MEASURED_PACKAGES = ("aiokafka", "asyncpg", "fastapi", "uvicorn", "uvloop", "cryptography")


def line(result: Result) -> str:
    """Say a result in one line, as ``name ratio=0.78 goal=0.60 ok``."""
    verdict = "ok" if result.reached else "short"
    goal = result.benchmark.goal
    return f"{result.benchmark.name} ratio={result.ratio:.2f} goal={goal:.2f} {verdict}"


def table(results: Sequence[Result]) -> Table:
    """Lay results out for people: both sides, the sense of each goal, how noisy the rounds were."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("benchmark", no_wrap=True)
    shown.add_column("ours, and the peer")
    for heading in ("median", "ratio", "its rounds", "goal"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        benchmark = result.benchmark
        lowest, highest = result.lowest_and_highest
        shown.add_row(
            benchmark.name,
            f"{benchmark.ours}\n{benchmark.peer}",
            f"{_figure(result.ours)}{benchmark.unit}\n{_figure(result.peer)}{benchmark.unit}",
            f"{result.ratio:.2f}",
            f"{lowest:.2f}-{highest:.2f}",
            f"{benchmark.better.value} {benchmark.goal:.2f}",
        )
    return shown


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= _WITHOUT_DECIMALS else f"{value:.1f}"


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table and then a line for each result, which no width of a terminal breaks."""
    console.print(table(results))
    for result in results:
        console.file.write(f"{line(result)}\n")


def save(result: Result, *, measured_at: datetime, folder: Path = RESULTS) -> Path:
    """Write all of a result as ``<folder>/<name>.json``, over an earlier one; return the path."""
    benchmark = result.benchmark
    lowest, highest = result.lowest_and_highest
    written = {
        "name": benchmark.name,
        "question": benchmark.question,
        "ours": benchmark.ours,
        "peer": benchmark.peer,
        "unit": benchmark.unit,
        "ratio": result.ratio,
        "lowest_ratio": lowest,
        "highest_ratio": highest,
        "goal": benchmark.goal,
        "better": benchmark.better.name.lower(),
        "reached": result.reached,
        "measured_at": measured_at.isoformat(),
        "machine": machine(),
        "rounds": [
            {
                "ours": each.ours,
                "peer": each.peer,
                "ratio": each.ratio,
                "samples": {name: list(values) for name, values in each.samples.items()},
            }
            for each in result.rounds
        ],
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{benchmark.name}.json"
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return path


def machine() -> Mapping[str, object]:
    """Say what it was measured on: figures without it mean little. Nothing names the machine."""
    busy = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "cores": os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "load_average": list(busy) if busy else None,
        "packages": {name: version(name) for name in _MEASURED_PACKAGES},
    }
