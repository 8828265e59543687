"""Checkers that their makers give out as Go modules: run from the path, or built once by Go."""

import os
import shutil
import subprocess
from pathlib import PurePosixPath

import pytest

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"


def run_go_program(
    module: str, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command of a module at its version; where neither it nor Go is, the test is skipped."""
    name = PurePosixPath(module.partition("@")[0]).name
    command = [name] if shutil.which(name) else ["go", "run", module]
    if shutil.which(command[0]) is None:
        why = f"neither {name} nor Go is on this machine; `apt-get install golang` brings Go"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return subprocess.run(
        [*command, *arguments], input=given, capture_output=True, text=True, check=False
    )
