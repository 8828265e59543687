"""What a benchmark needs of others is fetched once, or it is said what to do."""

import json
from pathlib import Path

import pytest

from bench import tools
from bench.figures import CannotMeasure


def test_a_lock_of_the_peer_pins_every_package_by_hash_and_names_no_address() -> None:
    text = (tools.ACE / "package-lock.json").read_text("utf-8")
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in each for path, each in packages.items() if path)
    assert packages["node_modules/atlassian-connect-express"]["version"].startswith("11.")


def test_without_its_program_a_benchmark_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match=r"Node\.js"):
        tools.ace()
    with pytest.raises(CannotMeasure, match="Go"):
        tools.vegeta()
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_fetched_is_fetched_again_and_what_is_there_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "FOLDER", tmp_path / "fetched")
    go = tmp_path / "go"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def let_go(script: str) -> None:
        go.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        go.chmod(0o755)

    let_go("exit 3")
    with pytest.raises(CannotMeasure, match="status 3"):
        tools.vegeta()
    let_go('touch "$GOBIN/vegeta"')
    assert tools.vegeta().is_file()
    let_go("exit 3")
    assert tools.vegeta().is_file()
