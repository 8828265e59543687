"""The dashboards are those that the code makes, and Prometheus understands what they ask."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboards import FOLDER, dashboards
from tests.support.chart import of_kind, rendered

DASHBOARDS = dashboards()


def panels(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARDS[name])["panels"]
    return found


def test_what_is_kept_is_what_the_code_makes() -> None:
    """`python -m deploy` makes them again."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == DASHBOARDS


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_stand_side_by_side_and_have_ids_of_their_own(name: str) -> None:
    told = panels(name)
    assert len({panel["id"] for panel in told}) == len(told)
    taken = set()
    for panel in told:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken
                taken.add((x, y))


def test_prometheus_understands_every_query(tmp_path: Path, promtool: Callable[..., None]) -> None:
    queries = {
        target["expr"]
        for name in DASHBOARDS
        for panel in panels(name)
        for target in panel.get("targets", ())
    }
    rules = [{"record": "x", "expr": query} for query in sorted(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", str(file))


def test_the_chart_brings_them() -> None:
    [found] = [
        each
        for each in of_kind(rendered("everything"), "ConfigMap")
        if each["metadata"]["name"].endswith("-dashboards")
    ]
    assert found["data"] == DASHBOARDS
