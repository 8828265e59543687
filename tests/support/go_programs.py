"""Checkers that their makers give out as Go modules: run from the path, or built once by Go."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from devstack.jars import user_cache

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"


def run_go_program(
    module: str, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command of a module; where it can neither be found nor built, the test is skipped."""
    return subprocess.run(
        [_program(module), *arguments], input=given, capture_output=True, text=True, check=False
    )


@cache
def _program(module: str) -> str:
    name, _, version = PurePosixPath(module).name.partition("@")
    if found := shutil.which(name):
        return found
    folder = user_cache().parent / "go-programs" / version
    built = folder / name
    if not built.exists():
        _build(module, folder)
    return str(built)


def _build(module: str, folder: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip(f"nothing builds {module} here; `apt-get install golang` brings Go")
    done = subprocess.run(
        ["go", "install", module],
        env={**os.environ, "GOBIN": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"{module} could not be built: {done.stderr.strip().splitlines()[-1]}")
