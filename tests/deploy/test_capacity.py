"""What the page on capacity counts with is what the code does."""

import re
from datetime import timedelta
from pathlib import Path

import yaml

from bench.__main__ import BENCHMARKS
from chassis.metrics import NAMESPACE
from contracts.topics import INSTALLER_TENANTS, PURGER_COMMANDS, PURGER_LEDGER
from services.installer.settings import InstallerSettings
from services.notifier.settings import NotifierSettings
from tests.chassis.test_metrics import EXPECTED
from tests.support.chart import CHART

PAGE = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text("utf-8")


def test_the_settings_it_counts_with_are_those_of_the_code() -> None:
    sites = InstallerSettings.model_fields["sites_per_second"].default
    assert f"{sites:.0f} a second and replica, by setting" in PAGE
    # Ten million sites in hours, by one replica.
    assert f"{10_000_000 / sites / 3600:.0f} h |" in PAGE
    mails = NotifierSettings.model_fields["mail_domain_per_second"].default
    assert f"{mails:.0f} a second, by setting" in PAGE
    assert f"{10_000_000 / 3 / mails / 3600:.0f} h |" in PAGE


def test_the_topics_it_counts_with_are_those_of_the_contracts() -> None:
    assert INSTALLER_TENANTS.partitions == PURGER_COMMANDS.partitions == 6
    assert "**Partitions are six**" in PAGE
    kept = timedelta(milliseconds=int(PURGER_LEDGER.config["retention.ms"]))
    assert f"entries of the ledger, kept for {kept.days} days" in PAGE


def test_the_replicas_that_it_calls_the_default_are_the_charts() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert values["installer"]["replicas"] == 2
    assert "2 replicas, the default" in PAGE


def test_the_benchmarks_and_figures_that_it_names_are_there() -> None:
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+|mail|sweep|replay|schedules|neighbours)`", PAGE))
    known = set(BENCHMARKS) | {also.name for each in BENCHMARKS.values() for also in each.also}
    assert named - known <= {"tenant-installed"}
    figures = set(re.findall(rf"`({NAMESPACE}_[a-z_]+)`", PAGE))
    assert figures
    assert {each.removeprefix(f"{NAMESPACE}_") for each in figures} <= set(EXPECTED)
