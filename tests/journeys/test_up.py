import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from devstack.programs import ROOT
from devstack.stack import Endpoints, known_endpoints
from tests.support.journey import without_given_servers

COMMAND = "from cli.main import main; main()"
PATIENCE_SECONDS = 60


class Up:
    """A `keepword up` that runs, with all that it has said so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._said = folder.with_suffix(".out")
        with self._said.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "up", "--state", str(folder), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**without_given_servers(), "COLUMNS": "200"},
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def endpoints(self) -> Endpoints:
        endpoints = known_endpoints(self.folder)
        assert endpoints is not None
        return endpoints

    def wait_until_ready(self) -> None:
        until(lambda: "Ready." in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    def wait_until_started(self, program: str) -> psutil.Process:
        until(lambda: any(program in each for each in map(command_of, self.descendants())))
        return next(each for each in self.descendants() if program in command_of(each))

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_SECONDS)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def living(processes: list[psutil.Process]) -> list[str]:
    """Those that do more than wait for their end to be noted."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(command_of(process))
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., Up]]:
    running: list[Up] = []

    def start(*options: str) -> Up:
        running.append(Up(folder, *options))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.wait()


def test_it_shows_where_everything_is_and_ctrl_c_stops_it_cleanly(
    started: Callable[..., Up],
) -> None:
    up = started()
    up.wait_until_ready()
    at = up.endpoints

    for page in (
        f"{at.atlassian}/",
        f"{at.mail}/",
        f"{at.installer}/readyz",
        f"{at.purger}/readyz",
    ):
        assert page in up.said
        assert httpx2.get(page).status_code == 200
    second = started()
    assert second.process.wait(PATIENCE_SECONDS) == 1
    assert "is it running already?" in second.said
    processes = up.descendants()
    assert len(living(processes)) > 6

    status = up.end(signal.SIGINT)

    assert status == 0, up.said
    assert living(processes) == []
    assert known_endpoints(up.folder) is None


def test_nothing_is_left_when_it_is_killed_and_it_starts_again_where_it_was(
    started: Callable[..., Up],
) -> None:
    first = started()
    first.wait_until_ready()
    endpoints, processes = first.endpoints, first.descendants()
    assert any("java" in command for command in living(processes))
    assert any("services.purger" in command for command in living(processes))

    first.end(signal.SIGKILL)

    until(lambda: living(processes) == [])
    again = started()
    again.wait_until_ready()
    assert again.endpoints == endpoints
    assert again.end(signal.SIGTERM) == 0


def test_when_a_service_dies_it_says_so_and_stops_the_rest(started: Callable[..., Up]) -> None:
    up = started()
    up.wait_until_ready()
    processes = up.descendants()

    up.wait_until_started("services.config").kill()

    assert up.process.wait(PATIENCE_SECONDS) == 1
    assert "config ended by itself with status -9" in up.said
    assert "doors open" in up.said
    assert "logs/config.log" in up.said
    assert living(processes) == []


@pytest.mark.long
def test_ctrl_c_while_it_starts_leaves_nothing_behind(started: Callable[..., Up]) -> None:
    up = started()
    up.wait_until_started("services.")
    processes = up.descendants()

    status = up.end(signal.SIGINT)

    assert status == 0, up.said
    assert living(processes) == []


@pytest.mark.long
def test_reset_forgets_what_was_and_nothing_that_is_not_its_own(
    started: Callable[..., Up], folder: Path
) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")

    refused = started("--reset")

    assert refused.process.wait(PATIENCE_SECONDS) == 1
    assert "not emptied" in refused.said
    assert (folder / "thesis.txt").exists()
    (folder / "stack.lock").touch()
    reset = started("--reset")
    until((folder / "keys").exists)
    assert not (folder / "thesis.txt").exists()
    assert reset.end(signal.SIGINT) == 0


def test_a_half_given_database_is_refused_with_advice(
    started: Callable[..., Up], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = {**os.environ, "KEEPWORD_PURGER_DATABASE_URL": "postgresql://x:hidden@h/p"}

    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "up", "--state", str(tmp_path / "other")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )

    assert done.returncode == 1
    assert "KEEPWORD_PURGER_OWNER_DATABASE_URL" in done.stdout
    assert "Set all five" in done.stdout
    assert "hidden" not in done.stdout
