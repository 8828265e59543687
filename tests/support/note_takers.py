"""Helm and kubectl without a cluster: they take note of what they are asked, and do what needs none."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import tool

# Helm renders where it would install; kubectl makes what it would not send.
_PROGRAM = """#!{python}
import json, os, sys
told = sys.argv[1:]
given = sys.stdin.read() if "--filename=-" in told else ""
with open({notes!r}, "a") as notes:
    notes.write(json.dumps({{"tool": {name!r}, "told": told, "given": given}}) + "\\n")
if {name!r} == "helm" and told[0] in ("upgrade", "template"):
    kept = [each for each in told if each not in ("--install", "--wait")]
    if "--timeout" in kept:
        at = kept.index("--timeout")
        del kept[at:at + 2]
    os.execv({real!r}, ["helm", "template", *kept[1:]])
if "--dry-run=client" in told:
    os.execv({real!r}, [{name!r}, *told])
"""


def note_takers(folder: Path) -> Path:
    """Make both programs, and return the folder that they are found in."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    known = {"helm": tool("helm"), "kubectl": shutil.which("kubectl") or "kubectl"}
    for name, real in known.items():
        program = tools / name
        notes = str(folder / "notes")
        program.write_text(
            _PROGRAM.format(python=sys.executable, notes=notes, name=name, real=real)
        )
        program.chmod(0o755)
    return tools


def noted(folder: Path) -> list[dict[str, Any]]:
    """What both were asked, in order: the tool, its arguments, and what it was given to read."""
    return [json.loads(line) for line in (folder / "notes").read_text("utf-8").splitlines()]


def real(name: str) -> str:
    """Find the program itself; a machine without it skips the test."""
    if name == "helm":
        return tool("helm")
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} on this machine")
    return found
