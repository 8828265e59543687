"""Renders the chart, as Helm would for a cluster that it never asks."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "chart"
VALUES: Mapping[str, tuple[str, ...]] = {
    "dev": ("ci/dev.yaml",),
    "prod": ("ci/prod.yaml",),
    "everything": ("ci/prod.yaml", "ci/everything.yaml"),
}
"""The three ways in which the chart is looked at."""

Manifest = dict[str, Any]


def tool(name: str) -> str:
    """Find a program that came as a wheel."""
    return str(Path(sys.executable).with_name(name))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm and give back what became of it."""
    return subprocess.run(
        [tool("helm"), *arguments], cwd=CHART, capture_output=True, text=True, check=False
    )


def template(
    way: str,
    *,
    release: str = "keepword",
    sets: tuple[str, ...] = (),
    namespace: str = "apps",
) -> str:
    """Render the chart as text."""
    chosen = [part for file in VALUES[way] for part in ("--values", file)]
    given = [part for each in sets for part in ("--set", each)]
    done = helm("template", release, ".", "--namespace", namespace, *chosen, *given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(way: str, *, release: str = "keepword", sets: tuple[str, ...] = ()) -> list[Manifest]:
    """Render the chart as objects; nobody may change them."""
    documents = yaml.safe_load_all(template(way, release=release, sets=sets))
    return [each for each in documents if each is not None]


def refusal(way: str, *sets: str) -> str:
    """Say what Helm says to values that it must not take."""
    chosen = [part for file in VALUES[way] for part in ("--values", file)]
    given = [part for each in sets for part in ("--set-json", each)]
    done = helm("template", "keepword", ".", *chosen, *given)
    assert done.returncode != 0, f"{sets} was taken"
    return done.stderr


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """List the objects of these kinds."""
    return [each for each in manifests if each["kind"] in kinds]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """List every pod that would come of them: its owner's kind and name, and metadata with spec."""
    for each in manifests:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each
        elif each["kind"] in {"Deployment", "Job"}:
            yield name, each["spec"]["template"]


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a selector of labels means what carries these."""
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())
