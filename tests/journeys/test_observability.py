"""What alerts and dashboards ask for is there, and what their pages tell a person to type works."""

import re

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from contracts.topics import SERVICES
from deploy.dashboards import dashboards
from devstack.programs import ROOT
from devstack.stack import LocalStack, known_environment
from tests.support.journey import Travellers, entrust
from tests.support.runbooks import run

ALERTS = ROOT / "deploy/chart/files/alerts.yaml"
PAGES = ROOT / "docs/runbooks/alerts"
NAME = re.compile(r"keepword_[a-z_]+")


@pytest.fixture
async def exported(stack: LocalStack) -> set[str]:
    """The names of all figures that the running services show."""
    found: set[str] = set()
    async with httpx2.AsyncClient() as http:
        for service in SERVICES:
            text = (await http.get(f"{stack.endpoints.of(service)}/metrics")).text
            for family in text_string_to_metric_families(text):
                found |= {family.name} | {sample.name for sample in family.samples}
                # A histogram or a counter with labels has no sample before its first event.
                if family.type == "counter":
                    found.add(f"{family.name}_total")
                if family.type == "histogram":
                    found.add(f"{family.name}_bucket")
    return found


async def test_every_figure_that_is_asked_for_is_exported(exported: set[str]) -> None:
    rules = yaml.safe_load(ALERTS.read_text())
    asked = {
        rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]
    } | dashboards()
    missing = {
        where: names
        for where, text in asked.items()
        if (names := set(NAME.findall(text)) - exported)
    }
    assert missing == {}


async def test_what_the_pages_of_alerts_say_to_type_works(
    stack: LocalStack, customer: Travellers
) -> None:
    await entrust(customer("typed"))
    environment = known_environment(stack.folder)
    assert environment is not None
    blocks = [
        re.findall(r"^```sh look\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        for page in sorted(PAGES.iterdir())
    ]
    commands = sorted({line for found in blocks for text in found for line in text.splitlines()})
    assert commands
    # Findings are an answer too: of a doctor on a laptop, or of topics that differ.
    said = await run(
        "".join(
            f"{{ {each}; }} || [ $? = 3 ] || [ '{each}' = 'keepword doctor' ]\n"
            for each in commands
        ),
        {"COLUMNS": "200", **environment},
    )
    assert "Traceback" not in said
