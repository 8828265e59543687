"""What a benchmark prints and writes."""

import io
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from bench.__main__ import BENCHMARKS, main
from bench.figures import Benchmark, Better, CannotMeasure, Result, Round
from bench.report import line, save, show
from bench.stack import Stack


async def nothing(_: Stack) -> list[Round]:
    raise AssertionError


def a_result(*, ours: float, goal: float, better: Better = Better.HIGHER) -> Result:
    benchmark = Benchmark(
        name="relay-speed",
        question="How fast?",
        ours="with all of it",
        peer="bare",
        unit="/s",
        goal=goal,
        better=better,
        measure=nothing,
    )
    return Result(benchmark, [Round(ours, 100.0, {"each_ms": [1.0, 2.5]})])


def test_a_result_is_one_line() -> None:
    assert line(a_result(ours=78, goal=0.6)) == "relay-speed ratio=0.78 goal=0.60 ok"
    assert line(a_result(ours=51.7, goal=0.6)) == "relay-speed ratio=0.52 goal=0.60 short"
    late = a_result(ours=310, goal=3, better=Better.LOWER)
    assert line(late) == "relay-speed ratio=3.10 goal=3.00 short"


def test_the_table_says_both_sides_and_the_sense_of_the_goal_and_lines_stay_whole() -> None:
    file = io.StringIO()
    results = [
        a_result(ours=78, goal=0.6),
        a_result(ours=310, goal=3, better=Better.LOWER),
    ]
    show(results, Console(file=file, width=80))
    shown = file.getvalue()
    for expected in ("with all of it", "bare", "78.0/s", "100.0/s", "≥ 0.60"):
        assert expected in shown
    assert "≤ 3.00" in shown
    assert shown.splitlines()[-2:] == [line(result) for result in results]


def test_all_samples_and_the_machine_are_written_but_not_its_name(tmp_path: Path) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    path = save(a_result(ours=78, goal=0.6), measured_at=at, folder=tmp_path)
    assert path == tmp_path / "relay-speed.json"
    text = path.read_text("utf-8")
    written = json.loads(text)
    assert written["rounds"] == [
        {"ours": 78, "peer": 100.0, "ratio": 0.78, "samples": {"each_ms": [1.0, 2.5]}}
    ]
    assert (written["ratio"], written["goal"], written["better"]) == (0.78, 0.6, "higher")
    assert written["machine"].keys() >= {"cores", "python", "packages"}
    assert socket.gethostname() not in text


def test_a_benchmark_that_lacks_something_says_what_to_do_and_the_others_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(benchmark: Benchmark) -> list[Result]:
        if benchmark.name == "installs-vs-ace":
            raise CannotMeasure("put node on the PATH")
        return [a_result(ours=78, goal=0.6)]

    monkeypatch.setattr("bench.__main__._run", run)
    # It would be the whole test run's from here on.
    monkeypatch.setattr("bench.__main__.logs.configure", lambda *_: None)
    assert main([]) == 1
    said = capsys.readouterr()
    assert "installs-vs-ace: not measured: put node on the PATH" in said.err
    assert said.out.count("relay-speed ratio=0.78 goal=0.60 ok") >= len(BENCHMARKS) - 1


def test_an_unknown_name_is_refused_with_the_names_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["relay-everything"]) == 2
    said = capsys.readouterr().err
    assert "relay-everything" in said
    assert list(BENCHMARKS) == [
        "relay-latency",
        "relay-throughput",
        "install-floor",
        "installs-vs-ace",
        "sweep",
        "schedules",
        "due-backlog",
        "mail",
        "mail-memory",
        "canary",
        "campaign-plan",
        "news-plan",
        "lookup",
        "erase-tenant",
        "neighbours",
        "tenant-size",
    ]
    for name in BENCHMARKS:
        assert name in said
