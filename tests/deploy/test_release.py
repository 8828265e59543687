"""A release is one version everywhere, and its workflow says what it does."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.go_programs import ACTIONLINT, run_go_program

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yaml"


def test_package_and_chart_have_one_version() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    chart = yaml.safe_load((ROOT / "deploy" / "chart" / "Chart.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == package


def test_the_chart_has_the_lines_that_the_workflow_fills_in() -> None:
    values = (ROOT / "deploy" / "chart" / "values.yaml").read_text("utf-8").splitlines()
    assert values.count('  repository: ""') == 1
    assert values.count('  digest: ""') == 1


def test_no_step_has_more_rights_than_it_needs_or_text_of_others_in_a_script() -> None:
    told: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    assert told["permissions"] == {"contents": "read"}
    for name, job in told["jobs"].items():
        rights = job.get("permissions", {})
        assert (rights.get("contents") == "write") == (name == "release")
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.timeout(400)  # It is built once.
def test_the_workflow_is_one_that_can_run() -> None:
    done = run_go_program(ACTIONLINT, str(WORKFLOW))
    assert done.returncode == 0, done.stdout + done.stderr
