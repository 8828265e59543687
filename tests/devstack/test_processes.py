import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from devstack import kafka, postgres, processes
from devstack.kafka import RunningKafka, start_kafka
from devstack.postgres import RunningPostgres, start_postgres
from devstack.processes import LOOPBACK, FolderInUseError, StartFailedError, free_port

STARTERS = """
import json, signal, sys
from pathlib import Path
from devstack.kafka import start_kafka
from devstack.postgres import start_postgres

folder = Path(sys.argv[1])
started = {"postgres": start_postgres(folder / "postgres").port}
if "kafka" in sys.argv[2:]:
    started["kafka"] = start_kafka(folder / "kafka").bootstrap_servers
print(json.dumps(started), flush=True)
signal.pause()
"""


def start_in_another_process(folder: Path, *also: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTERS, str(folder), *also], stdout=subprocess.PIPE, text=True
    )


def what_started(parent: subprocess.Popen[str]) -> dict[str, object]:
    assert parent.stdout is not None
    started: dict[str, object] = json.loads(parent.stdout.readline())
    return started


def end(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.communicate()


def living(folder: Path) -> list[psutil.Process]:
    """Processes that work on the folder and whose end nobody only has to note."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(folder) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent = start_in_another_process(tmp_path, "kafka")
    what_started(parent)
    names = {process.name() for process in living(tmp_path)}
    assert {"java", "postgres"} <= names

    end(parent)

    until(lambda: not living(tmp_path))


def test_a_folder_can_be_used_at_once_after_its_user_was_killed(tmp_path: Path) -> None:
    parent = start_in_another_process(tmp_path)
    what_started(parent)

    end(parent)
    again = start_postgres(tmp_path / "postgres")

    assert again.alive
    again.stop()


@pytest.mark.long
def test_two_stacks_started_at_once_do_not_collide(tmp_path: Path) -> None:
    parents = [start_in_another_process(tmp_path / name, "kafka") for name in ("one", "two")]
    try:
        one, two = (what_started(parent) for parent in parents)
    finally:
        for parent in parents:
            end(parent)

    assert one["postgres"] != two["postgres"]
    assert one["kafka"] != two["kafka"]


def test_a_folder_that_is_in_use_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start_postgres(tmp_path)
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)

    with pytest.raises(FolderInUseError, match="running already"):
        start_postgres(tmp_path)

    assert first.alive
    first.stop()


@pytest.mark.parametrize("server", ["postgres", "kafka"])
def test_a_port_that_was_taken_meanwhile_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    module = {"postgres": postgres, "kafka": kafka}[server]
    start: Callable[[Path], RunningKafka | RunningPostgres] = (
        start_postgres if server == "postgres" else start_kafka
    )
    with socket.create_server((LOOPBACK, 0)) as taken:
        ports = iter([taken.getsockname()[1]])
        monkeypatch.setattr(module, "free_port", lambda: next(ports, None) or free_port())
        running = start(tmp_path)

    assert running.alive
    running.stop()


def test_a_start_that_never_gets_ready_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.1)

    with pytest.raises(StartFailedError, match="was not ready"):
        start_kafka(tmp_path)

    until(lambda: not living(tmp_path))


def test_a_free_port_is_none_that_the_system_gives_to_clients() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert all(1024 < free_port() < first for _ in range(100))
