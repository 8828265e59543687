"""Checkers that their makers give out as Go modules: run from the path, or built once by Go."""

import shutil
import subprocess
from pathlib import PurePosixPath

import pytest

from bench.figures import CannotMeasure
from bench.tools import go_program

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"


def run_go_program(
    module: str, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command of a module; where it can neither be found nor built, the test is skipped."""
    name = PurePosixPath(module.partition("@")[0]).name
    try:
        program = shutil.which(name) or go_program(name, module)
    except CannotMeasure as why:
        pytest.skip(f"{name} is not here: {why}")
    return subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=False
    )
