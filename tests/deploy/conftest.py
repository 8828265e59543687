"""What tests of the deployment ask for."""

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def promtool() -> Callable[..., None]:
    """Prometheus' own tool; what it complains of fails the test."""
    program = shutil.which("promtool")
    if program is None:
        why = "there is no promtool on this machine; `apt-get install prometheus` brings it"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)

    def run(*arguments: str) -> None:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run
