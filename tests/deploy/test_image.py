"""The image's recipe is sound, and what it carries runs without what only a laptop has."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.chart import tool

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
LAPTOP_ONLY = frozenset({"cli.demo", "cli.up"})

# Imports everything that the image runs, where the modules named on the command line are not there.
IMPORT_ALL = """
import importlib, pkgutil, sys
missing, left_out = (set(each.split(",")) for each in sys.argv[1:3])
class NotInTheImage:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
sys.meta_path.insert(0, NotInTheImage())
import cli, services
for package in (cli, services):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__") and ".migrations" not in found.name:
            if found.name not in left_out:
                importlib.import_module(found.name)
print("all")
"""


@pytest.mark.parametrize("recipe", sorted(IMAGE.glob("*Containerfile")), ids=lambda path: path.name)
def test_a_recipe_is_without_fault(recipe: Path) -> None:
    done = subprocess.run([tool("hadolint"), recipe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_services_and_commands_run_on_the_locked_dependencies_alone() -> None:
    ours = {"bench", "chassis", "cli", "connect", "contracts", "deploy", "devstack", "services"}
    locked = {
        _normal(line.split("==")[0])
        for line in (ROOT / "requirements" / "main.txt").read_text("utf-8").splitlines()
        if re.match(r"[A-Za-z]", line)
    }
    missing = {
        module
        for module, distributions in packages_distributions().items()
        if module not in ours and not {_normal(each) for each in distributions} & locked
    }
    assert {"jgo", "pytest", "psutil"} <= missing
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(missing), ",".join(LAPTOP_ONLY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "all\n", done.stderr


def test_the_image_carries_every_package_of_ours_that_it_runs() -> None:
    recipe = (IMAGE / "Containerfile").read_text("utf-8")
    ignored = (ROOT / ".containerignore").read_text("utf-8").splitlines()
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = set(told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) - {"bench"}
    for package in packages:
        assert f"COPY {package} {package}" in recipe
        assert f"!{package}" in ignored


def test_it_runs_as_nobody_in_particular() -> None:
    lines = (IMAGE / "Containerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
