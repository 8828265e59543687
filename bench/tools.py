"""Fetches what benchmarks and checks need of others, once: the peer's packages, programs of Go."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.figures import CannotMeasure

FOLDER = Path(__file__).parent.parent / ".state" / "bench"
ACE = Path(__file__).parent / "peers" / "ace"
NODE = "Node.js 20 or later"
_VEGETA = "github.com/tsenart/vegeta/v12@v12.13.0"


def program(name: str, *, of: str) -> str:
    """Return where a program is that this machine must have; CannotMeasure without it."""
    found = shutil.which(name)
    if found is None:
        raise CannotMeasure(f"this needs {of}: put {name} on the PATH")
    return found


def ace() -> Path:
    """Return a folder with the peer's app and the packages of its lock beside it.

    Raises CannotMeasure where npm is absent or cannot install them.
    """
    files = sorted(path for path in ACE.iterdir() if path.is_file())
    version = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]

    def install(folder: Path) -> None:
        npm = program("npm", of=NODE)
        for path in files:
            shutil.copy(path, folder)
        # Scripts of packages are not run: none of those that it needs is built here.
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)

    return _once(f"ace-{version}", "atlassian-connect-express", install)


def vegeta() -> Path:
    """Return the load generator, compiled; CannotMeasure where Go is absent or cannot do it."""
    return go_program("vegeta", _VEGETA)


def go_program(name: str, module: str) -> Path:
    """Return a command of a Go module, compiled once; CannotMeasure where Go is absent or cannot."""

    def build(folder: Path) -> None:
        go = program("go", of="Go 1.22 or later")
        _run([go, "install", "-trimpath", module], folder, {"GOBIN": str(folder)})

    return _once(f"{name}-{module.rpartition('@')[2]}", name, build) / name


def _once(name: str, what: str, make: Callable[[Path], None]) -> Path:
    """Make a folder where it is not there yet; one that carries the name is complete."""
    made = FOLDER / name
    if not made.exists():
        sys.stderr.write(f"Fetching {what}, once\n")
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
            unfinished = Path(temporary) / name
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(made)
    return made


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command whose progress is seen on standard error; CannotMeasure where it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode != 0:
        name = Path(command[0]).name
        raise CannotMeasure(f"{name} ended with status {done.returncode}; is there a network?")
